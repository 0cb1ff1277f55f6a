"""Modality Worklist (PS3.4 K): orders of an accession by C-FIND."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.sr.coding import Code
from pydicom.uid import UID
from pynetdicom.sop_class import ModalityWorklistInformationFind

from dicom.association import PacsAddress, associate
from dicom.characters import CHARACTER_SET, UNREADABLE, in_unicode
from dicom.errors import ObjectError
from dicom.legal import SEXES
from dicom.order import (
    Order,
    OrderedSpecimen,
    block_in,
    blocks_of,
    designator,
    fitting,
    fitting_name,
    plain,
)
from dicom.pacs import PENDING, check_answer
from dicom.request import OrderedRequest
from dicom.status import Service
from dicom.study import LO_LENGTH, SH_LENGTH, day_of
from dicom.uids import is_uid

log = logging.getLogger(__name__)

WORKLIST = UID(str(ModalityWorklistInformationFind))
RETURNED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("ReferringPhysicianName", "StudyInstanceUID", "RequestedProcedureID"),
    *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence"),
    *("IssuerOfAccessionNumberSequence", "RequestedProcedureDescription"),
    *("RequestedProcedureCodeSequence", "PlacerOrderNumberImagingServiceRequest"),
    *("FillerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence"),
    "OrderFillerIdentifierSequence",
)
"""Return keys (PS3.4 Table K.6-1)."""
RETURNED_OF_STEP = (
    *("Modality", "ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence"),
    "ScheduledSpecimenSequence",
)
"""Return keys of the Scheduled Procedure Step Sequence."""


def find_orders(address: PacsAddress, accession: str) -> list[Order | None]:
    """Return each order of an accession once; None for an order that is unreadable or unusable
    and may belong to anybody.

    A Study Instance UID that is no UID is left out.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    found: list[Order | None] = []
    # Content of an order is judged here; a library that raises on it would end the case.
    with (
        disable_value_validation(),
        associate(address, [(str(WORKLIST), None)]) as association,
    ):
        for status, item in association.send_c_find(_query(accession), WORKLIST):
            if not status or status.Status not in PENDING:
                check_answer(address, status, Service.FIND)
            else:
                found += [order for order in _orders(item, accession) if order not in found]
    return found


def _orders(item: Dataset | None, accession: str) -> tuple[Order | None, ...]:
    """Return the order of an item: none of another accession, None for one that is unreadable."""
    try:
        if item is not None and _accession(item).casefold() != accession.casefold():
            return ()
        return (None if item is None else _order(item, accession),)
    except UNREADABLE as err:  # its elements are parsed when they are asked for
        log.warning("an order of the worklist cannot be read: %s", type(err).__name__)
        return (None,)


def _query(accession: str) -> Dataset:
    query = Dataset()
    query.SpecificCharacterSet = CHARACTER_SET
    query.AccessionNumber = accession
    for keyword in RETURNED:
        setattr(query, keyword, None)
    step = Dataset()
    for keyword in RETURNED_OF_STEP:
        setattr(step, keyword, None)
    query.ScheduledProcedureStepSequence = [step]
    return query


def _accession(item: Dataset) -> str:
    """Accession of an item, for a check: some servers ignore the key and return others' orders."""
    in_unicode(item)
    return str(item.get("AccessionNumber", "")).strip()


def _order(item: Dataset, accession: str) -> Order | None:
    uid, sex = _text(item, "StudyInstanceUID"), _text(item, "PatientSex")
    try:
        if not (_text(item, "PatientID") or _text(item, "PatientName")):
            raise ObjectError("it names no patient")
        specimens = tuple(dict.fromkeys(_specimens(item, accession)))
        return Order(
            uid=uid if is_uid(uid) else "",
            study_id=fitting(_text(item, "RequestedProcedureID"), SH_LENGTH),
            referring_physician=fitting_name(_text(item, "ReferringPhysicianName")),
            patient_id=_text(item, "PatientID"),
            issuer=_patient_issuer(item),
            patient_name=_text(item, "PatientName"),
            patient_birth_date=day_of(_text(item, "PatientBirthDate")),
            patient_sex=sex if sex in SEXES else "",
            other_ids=tuple(_other_ids(item)),
            accession_issuer=_entity_issuer(item, "IssuerOfAccessionNumberSequence"),
            specimens=specimens,
            asked=tuple(dict.fromkeys(text for text in _asked(item) if text)),
            requests=tuple(_request(item, specimens)),
        )
    except ObjectError as err:
        log.warning("an order of the worklist is not used: %s", err)
        return None


def _text(item: Dataset, keyword: str) -> str:
    value: Any = item.get(keyword)
    return "" if value is None else plain(str(value))


