"""Study and patient, equal in all objects of a study; from a slide's header or from an order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.tag import Tag

from dicom.characters import items_of
from dicom.errors import ObjectError
from dicom.legal import GROUP_LENGTH, GROUPS, SEXES, make_legal
from dicom.times import is_zone
from dicom.uids import is_uid

SH_LENGTH, LO_LENGTH = 16, 64
"""Largest lengths of the value representations SH and LO (PS3.5 6.2)."""
FURTHER = (
    *("IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    *("OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "PatientBirthTime"),
    *("EthnicGroup", "EthnicGroupCodeSequence", "PatientComments", "PatientSpeciesDescription"),
    *("PatientSpeciesCodeSequence", "ResponsiblePerson", "ResponsibleOrganization"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("IssuerOfAccessionNumberSequence", "StudyDescription"),
    *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "PhysiciansOfRecord"),
    *("NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "RequestingService"),
    *("ReasonForPerformedProcedureCodeSequence", "ReferencedStudySequence", "PatientAge"),
    *("PatientSize", "PatientWeight", "AdmittingDiagnosesDescription", "MedicalAlerts"),
    *("AdmissionID", "IssuerOfAdmissionIDSequence", "AdditionalPatientHistory", "PatientState"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName"),
    *("ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
)
"""Further attributes of the modules of patient and study (PS3.3 C.7.1, C.7.2) that objects made
from a header repeat: a slide that joins the study must not contradict them."""
BEGUN = ("StudyDate", "StudyTime", "StudyID")
"""Attributes of a header that are repeated as written where `started` and `study_id` do not give
them: left open, short, or with a fraction of a second."""
_TIME = re.compile(r"(\d\d)(\d\d)?(\d\d)?", re.ASCII)
_DAY = re.compile(r"\d{8}", re.ASCII)
ISSUER = ("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")
"""Attributes of the issuer of the patient ID (PS3.3 Table 10-18)."""
LATER = ("issuer", "other_ids", "accession_issuer", "further", "zone")
"""Fields of `StudyFacts` that earlier editions had not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """Attributes of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1).

    They are equal in every object of a study; else its objects contradict each other. `started` has
    no zone if a scanner wrote it; None: unknown. Issuers are ``NAMESPACE`` or ``NAMESPACE&UNIVERSAL
    ID&TYPE`` (HL7 HD), other patient IDs ``ID`` or ``ID^^^ISSUER`` (HL7 CX). `further` are
    attributes of a header as DICOM JSON; they are written as they are. `zone` is the Timezone
    Offset From UTC that a header states.

    Raises
    ------
    ObjectError
        If a value does not fit its attribute. The message does not hold the value (PHI).
    """

    uid: str
    started: datetime | None = None
    study_id: str = ""
    referring_physician: str = ""
    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: date | None = None
    patient_sex: str = ""
    issuer: str = ""
    other_ids: tuple[str, ...] = ()
    accession_issuer: str = ""
    further: str = ""
    zone: str = ""

    def __post_init__(self) -> None:
        check_length("issuer of the patient ID", self.issuer, 3 * LO_LENGTH)
        check_length("issuer of the accession number", self.accession_issuer, 3 * LO_LENGTH)
        check_length("study ID", self.study_id, SH_LENGTH)
        check_length("patient ID", self.patient_id, LO_LENGTH)
        check_name("patient name", self.patient_name)
        check_name("referring physician's name", self.referring_physician)
        if self.patient_sex not in SEXES:
            raise ObjectError("the patient's sex is none of DICOM's terms: F, M, O or nothing")
        if not is_uid(self.uid):
            raise ObjectError("the Study Instance UID is no UID")

    def stated(self) -> dict[str, Any]:
        """Return the attributes that keys and UIDs depend on.

        Fields of later editions count only where they say something, so that slides that were
        converted before keep their UIDs.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value or name not in LATER}

    def further_attributes(self) -> Dataset:
        """Return issuers, other patient IDs and the further attributes of the header."""
        found, stated = Dataset(), Dataset()
        with disable_value_validation():
            if self.further:
                stated = Dataset.from_json(self.further)
                make_legal(stated)  # JSON has numbers, whose text may be longer than that of DS
            # An issuer of a header may hold the "&" that divides one of an order.
            if self.issuer and not any(keyword in stated for keyword in ISSUER):
                _set_issuer(found, self.issuer)
            if self.other_ids:
                found.OtherPatientIDsSequence = [_other_id(text) for text in self.other_ids]
            if self.accession_issuer:
                found.IssuerOfAccessionNumberSequence = [entity(self.accession_issuer)]
            found.update(stated)
        return found

    def filled(self) -> StudyFacts:
        """Return the facts as earlier editions had them, which filled what a header leaves open."""
        if not self.further:
            return self
        tags = {f"{Tag(keyword):08X}" for keyword in BEGUN}
        left = {tag: value for tag, value in json.loads(self.further).items() if tag not in tags}
        return replace(self, further=_as_text(left))

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary for `of_json`."""
        written = {
            name: "" if value is None else str(value) for name, value in asdict(self).items()
        }
        return written | {"other_ids": list(self.other_ids)}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> StudyFacts:
        """Restore the facts from the dictionary of `as_json`."""
        facts: dict[str, Any] = values | {"other_ids": tuple(values.get("other_ids", ()))}
        born, started = values["patient_birth_date"], values["started"]
        facts["patient_birth_date"] = date.fromisoformat(born) if born else None
        facts["started"] = datetime.fromisoformat(started) if started else None
        return cls(**facts)


