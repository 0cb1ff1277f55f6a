"""DICOM slides whose header states another resolution than a sidecar, or unequal axes.

Results count in px of the slide: they lie where the same px lie by the header, which viewers go by.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fixtures.findings import HEIGHT_PX, MPP, WIDTH_PX, some_findings
from fixtures.slide_objects import ALGORITHM, identity, segmentation, write_svs
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery.context import ObjectContext
from appliance.delivery.optional import optional_objects
from appliance.delivery.overlays import write_overlays
from appliance.delivery.structured_report import structured_report
from appliance.domain import HE, HER2, QuarantineReason
from appliance.errors import SlideError
from appliance.line.analyze_slide import identify_slide
from appliance.settings.objects import ObjectSettings
from appliance.settings.settings import Settings
from appliance.slides.resolution import stated_mpp
from dicom.errors import ObjectError
from dicom.source import convert_slide, read_headers


@pytest.fixture
def header(tmp_path: Path) -> Dataset:
    """Return a header of level 0 of a slide as large as the findings' slide."""
    done = convert_slide(write_svs(tmp_path / "a.svs"), tmp_path / "wsm", identity(), mpp=MPP)
    base = read_headers(done.paths)[0]
    base.TotalPixelMatrixColumns, base.TotalPixelMatrixRows = WIDTH_PX, HEIGHT_PX
    return base


def stated(header: Dataset, spacing_mm: list[float]) -> None:
    measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = spacing_mm


def objects(folder: Path, header: Dataset, mpp: float = MPP) -> dict[str, Dataset]:
    """Return all objects with places, by name; the findings are of slides read at `mpp`."""
    folder.mkdir()
    made = some_findings()
    slides = {name: replace(getattr(made, name), mpp=mpp) for name in ("he", "ihc")}
    context = ObjectContext(
        findings=replace(made, **slides),
        assay=HER2_ASSAY,
        sources={stain: [header] for stain in (HE, HER2)},
        algorithms=dict.fromkeys(("tumor", "intensity", "segmentation"), ALGORITHM),
        settings=ObjectSettings(heatmaps=True, fractional=True, annotations=True, report_pdf=False),
        created=datetime(2026, 3, 4, tzinfo=UTC),
        seed="seed",
        software="0.1.0",
    )
    found = {path.name: dcmread(path) for _, path in write_overlays(folder, context)}
    found["sr"] = structured_report(context, [], [], [])
    return found | dict(optional_objects(context, b"", found["sr"]))


def frames(overlay: Dataset) -> NDArray[np.float64]:
    """Column, row, x and y in mm from the origin, and px spacing of each frame of an overlay."""
    (start,) = overlay.TotalPixelMatrixOriginSequence
    spacing = overlay.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    places = [
        each.PlanePositionSlideSequence[0] for each in overlay.PerFrameFunctionalGroupsSequence
    ]
    return np.array(
        [
            [
                place.ColumnPositionInTotalImagePixelMatrix,
                place.RowPositionInTotalImagePixelMatrix,
                place.XOffsetInSlideCoordinateSystem - start.XOffsetInSlideCoordinateSystem,
                place.YOffsetInSlideCoordinateSystem - start.YOffsetInSlideCoordinateSystem,
                *spacing,
            ]
            for place in places
        ],
        dtype=float,
    )


def points(found: dict[str, Dataset], name: str, header: Dataset) -> NDArray[np.float64]:
    """Points (x, y) of outlines of the report, or of the tiles, in mm from the origin."""
    (start,) = header.TotalPixelMatrixOriginSequence
    origin = [float(start[f"{axis}OffsetInSlideCoordinateSystem"].value) for axis in "XY"]
    if name == "ANN":  # all lie at one z, which is stated once
        groups = found[name].AnnotationGroupSequence
        raw = np.concatenate([np.frombuffer(group.PointCoordinatesData, "<f4") for group in groups])
        return raw.astype(float).reshape(-1, 2) - origin
    (region,) = (item for item in walk(found[name]) if item.get("ValueType") == "SCOORD3D")
    return np.array(region.GraphicData, dtype=float).reshape(-1, 3)[:, :2] - origin


