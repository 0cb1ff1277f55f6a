"""Result in a structured report: what other systems than a PACS need of it.

It reads the reports of `dicom.report` (TID 1500): the items of the first measurement group, which
is that of the whole slide, and whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from pydicom.valuerep import DA, TM

from dicom import codes
from dicom.characters import UNREADABLE
from dicom.errors import ObjectError
from dicom.order import designator
from dicom.study import patient_of
from dicom.times import is_zone, offset_of

GROUP = "125007"
"""Measurement Group (DCM)."""
TRACKING = "112039"
"""Tracking Identifier (DCM)."""
_NO_RESULT = frozenset(
    {TRACKING, "112040", "121071", codes.ACCESSION.value, codes.PARENT_SPECIMEN_ID.value}
)
"""Tracking Identifier, Tracking Unique Identifier, Finding, Accession Number, Parent Specimen
Identifier (DCM)."""
PROCEDURE = "121058"
"""Procedure reported (DCM): the name of the score."""
PERSON, ROLE = "121008", "121011"
"""Person Observer Name, Person Observer's Role in this Procedure (DCM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a result: its name, and a number with unit, a code, or a text."""

    name: Code
    value: float | Code | str
    unit: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of a case.

    `patient_name` is a person name of DICOM; all components and dates are as in the report, empty
    where it has none. `accession` is that by which the case was identified, `specimen` the block,
    where the slide's header tells it. `placer`, `filler` and `procedure_id` are the numbers of the
    order that it answers; issuers are ``NAMESPACE&UNIVERSAL ID&TYPE`` (HL7 HD). `number` names the
    case among those of its accession, and stays the same for its corrections. `is_signed` says
    whether a person stands for the result: its report is VERIFIED, or the score is a person's.
    `replaces` says whether the report names an earlier one of the case, `corrects` whether it does
    and the score is a person's.
    """

    sop_instance_uid: str
    study_uid: str
    accession: str
    accession_issuer: str
    placer: str
    placer_issuer: str
    filler: str
    filler_issuer: str
    procedure_id: str
    number: str
    patient_id: str
    issuer: str
    patient_name: str
    birth_date: str
    sex: str
    specimen: str
    container: str
    at: datetime
    device: str
    score_name: Code
    items: Sequence[Item]
    is_signed: bool
    replaces: bool
    corrects: bool


def read_result(path: Path) -> Result:
    """Read the result in a structured report.

    Raises
    ------
    ObjectError
        If the file is no report of Tandem, or names no accession.
    """
    try:
        report = dcmread(path)
        group = next(item for item in _walk(report) if _name(item).value == GROUP)
        return _result(report, group)
    except (*UNREADABLE, LookupError, StopIteration) as err:
        raise ObjectError("is no structured report of Tandem") from err


def _result(report: Dataset, group: Dataset) -> Result:
    items = [item for part in group.ContentSequence for item in _items(part)]
    texts = {
        _name(part).value: str(part.TextValue)
        for part in group.ContentSequence
        if part.ValueType == "TEXT"
    }
    tracked, accession = texts[TRACKING], texts.get(codes.ACCESSION.value, "")
    accession = accession or _text(report, "AccessionNumber")
    if not accession:
        # It would take the place of the result of another case of the same block.
        raise ObjectError("names no accession, so that its result has no number of its own")
    specimen = _specimen(report)
    request = (report.get("ReferencedRequestSequence") or [Dataset()])[0]
    by_person = _is_of_a_person(report)
    replaces = bool(report.get("PredecessorDocumentsSequence"))
    patient = patient_of(report)
    return Result(
        sop_instance_uid=str(report.SOPInstanceUID),
        study_uid=patient["study_uid"],
        accession=accession,
        accession_issuer=_issuer(request, "IssuerOfAccessionNumberSequence"),
        placer=_text(request, "PlacerOrderNumberImagingServiceRequest"),
        placer_issuer=_issuer(request, "OrderPlacerIdentifierSequence"),
        filler=_text(request, "FillerOrderNumberImagingServiceRequest"),
        filler_issuer=_issuer(request, "OrderFillerIdentifierSequence"),
        procedure_id=_text(request, "RequestedProcedureID"),
        number="-".join((accession, *tracked.split())),
        patient_id=patient["patient_id"],
        issuer=patient["issuer"],
        patient_name=patient["name"],
        birth_date=patient["birth_date"],
        sex=patient["sex"],
        # The block; reports of earlier editions name what lies on the slide alone.
        specimen=texts.get(codes.PARENT_SPECIMEN_ID.value) or specimen.get("121041", ""),
        container=specimen.get("111700", ""),
        at=_time(report),
        device=" ".join(
            (_text(report, "ManufacturerModelName"), _text(report, "SoftwareVersions"))
        ).strip(),
        score_name=next(
            _code(item.ConceptCodeSequence[0])
            for item in _walk(report)
            if _name(item).value == PROCEDURE
        ),
        items=items,
        is_signed=report.get("VerificationFlag") == "VERIFIED" or by_person,
        replaces=replaces,
        corrects=by_person and replaces,
    )


def _is_of_a_person(report: Dataset) -> bool:
    """Return whether a person gave the score: an observer whose role is not to verify alone."""
    items = list(_walk(report))
    people = [item for item in items if _name(item).value == PERSON]
    roles = [item.ConceptCodeSequence[0] for item in items if _name(item).value == ROLE]
    return len(people) > [_code(role) for role in roles].count(codes.VERIFYING)


def _walk(dataset: Dataset) -> Iterator[Dataset]:
    """Content items below `dataset`, in the order of the document."""
    for item in dataset.get("ContentSequence") or []:
        yield item
        yield from _walk(item)


def _items(part: Dataset) -> Iterator[Item]:
    """Item of a result; none where a part of the group is something else."""
    name = _name(part)
    if part.RelationshipType != "CONTAINS" or name.value in _NO_RESULT:
        return
    match part.ValueType:
        case "NUM" if part.get("MeasuredValueSequence"):
            measured = part.MeasuredValueSequence[0]
            yield Item(
                name=name,
                value=float(measured.NumericValue),
                unit=_code(measured.MeasurementUnitsCodeSequence[0]),
            )
        case "CODE":
            yield Item(name=name, value=_code(part.ConceptCodeSequence[0]))
        case "TEXT":
            yield Item(name=name, value=str(part.TextValue))


def _specimen(report: Dataset) -> dict[str, str]:
    """Specimen Identifier (121041) and Specimen Container Identifier (111700), TID 1009."""
    return {
        _name(item).value: str(item.TextValue)
        for item in _walk(report)
        if _name(item).value in ("121041", "111700") and item.ValueType == "TEXT"
    }


def _name(item: Dataset) -> Code:
    names = item.get("ConceptNameCodeSequence")
    return _code(names[0]) if names else Code("", "", "")


def _code(item: Dataset) -> Code:
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def _text(dataset: Dataset, keyword: str) -> str:
    value: Any = dataset.get(keyword)
    return "" if value is None else str(value)


def _issuer(request: Dataset, keyword: str) -> str:
    """Issuer of a number of the request; empty where it states none."""
    item = (request.get(keyword) or [Dataset()])[0]
    names = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")
    return designator(*(_text(item, name) for name in names))


def _time(report: Dataset) -> datetime:
    """Content date and time in the zone that the report states, else in the machine's."""
    day, time = DA(report.ContentDate), TM(report.ContentTime)
    if day is None or time is None:
        raise ValueError("no time of content")
    at = datetime.combine(day, time).replace(microsecond=0)
    zone = _text(report, "TimezoneOffsetFromUTC")
    return at.replace(tzinfo=offset_of(zone)) if is_zone(zone) else at.astimezone()