def check_length(what: str, value: str, longest: int) -> None:
    """Check that a value fits its attribute.

    Raises
    ------
    ObjectError
        If it is too long.
    """
    if len(value) > longest or "\\" in value:
        raise ObjectError(
            f"the {what} has {len(value)} characters; DICOM allows {longest} and no \\"
        )


def check_name(what: str, name: str) -> None:
    """Check that a person's name fits PN: three component groups of 64 characters (PS3.5 6.2).

    Raises
    ------
    ObjectError
        If it has more groups, or a longer one.
    """
    if not is_name(name):
        groups = name.split("=")
        longest = max(map(len, groups))
        raise ObjectError(
            f"the {what} has {len(groups)} groups of up to {longest} characters; DICOM allows "
            f"{GROUPS} of {GROUP_LENGTH} and no \\"
        )


def is_name(name: str) -> bool:
    """Return whether a person's name fits PN."""
    groups = name.split("=")
    fits = len(groups) <= GROUPS and all(len(group) <= GROUP_LENGTH for group in groups)
    return fits and "\\" not in name


def study_of(header: Dataset) -> StudyFacts:
    """Extract the facts of the study from a slide's header or from an order of a worklist.

    Study IDs and physicians' names that are too long are left out: nothing depends on them.

    Raises
    ------
    ObjectError
        If patient or UID do not fit.
    """
    sex, zone = _text(header, "PatientSex"), _text(header, "TimezoneOffsetFromUTC")
    started, study_id = _started(header), _short(header, "StudyID", SH_LENGTH)
    given = [] if started is None else [f"{started:%Y%m%d}", f"{started:%H%M%S}", study_id]
    as_written = [_text(header, keyword) for keyword in BEGUN]
    return StudyFacts(
        uid=_text(header, "StudyInstanceUID"),
        started=started,
        # The study ID of an order is its own ID, as scanners write it (PS3.17 J.6).
        study_id=study_id or _short(header, "RequestedProcedureID", SH_LENGTH),
        referring_physician=_name(header, "ReferringPhysicianName"),
        patient_id=_text(header, "PatientID"),
        patient_name=_text(header, "PatientName"),
        patient_birth_date=day_of(_text(header, "PatientBirthDate")),
        patient_sex=sex if sex in SEXES else "",
        issuer=_issuer(header),
        other_ids=tuple(_other_ids(header)),
        accession_issuer=_accession_issuer(header),
        further=_further(header, () if study_id and given == as_written else BEGUN),
        zone=zone if is_zone(zone) else "",
    )


def with_accession(facts: StudyFacts, header: Dataset) -> StudyFacts:
    """Return the facts of a header's study with its Accession Number, also where that is empty.

    It is an attribute of the study (PS3.3 C.7.2.1), whatever a slide of it was identified by.
    """
    number, stated = Dataset(), json.loads(facts.further) if facts.further else {}
    number.AccessionNumber = _short(header, "AccessionNumber", SH_LENGTH)
    return replace(facts, further=_as_text(stated | number.to_json_dict()))


def patient_of(header: Dataset) -> dict[str, Any]:
    """Return patient and study as a header states them, for comparison: nothing is checked.

    Texts are empty where the header says nothing; names and IDs are written as in `StudyFacts`.
    """
    return {
        "patient_id": _text(header, "PatientID"),
        "issuer": _issuer(header),
        "name": _text(header, "PatientName"),
        "birth_date": _text(header, "PatientBirthDate"),
        "sex": _text(header, "PatientSex"),
        "other_ids": tuple(_other_ids(header)),
        "study_uid": _text(header, "StudyInstanceUID"),
        "accession_issuer": _accession_issuer(header),
    }


