"""A scan of 60 x 26 mm, larger than the glass that converters assume: places in mm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fixtures.judges import dicom_errors
from fixtures.slide_objects import identity, report, report_facts, segmentation
from numpy.typing import NDArray
from pydicom import Dataset

from appliance.slides.general import pyramid_of
from benchmarks.scanner.mirax import mirax
from benchmarks.scanner.tiff_formats import (
    aperio_svs,
    generic_tiff,
    hamamatsu_ndpi,
    philips_tiff,
)
from benchmarks.scanner.tissue import Section
from dicom.source import ENCODED_AGAIN, PASSED_THROUGH, convert_slide, read_headers

WIDTH_PX, HEIGHT_PX, MPP = 1500, 650, 40.0
SIZE_MM = (60.0, 26.0)
ORIENTATIONS = [
    [0, -1, 0, -1, 0, 0],
    [0, 1, 0, 1, 0, 0],
    [1, 0, 0, 0, 1, 0],
    [-1, 0, 0, 0, -1, 0],
    [1, 0, 0, 0, -1, 0],
    [-1, 0, 0, 0, 1, 0],
    [0, 1, 0, -1, 0, 0],
    [0, -1, 0, 1, 0, 0],
]
"""Directions of rows and columns, (x, y, z) each: four turns, and the same mirrored."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """Datasets of the converted slide, level 0 first."""
    folder = tmp_path_factory.mktemp("large")
    blocks = np.random.default_rng(2).integers(90, 250, (33, 75, 3), dtype=np.uint8)
    fine = np.kron(blocks, np.ones((20, 20, 1), dtype=np.uint8))[:HEIGHT_PX]
    with tifffile.TiffWriter(folder / "slide.svs") as tiff:
        for step in (1, 4):
            tiff.write(
                np.ascontiguousarray(fine[::step, ::step]),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                description=f"Aperio Image Library v12\r\n{WIDTH_PX}x{HEIGHT_PX} |MPP = {MPP}",
                metadata=None,
                software=False,
            )
    with pyramid_of(folder / "slide.svs") as pyramid:
        made = convert_slide(
            folder / "slide.svs", folder / "dicom", identity(), mpp=MPP, pyramid=pyramid
        )
    assert made.how == PASSED_THROUGH
    assert [dicom_errors(path) for path in made.paths] == [[] for _ in made.paths]
    return read_headers(made.paths)


FORMATS: dict[str, tuple[Callable[[Section], bytes] | None, str]] = {
    "svs": (aperio_svs, PASSED_THROUGH),
    "tif": (generic_tiff, PASSED_THROUGH),
    "ndpi": (hamamatsu_ndpi, PASSED_THROUGH),
    "tiff": (philips_tiff, PASSED_THROUGH),
    "mrxs": (None, ENCODED_AGAIN),
}
"""Single files of four brands; a folder of the fifth, which the converter reads by OpenSlide."""


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_scan_of_any_brand_lies_on_the_glass(suffix: str, tmp_path: Path) -> None:
    blocks = np.random.default_rng(2).integers(90, 250, (7, 15, 3), dtype=np.uint8)
    pixels = np.kron(blocks, np.ones((100, 100, 1), dtype=np.uint8))[:HEIGHT_PX]
    section = Section(stain="HER2", score="2+", pixels=pixels, mpp=MPP)
    slide = tmp_path / f"slide.{suffix}"
    encode, how = FORMATS[suffix]
    files = mirax(section) if encode is None else {"": encode(section)}
    for name, content in files.items():
        file = tmp_path / "slide" / name if name else slide
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    with pyramid_of(slide) as pyramid:
        made = convert_slide(slide, tmp_path / "dicom", identity(), mpp=MPP, pyramid=pyramid)
    assert made.how == how
    assert [dicom_errors(path) for path in made.paths] == [[] for _ in made.paths]
    levels = read_headers(made.paths)
    assert len(levels) > 1
    assert len({tuple(origin(image)) for image in levels}) == 1
    (size_mm,) = {(image.ImagedVolumeWidth, image.ImagedVolumeHeight) for image in levels}
    # A file of MRXS holds whole pictures of the camera.
    assert size_mm == pytest.approx(SIZE_MM if encode else (51.2, 20.48))
    assert_on_glass(levels)


def assert_on_glass(levels: list[Dataset]) -> None:
    """Check that no corner of an image lies beside the glass."""
    for image in levels:
        size_mm = (image.ImagedVolumeWidth, image.ImagedVolumeHeight)
        steps = [np.multiply(corner, size_mm) for corner in np.ndindex(2, 2)]
        assert np.min([origin(image) + step @ axes(image) for step in steps]) >= -1e-6


def origin(image: Dataset) -> NDArray[np.float64]:
    (start,) = image.TotalPixelMatrixOriginSequence
    return np.array(
        [start.XOffsetInSlideCoordinateSystem, start.YOffsetInSlideCoordinateSystem], dtype=float
    )


def axes(image: Dataset) -> NDArray[np.float64]:
    """Directions of rows and of columns, (x, y) each."""
    return np.array(image.ImageOrientationSlide, dtype=float).reshape(2, 3)[:, :2]


def test_a_converted_scan_lies_on_the_glass(large: list[Dataset]) -> None:
    assert len(large) == 2
    assert len({tuple(origin(image)) for image in large}) == 1
    for image in large:
        assert (image.ImagedVolumeWidth, image.ImagedVolumeHeight) == SIZE_MM
    assert_on_glass(large)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_overlays_lie_where_the_scan_lies(orientation: list[int], large: list[Dataset]) -> None:
    """Frames and outlines of objects over a scanner's slide that lies in any of eight ways."""
    image = replace_place(large[0], orientation)
    labels = np.ones((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    fine, coarse = segmentation([image], labels, mpp=MPP)
    for overlay in (fine, coarse):
        measures = overlay.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        spacing_mm = float(measures.PixelSpacing[0])
        assert np.array_equal(origin(overlay), origin(image))
        for column, row, x, y in places(overlay):
            assert np.allclose(
                [x, y], origin(image) + spacing_mm * np.array([column, row]) @ axes(image)
            )
            assert min(x, y) >= 0 and max(x, y) <= max(SIZE_MM)
    # The last frame begins at row 512 and column 1024 of level 0.
    *_, (column, row, _, _) = sorted(places(fine))
    assert (column, row) == (1024, 512)
    outline = np.array([[0.0, 0.0], [60_000.0, 0.0], [60_000.0, 26_000.0]])
    roi = replace(report_facts().rois[0], outline_um=outline)
    read = report([], [image], [], report_facts(rois=[roi]))
    (region,) = (each for each in walk(read) if each.get("ValueType") == "SCOORD3D")
    points = np.array(region.GraphicData, dtype=float).reshape(-1, 3)[:3, :2]
    # The origin is the center of the first px.
    assert np.allclose(points, origin(image) + (outline / 1000 - MPP / 2000) @ axes(image))


def replace_place(image: Dataset, orientation: list[int]) -> Dataset:
    """Return a header whose image begins at the corner from which it covers the glass."""
    made = Dataset()
    made.update(image)
    made.file_meta = image.file_meta
    made.ImageOrientationSlide = orientation
    start = Dataset()
    along = np.array(orientation, dtype=float).reshape(2, 3)
    least = np.minimum(0, along * np.array(SIZE_MM)[:, None]).sum(axis=0)
    start.XOffsetInSlideCoordinateSystem, start.YOffsetInSlideCoordinateSystem = (
        -least[:2]
    ).tolist()
    made.TotalPixelMatrixOriginSequence = [start]
    return made


def places(overlay: Dataset) -> Iterator[tuple[int, int, float, float]]:
    """Yield column and row of each frame from 0, and its place in mm."""
    for frame in overlay.PerFrameFunctionalGroupsSequence:
        (place,) = frame.PlanePositionSlideSequence
        yield (
            int(place.ColumnPositionInTotalImagePixelMatrix) - 1,
            int(place.RowPositionInTotalImagePixelMatrix) - 1,
            float(place.XOffsetInSlideCoordinateSystem),
            float(place.YOffsetInSlideCoordinateSystem),
        )


def walk(item: Dataset) -> Iterator[Dataset]:
    for each in item.get("ContentSequence", []):
        yield each
        yield from walk(each)
