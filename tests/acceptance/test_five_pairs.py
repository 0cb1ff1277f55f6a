"""Every object of five pairs is valid, agrees with the others, and is read by every reader.

The pairs are two SVS, two DICOM slides, one of each, and DICOM slides whose patient has a Japanese
name (ISO 2022 IR 87) or one of three component groups. A note of rejection is one of the objects.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from fixtures.case_objects import CaseObjects, write_case
from fixtures.every_reader import (
    by_openslide,
    by_wsidicom,
    read_by_dcmjs,
    read_by_highdicom,
    read_strictly,
)
from fixtures.findings import some_findings
from fixtures.headers import Written, rewritten
from fixtures.judges import dicom_errors, entity_warnings
from fixtures.orthanc import Orthanc
from fixtures.scanned import scanned_dicom
from fixtures.slide_objects import HEIGHT, MPP, SCANNED, WIDTH, her2_label_map, write_svs
from fixtures.viewer import Screen, Viewer, open_viewer
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from appliance.domain import SlideFacts
from appliance.findings.findings import SCORED, Findings, Rasters
from appliance.geometry import TileGrid
from appliance.line.analyze_slide import open_facts
from appliance.settings.objects import ObjectSettings
from appliance.settings.settings import Settings
from dicom import codes
from dicom.rejection import build_rejection_note

GIVEN: dict[str, Any] = {
    "PatientID": "P-1",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
    "PatientAge": "065Y",
    "IssuerOfPatientID": "HOSP",
    "IssuerOfPatientIDQualifiersSequence": [
        {"UniversalEntityID": "1.2.276.0.99.5", "UniversalEntityIDType": "ISO"}
    ],
    "OtherPatientIDsSequence": [
        {"PatientID": "0815", "TypeOfPatientID": "TEXT", "IssuerOfPatientID": "CLINIC"}
    ],
    "IssuerOfAccessionNumberSequence": [{"LocalNamespaceEntityID": "LAB"}],
    "StudyDescription": "Mamma, Stanze",
}
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
THREE_GROUPS = "=".join(
    (
        "Yamada-Kobayashi^Tarou Alexander Maria^^Dr.",
        "山田小林^太郎アレク",
        "やまだこばやし^たろうあれくさんだー",
    )
)
KINDS = {"SEG", "PM", "SR", "PDF", "SC", "ANN"}
OFF = 3
"""Gray values by which two decoders of JPEG may differ."""
CHANGED, LEAST_PX = 8, 100
"""A px of the window is painted over if a channel changes by more than this; px of an overlay."""


@dataclass(frozen=True)
class Pair:
    """Stains that came as DICOM, and the patient that their headers state."""

    scanned: tuple[str, ...] = ()
    terms: tuple[str, ...] = ("ISO_IR 192",)
    name: str = ""


PAIRS = {
    "svs": Pair(),
    "dicom": Pair(("HE", "HER2"), ("ISO_IR 100",), "Müller^Jörg"),
    "mixed": Pair(("HE",), ("ISO_IR 100",), "Müller^Jörg"),
    "japanese": Pair(("HE", "HER2"), ("", "ISO 2022 IR 87"), JAPANESE),
    "three groups": Pair(("HER2",), ("ISO_IR 192",), THREE_GROUPS),
}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two SVS by stain."""
    folder = tmp_path_factory.mktemp("svs")
    return {
        stain: write_svs(folder / f"S26-0042_A1_{stain}.svs", seed)
        for seed, stain in enumerate(("HE", "HER2"))
    }


@pytest.fixture(scope="module")
def px(slides: Mapping[str, Path]) -> dict[str, NDArray[np.uint8]]:
    """Return the px of level 0 of both, as OpenSlide reads them."""
    return {stain: by_openslide(path) for stain, path in slides.items()}


