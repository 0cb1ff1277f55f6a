"""Prefixes of accessions: they may tell two sites apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.scanned import scanned_dicom
from fixtures.slide_objects import write_svs

from appliance.operations.identify import identify_paths
from appliance.settings.settings import Settings


def answer(path: Path, folder: Path) -> dict[str, str]:
    return next(iter(identify_paths([path], Settings(state_dir=folder))))


@pytest.mark.parametrize(
    "name",
    [
        *("00-SP-26-0001234_A1_HE", "01-S26-00031_A1_HE", "02.S26-00031_A1_HE"),
        *("NORD-S26-00031_A1_HE", "KH2-S26-00031_A1_HE", "A-S26-00031_A1_HE"),
        *("LAB-01-S26-00031_A1_HE", "01-S26-00031 A1/HE", "KH-H12345-26_A1_HER2"),
    ],
)
def test_an_accession_with_a_number_of_a_site_is_asked_about(tmp_path: Path, name: str) -> None:
    found = answer(tmp_path / f"{name}.svs", tmp_path)
    assert found["outcome"] == "unidentified"
    assert "something in front may belong to it" in found["sentence"]


@pytest.mark.parametrize(
    "front",
    [
        *("2026-11-20-", "20.11.2026-", "26-11-20-", "20.11.26-", "2026-", "26-", "Müller-"),
        *("Kim-", "Roth-", "Meier-", "HE-", "H&E-", "HER-2-", "HER2-4B5-", "IHC-", "Fall-"),
        *("Nr.", "Slide-", "Kopie-", "neu-", "GT450-", "x40-", "R03-S07-", "MDS-", "li-"),
        *("01_", "NORD_", "KH2 ", "Meier - ", "(2)-", "Ocus40-"),
    ],
)
def test_a_name_a_date_or_a_word_in_front_leaves_the_accession(tmp_path: Path, front: str) -> None:
    stain = "HER2" if front.startswith("HER") else "HE"
    found = answer(tmp_path / f"{front}S26-00031_A1_{stain}.svs", tmp_path)
    assert (found["outcome"], found["accession"]) == ("identified", "S26-00031")


@pytest.mark.parametrize(
    ("stated", "container", "name", "said"),
    [
        ("00-SP-26-0001234", "00-SP-26-0001234 A1", "HE", "00-SP-26-0001234"),
        ("00-SP-26-0001234", "", "00-SP-26-0001234_A1_HE", "00-SP-26-0001234"),
        ("SP-26-0001234", "", "00-SP-26-0001234_A1_HE", "SP-26-0001234"),
        ("", "01-S26-00031", "01-S26-00031_A1_HE", "01-S26-00031"),
        ("", "S26-00031", "01-S26-00031_A1_HE", "S26-00031"),
        ("", "02-S26-00031", "01-S26-00031_A1_HE", ""),
        ("02-S26-00031", "", "01-S26-00031_A1_HE", ""),
    ],
)
def test_header_and_label_say_whether_it_belongs_to_it(
    tmp_path: Path, stated: str, container: str, name: str, said: str
) -> None:
    slide = write_svs(tmp_path / "slide.svs")
    header = {"AccessionNumber": stated, "ContainerIdentifier": container}
    path = scanned_dicom(slide, tmp_path / "HE", "HE", **header)[0]
    found = answer(path.rename(path.with_name(f"{name}.dcm")), tmp_path)
    assert (found["accession"] if found["outcome"] == "identified" else "") == said
