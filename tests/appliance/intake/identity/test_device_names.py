"""Names that a device gave, and blocks from A10 on that have the form of an accession."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.scanned import scanned_dicom
from fixtures.slide_objects import write_svs

from appliance.operations.identify import identify_paths
from appliance.settings.settings import Settings


def answer(path: Path, folder: Path) -> dict[str, str]:
    return next(iter(identify_paths([path], Settings(state_dir=folder))))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_svs(tmp_path_factory.mktemp("slide") / "slide.svs")


@pytest.mark.parametrize(
    "name",
    [
        *("VL000001", "I0000001", "A0000001", "S0000001", "DX000001", "MR000001"),
        *("PA000000/ST000000/SE000000/SM000000", "x", "a", "E1", "IM1", "SM1", "WSI1", "VS1"),
        "S60-0001",
    ],
)
def test_a_name_of_a_device_holds_no_slide_whose_header_is_complete(
    slide: Path, tmp_path: Path, name: str
) -> None:
    header = {"AccessionNumber": "S26-00031", "ContainerIdentifier": "S26-00031 B2 HE"}
    scanned = scanned_dicom(slide, tmp_path / "HE", "HE", **header)[0]
    path = tmp_path / f"{name}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = answer(scanned.rename(path), tmp_path)
    assert (found["outcome"], found["accession"], found["block"]) == (
        "identified",
        "S26-00031",
        "B2",
    )


@pytest.mark.parametrize("name", ["x", "E1", "IM1"])
def test_a_name_of_a_device_is_no_block(slide: Path, tmp_path: Path, name: str) -> None:
    header = {"AccessionNumber": "S26-00031", "ContainerIdentifier": ""}
    scanned = scanned_dicom(slide, tmp_path / "HE", "HE", **header)[0]
    found = answer(scanned.rename(tmp_path / f"{name}.dcm"), tmp_path)
    assert (found["outcome"], found["block"]) == ("unidentified", "")


@pytest.mark.parametrize("accession", ["S26-00031", "26S00031", "H12345-26"])
@pytest.mark.parametrize(
    ("name", "block"), [("A13-1", "A13"), ("A13.1", "A13"), ("B10-2", "B10"), ("A9-1", "A9")]
)
def test_a_block_in_a_cases_folder_is_no_accession(
    tmp_path: Path, accession: str, name: str, block: str
) -> None:
    found = answer(tmp_path / accession / f"{name}_HE.svs", tmp_path)
    assert (found["outcome"], found["accession"], found["block"]) == (
        "identified",
        accession,
        block,
    )


@pytest.mark.parametrize("name", ["S26-1_HE", "S19-00032_HE", "B12-1_A1_HE", "H26-5_HE"])
def test_another_accession_in_a_cases_folder_is_a_conflict(tmp_path: Path, name: str) -> None:
    assert answer(tmp_path / "S26-00031" / f"{name}.svs", tmp_path)["outcome"] == "conflict"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("S0012345/A1_HE", "S0012345 A1"),
        ("S0000312_A1_HE", "S0000312 A1"),
        ("S26-00031 HE/E1", "S26-00031 E1"),
        ("T26-7_A1_HE", "T26-7 A1"),
    ],
)
def test_a_laboratorys_accession_of_such_a_form_is_read(
    tmp_path: Path, path: str, said: str
) -> None:
    found = answer(tmp_path / f"{path}.svs", tmp_path)
    assert f"{found['accession']} {found['block']}" == said
    assert found["outcome"] == "identified"


@pytest.mark.parametrize(
    ("name", "accession"),
    [("S0000312", "S0000313"), ("MA0000123", "MA0000124"), ("MA0000124 A1 HE/MA0000123", "")],
)
def test_an_accession_of_the_form_of_a_devices_name_is_contradicted(
    slide: Path, tmp_path: Path, name: str, accession: str
) -> None:
    """A file of one accession under the label of another is a mix-up, also in January."""
    header = {"AccessionNumber": accession, "ContainerIdentifier": f"{accession} A1 HE".strip()}
    scanned = scanned_dicom(slide, tmp_path / "HE", "HE", **header)[0]
    path = tmp_path / f"{name}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = answer(scanned.rename(path), tmp_path)
    assert found["outcome"] == "conflict"