def _items(item: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; none where it is absent, or no sequence."""
    found: Any = item.get(keyword) or []
    return [each for each in found if isinstance(each, Dataset)]


def _other_ids(item: Dataset) -> Iterator[str]:
    for other in _items(item, "OtherPatientIDsSequence"):
        number, issuer = _text(other, "PatientID"), _patient_issuer(other)
        if number:
            yield f"{number}^^^{issuer}" if issuer else number


def _patient_issuer(item: Dataset) -> str:
    qualifiers = _items(item, "IssuerOfPatientIDQualifiersSequence")
    return _designator(_text(item, "IssuerOfPatientID"), qualifiers)


def _designator(namespace: str, items: list[Dataset]) -> str:
    universal = _text(items[0], "UniversalEntityID") if items else ""
    kind = _text(items[0], "UniversalEntityIDType") if universal else ""
    return designator(namespace, universal, kind)


def _entity_issuer(item: Dataset, keyword: str) -> str:
    """Issuer in a sequence of the HL7v2 Hierarchic Designator Macro."""
    items = _items(item, keyword)
    return _designator(_text(items[0], "LocalNamespaceEntityID") if items else "", items)


def _request(item: Dataset, specimens: Iterable[OrderedSpecimen]) -> Iterator[OrderedRequest]:
    """Request of an order; none where it has no number."""
    request = OrderedRequest(
        placer=fitting(_text(item, "PlacerOrderNumberImagingServiceRequest"), LO_LENGTH),
        placer_issuer=_entity_issuer(item, "OrderPlacerIdentifierSequence"),
        filler=fitting(_text(item, "FillerOrderNumberImagingServiceRequest"), LO_LENGTH),
        filler_issuer=_entity_issuer(item, "OrderFillerIdentifierSequence"),
        procedure_id=fitting(_text(item, "RequestedProcedureID"), SH_LENGTH),
        procedure=fitting(_text(item, "RequestedProcedureDescription"), LO_LENGTH),
        procedure_codes=_procedure_codes(item),
        blocks=blocks_of(specimens),
        asked=tuple(dict.fromkeys(text for text in _asked(item) if text)),
    )
    if request.names_order:
        yield request


def _procedure_codes(item: Dataset) -> tuple[Code, ...]:
    """Code of the requested procedure; none where a part that must be there is empty or too long.

    A requested procedure has one code (PS3.3 Table 10-9); where a server sends several, none says
    which of them the report answers.
    """
    found = []
    for each in _items(item, "RequestedProcedureCodeSequence"):
        code = Code(
            fitting(_text(each, "CodeValue"), SH_LENGTH),
            fitting(_text(each, "CodingSchemeDesignator"), SH_LENGTH),
            fitting(_text(each, "CodeMeaning"), LO_LENGTH),
            fitting(_text(each, "CodingSchemeVersion"), SH_LENGTH) or None,
        )
        if all(code[:3]):
            found.append(code)
    return tuple(found) if len(found) == 1 else ()


def _scheduled(item: Dataset) -> list[Dataset]:
    """Specimens of the scheduled steps, and of the order itself, where some servers put them."""
    steps = _items(item, "ScheduledProcedureStepSequence")
    return [
        specimen
        for each in (item, *steps)
        for specimen in _items(each, "ScheduledSpecimenSequence")
    ]


def _specimens(item: Dataset, accession: str) -> Iterator[OrderedSpecimen]:
    for scheduled in _scheduled(item):
        container = fitting(_text(scheduled, "ContainerIdentifier"), LO_LENGTH)
        for described in _items(scheduled, "SpecimenDescriptionSequence") or [Dataset()]:
            specimen = fitting(_text(described, "SpecimenIdentifier"), LO_LENGTH)
            stains = [text for text in _preparation(described) if text]
            yield OrderedSpecimen(
                container_id=container,
                specimen_id=specimen,
                block=block_in(specimen, accession) or block_in(container, accession),
                stain=" ".join(dict.fromkeys(stains)),
            )


def _asked(item: Dataset) -> Iterator[str]:
    """Texts and codes of the procedure, its steps and the preparation of its specimens."""
    yield _text(item, "RequestedProcedureDescription")
    yield from _codes(item, "RequestedProcedureCodeSequence")
    for step in _items(item, "ScheduledProcedureStepSequence"):
        yield _text(step, "ScheduledProcedureStepDescription")
        yield from _codes(step, "ScheduledProtocolCodeSequence")
    for scheduled in _scheduled(item):
        for described in _items(scheduled, "SpecimenDescriptionSequence"):
            yield from _preparation(described)


def _codes(item: Dataset, keyword: str) -> Iterator[str]:
    for code in _items(item, keyword):
        yield _text(code, "CodeMeaning") or _text(code, "CodeValue")


def _preparation(described: Dataset) -> Iterator[str]:
    """Substances that a specimen is stained with (PS3.3 C.7.6.22.1.2, TID 8003)."""
    for step in _items(described, "SpecimenPreparationSequence"):
        for content in _items(step, "SpecimenPreparationStepContentItemSequence"):
            names = list(_codes(content, "ConceptNameCodeSequence"))
            if any("substance" in name.casefold() for name in names):
                yield from _codes(content, "ConceptCodeSequence")
                yield _text(content, "TextValue")
