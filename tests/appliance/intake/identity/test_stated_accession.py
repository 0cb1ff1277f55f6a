"""An AccessionNumber that looks like what a scanner fills in without a worklist."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.scanned import scanned_dicom
from fixtures.slide_objects import write_svs

from appliance.operations.identify import identify_paths
from appliance.settings.settings import Settings

DATES = {
    "StudyDate": "20261119",
    "SeriesDate": "20261121",
    "AcquisitionDateTime": "20261120101112.25+0100",
    "ContentDate": "20261122",
}
WORDS = ("PAT", "FALL", "CASE", "ID", "NO", "TAG", "SEP", "DEC", "SCN", "KIT", "PATH")
LOOKS_LIKE_FILLER = [
    *("20261120000123", "20260115", "20260145", "15.01.2026", "PAT-2600031"),
    *(f"{word}2600031" for word in WORDS),
]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_svs(tmp_path_factory.mktemp("slide") / "slide.svs")


def answer(slide: Path, folder: Path, accession: str, dates: dict[str, str]) -> dict[str, str]:
    header = dict.fromkeys((*DATES, "AcquisitionDate"), "") | dates
    header |= {"AccessionNumber": accession, "ContainerIdentifier": ""}
    path = scanned_dicom(slide, folder, "HE", **header)[0]
    named = path.rename(path.with_name("A1_HE.dcm"))
    return next(iter(identify_paths([named], Settings(state_dir=folder))))


@pytest.mark.parametrize("stated", LOOKS_LIKE_FILLER)
def test_an_accession_that_is_no_date_of_its_header_is_believed(
    slide: Path, tmp_path: Path, stated: str
) -> None:
    said = answer(slide, tmp_path / "HE", stated, DATES)
    assert (said["outcome"], said["accession"], said["block"]) == ("identified", stated, "A1")


@pytest.mark.parametrize(
    ("filler", "dates"),
    [
        ("20261119", DATES),
        ("20261120", DATES),
        ("2026-11-21", DATES),
        ("22.11.2026", DATES),
        ("20261118", {"AcquisitionDate": "20261118"}),
        ("20261120", {}),
        ("Slide0001", DATES),
    ],
)
def test_a_day_of_the_header_and_a_counter_are_no_accession(
    slide: Path, tmp_path: Path, filler: str, dates: dict[str, str]
) -> None:
    said = answer(slide, tmp_path / "HE", filler, dates)
    assert (said["outcome"], said["accession"]) == ("unidentified", "")
