"""Identification of slides by names from labs and headers from scanners."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.domain import HE, HER2, QuarantineReason, Stain
from appliance.errors import SlideError
from appliance.intake.identify import identify
from appliance.intake.identity.sidecar import Sidecar, read_sidecar
from appliance.settings.intake import Identify

SETTINGS = Identify()
WORDS = {stain.code: stain.words for stain in HER2_ASSAY.stains}


@pytest.mark.parametrize(
    ("name", "accession", "block", "stain"),
    [
        ("S24-01234_A1_HER2.svs", "S24-01234", "A1", HER2),
        ("S24-01234;A1;2_HE - 2026-11-20 10.11.12.ndpi", "S24-01234", "A1", HE),
        ("HP19.754.A5 H&E.scn", "HP19.754", "A5", HE),
        ("S24-01234_B12_her-2_001.svs", "S24-01234", "B12", HER2),
        ("T26-7_A1_4B5-2.tif", "T26-7", "A1", HER2),
    ],
)
def test_file_names(name: str, accession: str, block: str, stain: Stain) -> None:
    found = identify(Path(name), {}, Sidecar(), WORDS, SETTINGS)
    assert (found.accession, found.block, found.stain) == (accession, block, stain)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scan0001_HE.svs", QuarantineReason.NO_ACCESSION),
        ("S24-01234_HE.svs", QuarantineReason.NO_BLOCK),
        ("S24-01234_A1_KI67.svs", QuarantineReason.UNKNOWN_STAIN),
        ("S24-01234_A1_THERAPY.svs", QuarantineReason.UNKNOWN_STAIN),
        ("S24-01234_A1_HE_HER2.svs", QuarantineReason.UNKNOWN_STAIN),
        ("S24X-012345678901234_A1_HE.svs", QuarantineReason.NO_ACCESSION),
    ],
)
def test_names_that_do_not_do(name: str, reason: QuarantineReason) -> None:
    with pytest.raises(SlideError) as caught:
        identify(Path(name), {}, Sidecar(), WORDS, SETTINGS)
    assert caught.value.reason is reason


def test_barcode_is_stronger_than_the_name_and_philips_is_base64() -> None:
    barcode = base64.b64encode(b"S24-00001;B2;1").decode()
    properties = {"philips.PIM_DP_UFS_BARCODE": barcode}
    found = identify(Path("S99-9_A1_HE.svs"), properties, Sidecar(), WORDS, SETTINGS)
    assert (found.accession, found.block, found.stain) == ("S24-00001", "B2", HE)


def test_the_stains_are_those_of_the_vocabulary() -> None:
    words = WORDS | {"ER": ("ER", "SP1")}
    found = identify(Path("S24-01234_A1_sp1.svs"), {}, Sidecar(), words, SETTINGS)
    assert found.stain == "ER"
    with pytest.raises(SlideError) as caught:
        identify(Path("S24-01234_A1_sp1.svs"), {}, Sidecar(), WORDS, SETTINGS)
    assert caught.value.reason is QuarantineReason.UNKNOWN_STAIN


def test_block_of_another_accession_is_not_borrowed() -> None:
    properties = {"dicom.AccessionNumber": "S24-00002"}
    with pytest.raises(SlideError) as caught:
        identify(Path("S24-00001_A1_HE.svs"), properties, Sidecar(), WORDS, SETTINGS)
    assert caught.value.reason is QuarantineReason.NO_BLOCK


def test_sidecar_is_the_last_word(tmp_path: Path) -> None:
    slide = tmp_path / "anything.svs"
    (tmp_path / "anything.tandem.toml").write_text(
        'accession = "S24-3"\nblock = "C1"\nstain = "HER2"\nmpp = 0.25\n'
    )
    sidecar = read_sidecar(slide)
    found = identify(slide, {}, sidecar, WORDS, SETTINGS)
    assert (found.accession, found.block, found.stain) == ("S24-3", "C1", HER2)
    assert sidecar.mpp == 0.25
    (tmp_path / "anything.tandem.toml").write_text("mmp = 0.25\n")
    with pytest.raises(SlideError, match=r"anything\.tandem\.toml"):
        read_sidecar(slide)