@pytest.fixture(scope="module")
def converted(
    slides: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Path]]:
    """Return the files of the same slides as a scanner wrote them, level 0 first."""
    folder = tmp_path_factory.mktemp("dicom")
    return {stain: scanned_dicom(path, folder / stain, stain) for stain, path in slides.items()}


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Return findings on slides of the size of `write_svs`."""
    made = some_findings("S26-0042")
    shape = TileGrid.of(WIDTH * MPP, HEIGHT * MPP).centers_um().shape[:2]
    tile = replace(made.tiles[0], column=1, row=0, he_column=1, he_row=0)
    roi = replace(made.rois[0], outline_um=((143.0, 0.0), (286.0, 0.0), (286.0, 143.0)))
    rasters = Rasters(
        he_tumor=(her2_label_map() > 0).astype(np.uint8),
        he_mpp=1.0,
        ihc_classes=her2_label_map(),
        ihc_mpp=1.0,
        ihc_read=np.full(shape, SCORED, np.uint8),
        he_probability=np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape),
    )
    return replace(made, tiles=(tile,), rois=(roi,), rasters=rasters)


def scans_of(
    pair: Pair, slides: Mapping[str, Path], converted: Mapping[str, list[Path]], folder: Path
) -> dict[str, list[Path]]:
    """Return the files of each slide of a pair, level 0 first."""
    words = {"PatientName": pair.name, "PatientComments": pair.name}
    written = Written(pair.terms, GIVEN | words)
    found = {}
    for stain, svs in slides.items():
        found[stain] = [svs]
        if stain in pair.scanned:
            (folder / stain).mkdir()
            found[stain] = [
                rewritten(path, folder / stain / path.name, written, px=True)
                for path in converted[stain]
            ]
    return found


def write_pair(facts: Mapping[str, SlideFacts], findings: Findings, folder: Path) -> CaseObjects:
    """Write the objects of findings on two slides, of all kinds that settings can ask for."""
    settings = Settings(
        state_dir=folder / "state",
        objects=ObjectSettings(page_image=True, annotations=True, fractional=True),
    )
    return write_case(replace(findings, he=facts["HE"], ihc=facts["HER2"]), settings)


def all_objects(made: CaseObjects, folder: Path) -> list[Path]:
    """Return the files of a case's objects, with a note that rejects its results."""
    files = [made.root / item.path for item in made.objects]
    results = [
        dcmread(made.root / item.path, stop_before_pixels=True)
        for item in made.objects
        if item.kind != "WSM"
    ]
    note = build_rejection_note(
        results,
        title=codes.REJECTED_FOR_QUALITY,
        replaced_by="2.25.1",
        created=SCANNED,
        uid_seed="note",
        software="0.1.0",
    )
    note.save_as(folder / "note.dcm", enforce_file_format=True)
    return [*files, folder / "note.dcm"]


def faults(file: Path, pair: Pair) -> list[str]:
    """Return dciodvfy's errors, but for its limit of a long name.

    It counts 64 bytes for the whole name; 64 characters are the limit of each component group
    (PS3.5 6.2).
    """
    errors = dicom_errors(file)
    if len(pair.name.encode()) <= 64:
        return errors
    assert max(len(group) for group in pair.name.split("=")) <= 64
    about_name = "(0x0010,0x0010) PN", "Dicom dataset contains invalid data values for Value"
    return [error for error in errors if not any(each in error for each in about_name)]