def walk(item: Dataset) -> list[Dataset]:
    found = list(item.get("ContentSequence", []))
    return found + [inner for each in found for inner in walk(each)]


def test_results_lie_on_the_px_where_a_sidecar_corrects_the_header(
    header: Dataset, tmp_path: Path
) -> None:
    right = objects(tmp_path / "right", header)
    tiles, outline = (points(right, name, header) for name in ("ANN", "sr"))
    stated(header, [2 * MPP / 1000] * 2)  # the header is off by a factor of two
    found = objects(tmp_path / "found", header)
    assert found.keys() == right.keys()
    overlays = [name for name in found if name.endswith(".dcm")]
    assert {name[:5] for name in overlays} == {"seg-h", "seg-i", "pm-he", "pm-ih"}
    for name in overlays:
        assert np.allclose(frames(found[name]), frames(right[name]) * [1, 1, 2, 2, 2, 2])
        for side in ("TotalPixelMatrixRows", "TotalPixelMatrixColumns"):
            assert found[name][side] == right[name][side]
    assert np.allclose(points(found, "ANN", header), 2 * tiles, atol=1e-4)
    assert np.allclose(points(found, "sr", header), 2 * outline)


def test_results_lie_on_the_px_of_a_slide_with_unequal_axes(
    header: Dataset, tmp_path: Path
) -> None:
    """Identify accepts 4 %, and reads the slide at the mean."""
    right = objects(tmp_path / "right", header)
    tiles, outline = (points(right, name, header) for name in ("ANN", "sr"))
    down, across = 1.02, 0.98
    spacing = [down * MPP / 1000, across * MPP / 1000]
    stated(header, spacing)
    properties = {"openslide.mpp-x": str(across * MPP), "openslide.mpp-y": str(down * MPP)}
    mpp = stated_mpp(properties, (WIDTH_PX, HEIGHT_PX))
    assert mpp == pytest.approx(MPP)
    found = objects(tmp_path / "found", header, mpp)
    # The slide lies on its side: rows follow one another along x, columns along y.
    for name in (name for name in found if name.endswith(".dcm")):
        expected = frames(right[name]) * [1, 1, down, across, down, across]
        assert np.allclose(frames(found[name]), expected)
    assert np.allclose(points(found, "ANN", header), tiles * [down, across], atol=1e-4)
    assert np.allclose(points(found, "sr", header), outline * [down, across])


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_raster_of_a_part_of_the_slide_is_refused(
    share: float, header: Dataset, tmp_path: Path
) -> None:
    labels = np.ones((round(HEIGHT_PX / 4 * share), round(WIDTH_PX / 4 * share)), dtype=np.uint8)
    with pytest.raises(ObjectError, match="do not lie on a slide of 18000 px"):
        segmentation([header], labels, mpp=4 * MPP)


@pytest.mark.parametrize("lacking", ["XOffsetInSlideCoordinateSystem", "PixelSpacing"])
@pytest.mark.parametrize("how", ["empty", "missing"])
def test_a_slide_that_cannot_bear_results_is_set_aside_at_identify(
    how: str, lacking: str, tmp_path: Path
) -> None:
    """Before anything is scored, also where a sidecar states the resolution."""
    made = convert_slide(write_svs(tmp_path / "a.svs"), tmp_path / "wsm", identity(), mpp=MPP)
    slide = max(made.paths, key=lambda path: int(dcmread(path).TotalPixelMatrixColumns))
    image = dcmread(slide)
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    holder = measures if lacking == "PixelSpacing" else image.TotalPixelMatrixOriginSequence[0]
    if how == "empty":
        setattr(holder, lacking, None)
    else:
        delattr(holder, lacking)
    image.save_as(slide, enforce_file_format=True)
    slide.with_suffix(".tandem.toml").write_text(
        f'accession = "S26-0042"\nblock = "A1"\nstain = "HER2"\nmpp = {MPP}\n'
    )
    with pytest.raises(SlideError, match=f"lacks {lacking}; export it again") as caught:
        identify_slide(slide, Settings(state_dir=tmp_path / "state"))
    assert caught.value.reason is QuarantineReason.MISSING_TAGS
