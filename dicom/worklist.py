"""Modality Worklist (PS3.4 K): orders of an accession by C-FIND."""

from __future__ import annotations

import logging

from pydicom import Dataset
from pydicom.config import disable_value_validation
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
    *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence"),
    "IssuerOfAccessionNumberSequence",
)
"""Return keys (PS3.4 Table K.6-1)."""


def find_orders(address: PacsAddress, accession: str, salt: str = "") -> list[StudyFacts | None]:
    """Return the study of each order of an accession, each once; None for an order that is
    unreadable or unusable and may belong to anybody.

    An order without a valid study UID gets one made of the installation's salt, accession and
    patient.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    found: list[StudyFacts | None] = []
    # Content of an order is judged here; a library that raises on it would end the case.
    with (
        disable_value_validation(),
        associate(address, [(str(WORKLIST), None)]) as association,
    ):
        for status, item in association.send_c_find(_query(accession), WORKLIST):
            if not status or status.Status not in PENDING:
                check_answer(address, status)
            elif item is None or _accession(item) == accession:
                order = None if item is None else _order(item, accession, salt)
                if order not in found:
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


def _accession(item: Dataset) -> str:
    """Accession of an item, for a check: some servers ignore the key and return others' orders."""
    item.decode()
    return str(item.get("AccessionNumber", "")).strip()


def _order(item: Dataset, accession: str, salt: str) -> StudyFacts | None:
    if not UID(str(item.get("StudyInstanceUID", ""))).is_valid:
        patient = str(item.get("PatientID", ""))
        item.StudyInstanceUID = deterministic_uid("study", salt, accession, patient)
    try:
        return study_of(item)
    except ObjectError as err:
        log.warning("an order of the worklist is not used: %s", err)
        return None