def in_utf_8(file: Path, target: Path) -> Path:
    """Write the header of a file in UTF-8: dcentvfy compares bytes, whatever set they are in."""
    header = dcmread(file, stop_before_pixels=True)
    header.decode()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.save_as(target / f"utf-8-{file.name}", enforce_file_format=True)
    return target / f"utf-8-{file.name}"


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_every_object_of_a_pair_is_valid_and_read_by_every_reader(
    pair: Pair,
    slides: Mapping[str, Path],
    converted: Mapping[str, list[Path]],
    px: Mapping[str, NDArray[np.uint8]],
    findings: Findings,
    tmp_path: Path,
) -> None:
    scans = scans_of(pair, slides, converted, tmp_path)
    facts = {stain: open_facts(files[0]) for stain, files in scans.items()}
    made = write_pair(facts, findings, tmp_path)
    own_slides = {"WSM"} if len(pair.scanned) < len(slides) else set()
    assert {item.kind for item in made.objects} == KINDS | own_slides
    written = all_objects(made, tmp_path)
    scanned = [file for stain in pair.scanned for file in scans[stain]]
    assert {path.name: faults(path, pair) for path in written} == {p.name: [] for p in written}
    told = [in_utf_8(file, tmp_path) for file in scanned]
    assert entity_warnings([*told, *written]) == []
    # All name the patient as the scanner did, in UTF-8.
    for path, read in zip(written, read_by_dcmjs(written), strict=True):
        read_strictly(path)
        assert read_by_highdicom(path).SOPInstanceUID == read["SOPInstanceUID"]
        header = dcmread(path, stop_before_pixels=True)
        assert (str(header.PatientName), header.SpecificCharacterSet) == (pair.name, "ISO_IR 192")
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "AccessionNumber"):
            assert read[keyword] == header[keyword].value
        groups = [*pair.name.split("="), "", ""][:3]
        assert read["PatientName"] == groups and read["elements"] > 30
        if pair.scanned:
            joins(header)
    # The slides that were converted, and those that the scanner wrote, have the scan's px.
    own = {made.root / Path(item.path).parent for item in made.objects if item.kind == "WSM"}
    seen = []
    for folder in own | {file.parent for file in scanned}:
        shown = by_wsidicom(folder)
        assert furthest(shown, by_openslide(next(folder.glob("*.dcm")))) <= OFF
        seen += [stain for stain, svs in px.items() if furthest(shown, svs) <= OFF]
    assert sorted(seen) == sorted(slides)


@pytest.mark.skipif("TANDEM_PAIRS" not in os.environ, reason="minutes; TANDEM_PAIRS=1 runs it")
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_the_viewer_engine_opens_every_pair(
    pair: Pair,
    slides: Mapping[str, Path],
    converted: Mapping[str, list[Path]],
    px: Mapping[str, NDArray[np.uint8]],
    findings: Findings,
    orthanc: Orthanc,
    tmp_path: Path,
) -> None:
    """Both slides are shown in their colors, and each of their overlays paints something."""
    scans = scans_of(pair, slides, converted, tmp_path)
    made = write_pair({s: open_facts(f[0]) for s, f in scans.items()}, findings, tmp_path)
    written = [made.root / item.path for item in made.objects if item.kind != "ANN"]
    for file in (*written, *(file for stain in pair.scanned for file in scans[stain])):
        answer = requests.post(
            f"http://127.0.0.1:{orthanc.http_port}/instances", data=file.read_bytes(), timeout=60
        )
        answer.raise_for_status()
    found = orthanc.qido("series", Modality="SM")
    assert len(found) == len(slides)
    with open_viewer(orthanc.dicomweb_url) as viewer:
        seen = [shown_in(viewer, series, px) for series in found]
    assert sorted(seen) == sorted(slides)


def shown_in(viewer: Viewer, series: dict[str, Any], px: Mapping[str, NDArray[np.uint8]]) -> str:
    """Open a slide and each of its overlays; return the stain whose px are shown."""
    study, uid = (series[tag]["Value"][0] for tag in ("0020000D", "0020000E"))
    overlays = viewer.open(study, uid)
    bare = viewer.picture()
    (stain,) = [each for each, slide in px.items() if lies(bare, slide)]
    assert len(overlays) >= 2
    for overlay in overlays:
        viewer.show(overlay)
        changed = np.abs(viewer.picture().astype(int) - bare).max(axis=2) > CHANGED
        viewer.hide(overlay)
        assert changed.sum() > LEAST_PX, overlay.label
    return stain


def lies(picture: NDArray[np.uint8], slide: NDArray[np.uint8]) -> bool:
    """Return whether the slide is what the picture shows."""
    try:
        Screen.seen(picture, slide, (WIDTH, HEIGHT))
    except AssertionError:
        return False
    return True


def joins(header: Dataset) -> None:
    """Check that an object repeats what the scanner wrote of the patient and the study."""
    assert header.IssuerOfPatientID == "HOSP"
    qualifiers = header.IssuerOfPatientIDQualifiersSequence[0]
    assert qualifiers.UniversalEntityID == "1.2.276.0.99.5"
    assert header.OtherPatientIDsSequence[0].IssuerOfPatientID == "CLINIC"
    assert header.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "LAB"
    assert header.AccessionNumber == "S26-0042"


def furthest(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Return the largest difference of two pictures' px."""
    return int(np.abs(one.astype(int) - other).max())
