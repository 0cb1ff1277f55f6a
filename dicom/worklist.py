"""Modality Worklist (PS3.4 K): the order of an accession, asked by C-FIND."""

from __future__ import annotations

import logging

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.sop_class import ModalityWorklistInformationFind

from dicom.association import PacsAddress, associate
from dicom.errors import ObjectError
from dicom.pacs import PENDING, check_answer
from dicom.study import CHARACTER_SET, StudyFacts, study_of
from dicom.uids import deterministic_uid

log = logging.getLogger(__name__)

WORKLIST = UID(str(ModalityWorklistInformationFind))
RETURNED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("ReferringPhysicianName", "StudyInstanceUID", "RequestedProcedureID"),
)
"""Return keys (PS3.4 Table K.6-1)."""


def find_orders(address: PacsAddress, accession: str) -> list[StudyFacts]:
    """What the worklist's orders of an accession say of its study, each once.

    Where an order names no study, its UID is made of accession and patient.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    found: list[StudyFacts] = []
    with associate(address, [(str(WORKLIST), None)]) as association:
        for status, item in association.send_c_find(_query(accession), WORKLIST):
            if not status or status.Status not in PENDING:
                check_answer(address, status)
            elif item is not None:
                order = _order(item, accession)
                if order is not None and order not in found:
                    found.append(order)
    return found


def _query(accession: str) -> Dataset:
    query = Dataset()
    query.SpecificCharacterSet = CHARACTER_SET
    query.AccessionNumber = accession
    for keyword in RETURNED:
        setattr(query, keyword, None)
    step = Dataset()
    step.Modality = None
    query.ScheduledProcedureStepSequence = [step]
    return query


def _order(item: Dataset, accession: str) -> StudyFacts | None:
    """None where a server does not match accessions, and answers with another's order."""
    item.decode()
    if str(item.get("AccessionNumber", "")).strip() != accession:
        return None
    if not item.get("StudyInstanceUID"):
        patient = str(item.get("PatientID", ""))
        item.StudyInstanceUID = deterministic_uid("study", accession, patient)
    try:
        return study_of(item)
    except ObjectError as err:
        log.warning("an order of the worklist is not used: %s", err)
        return None
