"""A part and a block, or two blocks, are not cut down to the first of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.scanned import scanned_dicom
from fixtures.slide_objects import write_svs

from appliance.operations.identify import identify_paths
from appliance.settings.settings import Settings


def answer(path: Path, folder: Path) -> dict[str, object]:
    return next(iter(identify_paths([path], Settings(state_dir=folder))))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "_1_AA_HER2",
            "_1_A_1_HER2",
            " 1 A HER2",
            ";1;A;1;HER2",
            "_1.B.2_HE",
            "_I_A_HE",
            "_II-B-2_HE",
        ),
        *("-A-001-HE", "_A_101_HE", "_A-102_HER2", "_1-001_HE", "_II-001_HE", "_A_4711_HE"),
        *("_A_Block 2_HE", " A Blk 2 HE", "_I_Nr.2_HE", "_2_Block A_HE", "_A_No2_HE"),
        *("_P2_1_HE", "_P2_3_HER2", "_PT2_3_HER2", "_P2_A_HE", "_A_II_HE", "_A. B. Meier_HE"),
        *("_A+B_HE", "_A,B_HE", "_A-C_HE", "_1 und 2_HE", "_A1+2_HE", "_A1,2_HE", "_A1 & 2_HE"),
    ],
)
@pytest.mark.parametrize("form", ["S26-00031", "S26-00031/"])
def test_a_part_and_a_block_are_asked_about(tmp_path: Path, name: str, form: str) -> None:
    found = answer(
        Path(f"{form}{name.lstrip(' _;-') if form.endswith('/') else name}.svs"), tmp_path
    )
    assert found["outcome"] == "unidentified"


@pytest.mark.parametrize(
    ("name", "block"),
    [
        *((name, "A1") for name in ("A_1", "A-1", "A;1", "A 01", "A1_1", "A1-2", "A1.2", "A1 2")),
        *((name, "A1") for name in ("A_1_2", "A-1-2", "A1_a", "P1_A1", "L2_A1", "A1_001")),
        *((name, "A") for name in ("A", "A_MUSTER", "A_2026", "A_101112", "A_L2", "A_O'Neil")),
        *((name, "A") for name in ("A_J. Meier", "A_Block", "A_20x", "A_1of2", "A_20261120")),
        *(("1", "1"), ("1_Mamma", "1"), ("II_L3", "II"), ("II-1", "II1"), ("1-A-1", "1A")),
        *(("P2", "P2"), ("A1,Anna", "A1"), ("2-3", "2-3")),
    ],
)
def test_a_block_with_a_count_of_slides_or_a_name_is_read(
    tmp_path: Path, name: str, block: str
) -> None:
    found = answer(Path(f"S26-00031_{name}_HE.svs"), tmp_path)
    assert (found["outcome"], found["block"]) == ("identified", block)


def test_commas_between_all_parts_count_the_slide(tmp_path: Path) -> None:
    found = answer(Path("S26-00031,A1,2,HE.svs"), tmp_path)
    assert (found["outcome"], found["block"]) == ("identified", "A1")


def test_a_label_with_part_and_block_is_asked_about(tmp_path: Path) -> None:
    slide = write_svs(tmp_path / "slide.svs")
    for number, (container, outcome) in enumerate(
        [("S26-00031_1_A_1", "unidentified"), ("S26-00031_A_1_1", "identified")]
    ):
        header = {"AccessionNumber": "S26-00031", "ContainerIdentifier": container}
        path = scanned_dicom(slide, tmp_path / str(number), "HE", **header)[0]
        found = answer(path.rename(path.with_name("HE.dcm")), tmp_path)
        assert found["outcome"] == outcome