def entity(issuer: str) -> Dataset:
    """Return an issuer as an item of the HL7v2 Hierarchic Designator Macro (PS3.3 Table 10-17)."""
    namespace, universal, kind = _parts(issuer)
    item = Dataset()
    if namespace:
        item.LocalNamespaceEntityID = namespace
    if universal:
        item.UniversalEntityID, item.UniversalEntityIDType = universal, kind
    return item


# issuers and other IDs


def _set_issuer(dataset: Dataset, issuer: str) -> None:
    """Set the issuer of the patient ID beside it (PS3.3 Table 10-18)."""
    namespace, universal, kind = _parts(issuer)
    if namespace:
        dataset.IssuerOfPatientID = namespace
    if universal:
        qualifiers = Dataset()
        qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = universal, kind
        dataset.IssuerOfPatientIDQualifiersSequence = [qualifiers]


def _other_id(text: str) -> Dataset:
    number, *more = text.split("^")
    item = Dataset()
    item.PatientID, item.TypeOfPatientID = number, "TEXT"
    if len(more) > 2 and more[2]:
        _set_issuer(item, more[2])
    return item


def _parts(issuer: str) -> tuple[str, str, str]:
    """Return namespace, universal ID and its type, which is ISO where none is stated."""
    namespace, universal, kind = [*issuer.split("&"), "", ""][:3]
    return namespace, universal, kind or "ISO"


def _issuer(header: Dataset) -> str:
    items = _items(header, "IssuerOfPatientIDQualifiersSequence")
    return _designator(_text(header, "IssuerOfPatientID"), items)


def _accession_issuer(header: Dataset) -> str:
    items = _items(header, "IssuerOfAccessionNumberSequence")
    return _designator(_text(items[0], "LocalNamespaceEntityID") if items else "", items)


def _designator(namespace: str, items: list[Dataset]) -> str:
    universal = _text(items[0], "UniversalEntityID") if items else ""
    kind = _text(items[0], "UniversalEntityIDType") if universal else ""
    text = "&".join((namespace, universal, kind)).rstrip("&")
    return text if len(text) <= 3 * LO_LENGTH and "\\" not in text else ""


def _other_ids(header: Dataset) -> Iterator[str]:
    """Yield the other IDs that HL7 can write: "^" divides them there."""
    for item in _items(header, "OtherPatientIDsSequence"):
        number, issuer = _text(item, "PatientID"), _issuer(item)
        if number and "^" not in number:
            yield f"{number}^^^{issuer}" if issuer else number
    retired: Any = header.get("OtherPatientIDs")
    if retired:
        numbers = (str(n) for n in ([retired] if isinstance(retired, str) else retired))
        yield from (number for number in numbers if number and "^" not in number)


def _further(header: Dataset, also: Sequence[str]) -> str:
    """Return the further attributes of a header that have a value, as DICOM JSON; and those of
    `also`, with or without one."""
    found = Dataset()
    with disable_value_validation():
        for keyword in FURTHER:
            if keyword in header and header[keyword].value:
                found.add(header[keyword])
        for keyword in also:
            setattr(found, keyword, _short(header, keyword, SH_LENGTH))
        written = found.to_json_dict(suppress_invalid_tags=True)
    return _as_text(written)


def _as_text(written: Mapping[str, Any]) -> str:
    return json.dumps(written, ensure_ascii=False, sort_keys=True) if written else ""


def _items(header: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none where it is absent, or no sequence."""
    return (items_of(header, Tag(keyword)) or []) if keyword in header else []


def _text(header: Dataset, keyword: str) -> str:
    value: Any = header.get(keyword)
    return "" if value is None else str(value).strip()


def _short(header: Dataset, keyword: str, longest: int) -> str:
    text = _text(header, keyword)
    return text if len(text) <= longest and "\\" not in text else ""


def _name(header: Dataset, keyword: str) -> str:
    text = _text(header, keyword)
    return text if is_name(text) else ""


def _started(header: Dataset) -> datetime | None:
    day, time = day_of(_text(header, "StudyDate")), _TIME.match(_text(header, "StudyTime") or "00")
    if day is None or time is None:
        return None
    hour, minute, second = (int(part or 0) for part in time.groups())
    try:
        # 60 is a leap second, which no clock here has.
        return datetime(day.year, day.month, day.day, hour, minute, min(second, 59))
    except ValueError:
        return None


def day_of(value: str) -> date | None:
    """Return the day of a DICOM date; None for one that cannot be read."""
    if not _DAY.fullmatch(value):
        return None  # the library would read 1960111 as a day
    try:
        return datetime.strptime(value, "%Y%m%d").date()
    except ValueError:
        return None
