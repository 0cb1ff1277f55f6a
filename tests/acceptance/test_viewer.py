"""A viewer for pathologists shows our results in the right place.

dicom-microscopy-viewer paints slide and overlays from Orthanc in Chromium. The painted picture is
compared with the appliance's label maps, projected to the screen by arithmetic of our own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import requests
from fixtures.case_objects import CaseObjects, true_findings, write_case
from fixtures.orthanc import Orthanc
from fixtures.slide_objects import (
    HEIGHT,
    MPP,
    WIDTH,
    her2_label_map,
    identity,
    segmentation,
    write_svs,
)
from fixtures.viewer import Overlay, Screen, Viewer, open_viewer
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import SCORED, Findings
from appliance.geometry import TILE_UM
from appliance.settings.settings import Settings
from dicom.source import convert_slide, read_headers
from models.synthesis.slides import SyntheticCase

OVERLAP = 0.9
"""Least intersection over union of the painted and the expected px, at overview."""

CHANGED = 8
"""A px counts as painted over if a channel changes by more than this."""
BLOCK_PX = 16
"""Edge of a block of the intensity heat map in px of the label map."""

MUST_BE = {"HE": ("Tumor",), "HER2": ("HER2 0", "HER2 1+", "HER2 2+", "HER2 3+")}
"""Overlays that every case has; any others are checked too."""
PICTURES = {"HE": ("viewer-he.png", "Tumor"), "HER2": ("viewer-ihc.png", "HER2 2+")}

pytestmark = [pytest.mark.judge, pytest.mark.slow]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("archive")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def viewer(archive: Orthanc) -> Iterator[Viewer]:
    with open_viewer(archive.dicomweb_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def case(
    small_case: SyntheticCase, archive: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> CaseObjects:
    """Put slides and results of a case into the archive."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"))
    made = write_case(true_findings(small_case), settings)
    for item in made.objects:
        store(archive, made.root / item.path)
    return made


def store(archive: Orthanc, path: Path) -> None:
    answer = requests.post(
        f"http://127.0.0.1:{archive.http_port}/instances", data=path.read_bytes(), timeout=300
    )
    answer.raise_for_status()


def thumbnail(slide: str) -> NDArray[np.uint8]:
    """Return an RGB thumbnail read by OpenSlide, neither by our reader nor by the viewer."""
    with openslide.OpenSlide(slide) as opened:
        return np.asarray(opened.get_thumbnail((1000, 1000)).convert("RGB"))


def segments(findings: Findings, stain: str) -> dict[str, tuple[NDArray[np.bool_], float]]:
    """Return, by segment label, the mask and its µm per px."""
    rasters = findings.rasters
    if stain == "HE":
        return {"Tumor": (rasters.he_tumor == 1, rasters.he_mpp)}
    return {
        f"HER2 {name}": (rasters.ihc_classes[:] == number, rasters.ihc_mpp)
        for number, name in enumerate(CLASS_NAMES, start=1)
    } | {"Tumor, scored (from H&E)": (rasters.ihc_read == SCORED, TILE_UM)}


