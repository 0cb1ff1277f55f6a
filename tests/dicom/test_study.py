"""Facts of a study: issuers, other IDs and further attributes of a header, there and back."""

from __future__ import annotations

import json
from datetime import date, datetime

import pytest
from fixtures.scanned import issuers
from pydicom import Dataset
from pydicom.config import disable_value_validation

from dicom.errors import ObjectError
from dicom.study import StudyFacts, day_of, patient_of, study_of


def header() -> Dataset:
    made = Dataset()
    made.StudyInstanceUID, made.PatientID, made.PatientName = "1.2.3", "P-1", "Müller^Jana"
    made.StudyDate, made.StudyTime, made.PatientBirthDate = "20260301", "093000", "19610203"
    for keyword, value in issuers().items():
        setattr(made, keyword, value)
    return made


def test_facts_of_a_header_come_back_from_json() -> None:
    facts = study_of(header())
    assert (facts.issuer, facts.accession_issuer) == ("HOSP&1.2.276.0.99.5&ISO", "LAB")
    assert facts.other_ids == ("0815^^^CLINIC",)
    assert facts.started == datetime(2026, 3, 1, 9, 30)
    again = StudyFacts.of_json(json.loads(json.dumps(facts.as_json())))
    assert again == facts
    for keyword in issuers():
        assert again.further_attributes()[keyword] == header()[keyword]


@pytest.mark.parametrize(
    ("issuer", "namespace", "universal"),
    [("HOSP", "HOSP", None), ("HOSP&1.2.3&ISO", "HOSP", "1.2.3"), ("&1.2.3", None, "1.2.3")],
)
def test_the_issuers_of_an_order_are_written_as_dicom_has_them(
    issuer: str, namespace: str | None, universal: str | None
) -> None:
    facts = StudyFacts(
        uid="1.2.3", issuer=issuer, other_ids=("7", f"8^^^{issuer}"), accession_issuer=issuer
    )
    written = facts.further_attributes()
    first, second = written.OtherPatientIDsSequence
    assert (first.PatientID, first.TypeOfPatientID, "IssuerOfPatientID" in first) == (
        *("7", "TEXT"),
        False,
    )
    assert second.PatientID == "8"
    for item in (written, second):
        assert item.get("IssuerOfPatientID") == namespace
        qualifiers = item.get("IssuerOfPatientIDQualifiersSequence")
        assert (qualifiers[0].UniversalEntityID if qualifiers else None) == universal
    accession = written.IssuerOfAccessionNumberSequence[0]
    assert accession.get("LocalNamespaceEntityID") == namespace
    assert accession.get("UniversalEntityIDType") == (None if universal is None else "ISO")
    # Written into a header and read from it, they are the same.
    written.StudyInstanceUID = "1.2.3"
    assert study_of(written).other_ids == ("7", f"8^^^{_whole(issuer)}")
    assert study_of(written).issuer == _whole(issuer)


def _whole(issuer: str) -> str:
    """Return an issuer with the type of its universal ID."""
    return f"{issuer}&ISO" if issuer.endswith("1.2.3") else issuer


def test_a_header_that_cannot_be_written_is_compared_all_the_same() -> None:
    """What does not fit its attribute must not count as unknown."""
    long = Dataset()
    with disable_value_validation():
        long.PatientID, long.PatientSex, long.PatientBirthDate = "P" * 80, "female", "1961-02-03"
        said = patient_of(long)
    assert said["patient_id"] == "P" * 80
    assert (said["sex"], said["birth_date"]) == ("female", "1961-02-03")
    with pytest.raises(ObjectError):
        study_of(long)


@pytest.mark.parametrize(
    ("time", "hour", "minute", "second"),
    [
        *(("0930", 9, 30, 0), ("09", 9, 0, 0), ("", 0, 0, 0), ("235960", 23, 59, 59)),
        ("093015.123456", 9, 30, 15),
    ],
)
def test_a_time_may_end_after_hour_or_minute(
    time: str, hour: int, minute: int, second: int
) -> None:
    slide = header()
    slide.StudyTime = time
    assert study_of(slide).started == datetime(2026, 3, 1, hour, minute, second)


def test_a_date_of_fewer_digits_is_none() -> None:
    assert day_of("1960111") is None and day_of("196011") is None
    assert day_of("19600111") == date(1960, 1, 11)


def test_what_divides_issuers_and_ids_of_hl7_may_be_a_letter_of_a_header() -> None:
    slide = Dataset()
    slide.StudyInstanceUID, slide.PatientID = "1.2.3", "P-1"
    slide.IssuerOfPatientID, slide.OtherPatientIDs = "Meyer & Sons", ["4^7", "8"]
    facts = study_of(slide)
    assert facts.other_ids == ("8",)
    written = facts.further_attributes()
    assert written.IssuerOfPatientID == "Meyer & Sons"
    assert "IssuerOfPatientIDQualifiersSequence" not in written
    assert list(written.OtherPatientIDs) == ["4^7", "8"]
