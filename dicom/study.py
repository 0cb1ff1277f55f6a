"""Study and patient, equal in all objects of a study; from a slide's header or from an order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from pydicom import Dataset

from dicom.errors import ObjectError
from dicom.uids import is_uid

CHARACTER_SET = "ISO_IR 192"
"""UTF-8, whatever character set the slide has: texts of Tandem hold µ and ≥."""
SH_LENGTH, LO_LENGTH = 16, 64
"""Largest lengths of the value representations SH and LO (PS3.5 6.2)."""
SEXES = ("", "F", "M", "O")
"""Defined terms of PatientSex (PS3.3 C.7.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """Attributes of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1).

    They are equal in every object of a study; else its objects contradict each other. `started` has
    no zone if a scanner wrote it; None: unknown.

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

    def __post_init__(self) -> None:
        check_length("study ID", self.study_id, SH_LENGTH)
        check_length("patient ID", self.patient_id, LO_LENGTH)
        check_length("patient name", self.patient_name, LO_LENGTH)
        check_length("referring physician's name", self.referring_physician, LO_LENGTH)
        if self.patient_sex not in SEXES:
            raise ObjectError("the patient's sex is none of DICOM's terms: F, M, O or nothing")
        if not is_uid(self.uid):
            raise ObjectError("the Study Instance UID is no UID")

    def as_json(self) -> dict[str, str]:
        """Return a dictionary for `of_json`."""
        return {name: "" if value is None else str(value) for name, value in asdict(self).items()}

    @classmethod
    def of_json(cls, values: dict[str, str]) -> StudyFacts:
        """Restore the facts from the dictionary of `as_json`."""
        facts: dict[str, Any] = dict(values)
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


def study_of(header: Dataset) -> StudyFacts:
    """Extract the facts of the study from a slide's header or from an order of a worklist.

    Study IDs and physicians' names that are too long are left out: nothing depends on them.

    Raises
    ------
    ObjectError
        If patient or UID do not fit.
    """
    sex = _text(header, "PatientSex")
    return StudyFacts(
        uid=_text(header, "StudyInstanceUID"),
        started=_started(header),
        # The study ID of an order is its own ID, as scanners write it (PS3.17 J.6).
        study_id=_short(header, "StudyID", SH_LENGTH)
        or _short(header, "RequestedProcedureID", SH_LENGTH),
        referring_physician=_short(header, "ReferringPhysicianName", LO_LENGTH),
        patient_id=_text(header, "PatientID"),
        patient_name=_text(header, "PatientName"),
        patient_birth_date=day_of(_text(header, "PatientBirthDate")),
        patient_sex=sex if sex in SEXES else "",
    )


def _text(header: Dataset, keyword: str) -> str:
    value: Any = header.get(keyword)
    return "" if value is None else str(value).strip()


def _short(header: Dataset, keyword: str, longest: int) -> str:
    text = _text(header, keyword)
    return text if len(text) <= longest and "\\" not in text else ""


def _started(header: Dataset) -> datetime | None:
    day, time = _text(header, "StudyDate"), _text(header, "StudyTime")[:6] or "000000"
    try:
        return datetime.strptime(day + time, "%Y%m%d%H%M%S")
    except ValueError:
        return None


def day_of(value: str) -> date | None:
    """Return the day of a DICOM date; None for one that cannot be read."""
    try:
        return datetime.strptime(value, "%Y%m%d").date()
    except ValueError:
        return None