def heat(findings: Findings, stain: str) -> tuple[NDArray[np.float32], float]:
    """Return a slide's heat map and its µm per px; 0 where there is no value."""
    rasters = findings.rasters
    if stain == "HE":
        return np.nan_to_num(rasters.he_probability), TILE_UM
    classes = rasters.ihc_classes[:].astype(np.float32)
    rows, columns = (n // BLOCK_PX for n in classes.shape)
    stained, area = (
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        for part in (np.maximum(classes - 1, 0), (classes > 0).astype(np.float32))
    )
    return stained / np.maximum(area, 1e-6), rasters.ihc_mpp * BLOCK_PX


def changed(painted: NDArray[np.uint8], bare: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.abs(painted.astype(int) - bare).max(axis=2) > CHANGED


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return intersection over union."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def photograph(viewer: Viewer, overlays: list[Overlay], stain: str) -> None:
    """Save pictures for the docs into the folder that TANDEM_SCREENSHOTS names."""
    if folder := os.environ.get("TANDEM_SCREENSHOTS"):
        name, label = PICTURES[stain]
        viewer.show(next(overlay for overlay in overlays if overlay.label == label), opacity=0.5)
        picture = Image.fromarray(viewer.picture(plain=False)).quantize(64)
        picture.save(Path(folder) / name, optimize=True)


@pytest.mark.parametrize("stain", ["HE", "HER2"])
def test_results_lie_on_their_tissue(stain: str, case: CaseObjects, viewer: Viewer) -> None:
    findings = case.findings
    facts = findings.he if stain == "HE" else findings.ihc
    # H&E is first.
    slide = [item for item in case.objects if item.kind == "WSM"][0 if stain == "HE" else -1]
    overlays = viewer.open(slide.study_uid, slide.series_uid)
    found = {}
    for overlay in overlays:
        viewer.show(overlay)
        painted = viewer.picture()
        viewer.hide(overlay)
        # After the segments, because showing a heat map may change the view's scale.
        bare = viewer.picture()
        screen = Screen.seen(bare, thumbnail(facts.path), (facts.width_px, facts.height_px))
        if overlay.kind == "Segment":
            mask, mpp = segments(findings, stain)[overlay.label]
            wanted = screen.project(mask.astype(np.uint8), mpp / facts.mpp) == 1
            shown = changed(painted, bare)
        else:
            values, mpp = heat(findings, stain)
            wanted = screen.project(values, mpp / facts.mpp, cv2.INTER_LINEAR) > values.max() / 2
            # The viewer chooses the colors, brighter for higher values: the brightest px are the
            # highest.
            light = np.where(screen.inside, painted.sum(axis=2, dtype=int), -1)
            shown = light > np.sort(light, axis=None)[-wanted.sum() - 1]
        found[f"{overlay.kind} {overlay.label}"] = round(overlap(shown, wanted), 3)
    print(found)
    photograph(viewer, overlays, stain)
    assert {overlay.label for overlay in overlays} >= set(MUST_BE[stain])
    assert min(found.values()) >= OVERLAP, found


def test_a_scanner_may_lay_the_slide_otherwise(
    tmp_path: Path, archive: Orthanc, viewer: Viewer
) -> None:
    """Use another orientation and origin than ours, a label map between the slide's levels, and a
    correction beside the object that it corrects.
    """
    slide = write_svs(tmp_path / "slide.svs")
    converted = convert_slide(slide, tmp_path / "wsm", identity(uid="2.25.7002"), mpp=MPP)
    for path in converted.paths:
        instance = dcmread(path)
        instance.ImageOrientationSlide = [-1, 0, 0, 0, 1, 0]
        origin = instance.TotalPixelMatrixOriginSequence[0]
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 31.0, 7.5
        instance.save_as(path)
        store(archive, path)
    labels = her2_label_map(HEIGHT // 2, WIDTH // 2)
    versions = [labels, np.where(labels > 0, labels % 4 + 1, 0).astype(np.uint8)]
    images = read_headers(list(converted.paths))
    for version in versions:
        for dataset in segmentation(images, version, mpp=2 * MPP):
            path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            store(archive, path)
    overlays = viewer.open(images[0].StudyInstanceUID, images[0].SeriesInstanceUID)
    bare = viewer.picture()
    screen = Screen.seen(bare, thumbnail(str(slide)), (WIDTH, HEIGHT))
    assert screen.turns % 2, "a quarter turn"
    shown = []
    for overlay in overlays:
        if overlay.label == "HER2 1+":
            viewer.show(overlay)
            shown.append(changed(viewer.picture(), bare))
            viewer.hide(overlay)
    for version in versions:
        wanted = screen.project((version == 2).astype(np.uint8), 2) == 1
        assert max(overlap(one, wanted) for one in shown) >= OVERLAP


def test_a_slide_in_parts_is_shown_to_its_finest_level(
    tmp_path: Path, archive: Orthanc, viewer: Viewer
) -> None:
    slide = write_svs(tmp_path / "slide.svs", seed=2)
    whose = identity(uid="2.25.7003")
    made = convert_slide(slide, tmp_path / "wsm", whose, mpp=MPP, max_bytes=60_000)
    for path in made.paths:
        store(archive, path)
    first, *_ = read_headers(list(made.paths))
    assert first.InConcatenationTotalNumber > 2
    viewer.open(first.StudyInstanceUID, first.SeriesInstanceUID)
    viewer.go_to_level_0()
    shown = viewer.picture().astype(int)
    with openslide.OpenSlide(slide) as opened:
        pixels = np.asarray(opened.read_region((0, 0), 0, (WIDTH, HEIGHT)).convert("RGB"))
    screens = [Screen((WIDTH, HEIGHT), turns, scale=1.0) for turns in range(4)]
    off = [np.abs(shown - one.project(pixels, 1.0))[one.inside].mean() for one in screens]
    assert min(off) <= 3.0, off
