"""Folders as a source: they name an accession and a block, and no week, place or scanner."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.domain import QuarantineReason
from appliance.intake.identity.evidence import Outcome, Verdict
from appliance.intake.identity.identify import Evidence, Identifier
from appliance.settings.identify import Identify

WORDS = {stain.code: stain.words for stain in HER2_ASSAY.stains}


def verdict(path: str, **properties: str) -> Verdict:
    known = Evidence(properties={f"aperio.{key}": value for key, value in properties.items()})
    return Identifier(WORDS, Identify()).verdict(Path(f"/scans/{path}.svs"), known)


@pytest.mark.parametrize(
    "folder", ["KW48", "Q4", "Nov26", "Day1", "PC1", "Lab2", "IHC1", "A", "X", "GT1", "HER2 KW48"]
)
@pytest.mark.parametrize("name", ["1A1_HE", "2A1_HER2", "A1a_HE", "HE"])
def test_a_folder_without_an_accession_names_no_block(folder: str, name: str) -> None:
    found = verdict(f"{folder}/S26-00031_{name}")
    assert (found.accession, found.block) == ("S26-00031", "")
    assert (found.outcome, found.reason) == (Outcome.UNIDENTIFIED, QuarantineReason.NO_BLOCK)
    assert found.detail == ("" if name == "HE" else f"name: no usual block: {name.split('_')[0]}")


@pytest.mark.parametrize(
    "path",
    [
        "S26-00031 A1/S26-00031_HE",
        "S26-00031/A1/S26-00031_HE",
        "S26-00031/A1/HE",
        "S26-00031/A1_HE",
    ],
)
def test_a_folder_with_the_accession_or_below_it_names_the_block(path: str) -> None:
    found = verdict(path)
    assert found.outcome is Outcome.IDENTIFIED
    assert (found.accession, found.block, found.stain) == ("S26-00031", "A1", "HE")


@pytest.mark.parametrize(
    "folder",
    ["KW48", "W48", "Q4", "Lab2", "IHC1", "Day1", "Set1", "Run1", "Nov26", "PC1", "GT1", "X", "5X"],
)
@pytest.mark.parametrize("name", ["HE", "S26-00031_HER2", "1A1_HE"])
def test_a_week_or_a_place_below_an_accession_is_no_block(folder: str, name: str) -> None:
    found = verdict(f"S26-00031/{folder}/{name}")
    assert (found.outcome, found.block) == (Outcome.UNIDENTIFIED, "")


@pytest.mark.parametrize(
    "above",
    [
        *("2026_11", "2026_KW48", "2026-KW48", "2026 Nov", "2026_Q4", "1127_2026", "2026", "4711"),
        *("2026-11", "W48-26", "26-W48", "LAB26-11", "S26-00031 Muster", "S26-00031_A1"),
    ],
)
@pytest.mark.parametrize("folder", ["KW48", "Lab2", "A1"])
def test_a_month_or_a_number_above_a_folder_is_no_accession(above: str, folder: str) -> None:
    for name in ("Muster_HE", "Schmidt_HER2"):
        assert verdict(f"{above}/{folder}/{name}").accession == ""
    found = verdict(f"{above}/{folder}/S26-00077_HE")
    assert (found.outcome, found.accession) == (Outcome.UNIDENTIFIED, "S26-00077")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("S26-00031/AB12/HE", "S26-00031 AB12"),
        ("S26-00031/1A/HE", "S26-00031 1A"),
        ("W26-00031/A1/HE", "W26-00031 A1"),
        ("12345-26/A1/12345-26_HE", "12345-26 A1"),
        ("4711/A1/4711_HE", "4711 A1"),
    ],
)
def test_a_folder_below_its_whole_accession_names_the_block(path: str, said: str) -> None:
    found = verdict(path)
    assert found.outcome is Outcome.IDENTIFIED
    assert f"{found.accession} {found.block}" == said


@pytest.mark.parametrize(
    ("folder", "block"),
    [
        *((name, "A1") for name in ("A-1", "A.1", "A_1", "A 1", "a1", "A1_1", "A1 L1", "A-1-2")),
        *((name, "A1") for name in ("Block A1", "Block_A1", "Blk.A1", "Bl. A1", "Block A-1")),
        *(("Block 1A", "1A"), ("1-A", "1A"), ("II-1", "II1"), ("III-1", "III1")),
    ],
)
@pytest.mark.parametrize("name", ["HE", "S26-00031_HE"])
def test_a_folder_that_is_a_block_is_one_however_it_is_written(
    folder: str, block: str, name: str
) -> None:
    found = verdict(f"S26-00031/{folder}/{name}")
    assert (found.outcome, found.block) == (Outcome.IDENTIFIED, block)


@pytest.mark.parametrize(
    "folder", ["KW-48", "W-48", "Q.4", "Q4 L1", "Block KW48", "Lab_2", "X-1", "A1_2026", "A1-B2"]
)
def test_a_week_with_a_separator_is_no_block(folder: str) -> None:
    assert verdict(f"S26-00031/{folder}/S26-00031_HE").reason == QuarantineReason.NO_BLOCK


def test_a_sites_own_form_names_the_folder_above() -> None:
    own = Identify(patterns=(r"^(?P<accession>PX\d+)",))
    found = Identifier(WORDS, own).verdict(Path("/scans/PX4711/A1/HE.svs"))
    assert (found.outcome, found.accession, found.block) == (Outcome.IDENTIFIED, "PX4711", "A1")


@pytest.mark.parametrize("folder", ["S26-00031 A1", "S26-00031/A1"])
def test_a_word_in_a_name_without_an_accession_may_be_another_block(folder: str) -> None:
    found = verdict(f"{folder}/1A1_HE")
    assert found.reason == QuarantineReason.NO_BLOCK and "1A1" in found.detail


def test_a_folder_of_another_accession_is_a_conflict_one_level_higher_too() -> None:
    assert verdict("S26-00032/A1/S26-00031_HE").outcome is Outcome.CONFLICT
    assert verdict("S26-00032/KW48/S26-00031_A1_HE").outcome is Outcome.IDENTIFIED


def test_a_word_that_may_be_a_block_is_asked_about_until_a_barcode_tells_it() -> None:
    found = verdict("S26-00031 A1/S26-00031_1A1_HE")
    assert found.reason == QuarantineReason.NO_BLOCK and "1A1" in found.detail
    found = verdict("S26-00031 A1/S26-00031_1A1_HE", Barcode="S26-00031;A1;1")
    assert (found.outcome, found.block) == (Outcome.IDENTIFIED, "A1")
    assert verdict("S26-00031 A1/S26-00031_HE_2of3x_40x").block == "A1"


def test_a_folder_of_a_stain_alone_gives_no_stain() -> None:
    found = verdict("HER2/S26-00031_A1")
    assert (found.reason, found.stain) == (QuarantineReason.UNKNOWN_STAIN, "")


@pytest.mark.parametrize(
    "name", ["2026_11/Muster_HE", "2026 11/Schmidt_HER2", "2026_11_HE", "202611_2/Muster_HE"]
)
def test_a_year_and_a_month_are_no_accession_and_block(name: str) -> None:
    """Slides of all patients of a month lie in such a folder."""
    found = verdict(name)
    assert (found.outcome, found.accession) == (Outcome.UNIDENTIFIED, "")
    assert verdict(f"2026_11/S26-00031_A1_{name[-2:]}").accession == "S26-00031"
