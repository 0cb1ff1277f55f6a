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
