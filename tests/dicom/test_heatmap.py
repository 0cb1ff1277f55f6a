"""Parametric Maps: valid for the judges, values and colors unchanged when read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.judges import dicom_errors
from fixtures.orthanc import Orthanc
from fixtures.slide_objects import HEIGHT, SCANNED, WIDTH
from highdicom.pm.sop import pmread
from numpy.typing import NDArray
from pydicom import Dataset

from dicom import codes
from dicom.association import PacsAddress
from dicom.errors import ObjectError
from dicom.heatmap import HeatLevel, build_heatmap
from dicom.pacs import store
from dicom.status import Outcome

Save = Callable[[Dataset], Path]
CIELAB = ((70, -10, -30), (85, 0, 60), (65, 30, 60), (40, 40, 30))


def some_values(rows: int, columns: int) -> NDArray[np.float32]:
    """A slope from 0 to 3 with a hole, and nothing at all right of column 128."""
    values = np.linspace(0, 3, rows * columns, dtype=np.float32).reshape(rows, columns)
    values[20:40, 30:60] = np.nan
    values[:, 128:] = np.nan
    return values


def heatmap(images: list[Dataset], levels: list[HeatLevel], **changes: Any) -> list[Dataset]:
    facts: dict[str, Any] = {
        "source_images": images,
        "levels": levels,
        "highest": 3.0,
        "quantity": codes.STAIN_INTENSITY,
        "label": "HER2 intensity",
        "series_description": "HER2 intensity (research use only)",
        "content_description": "Mean class of tumor",
        "uid_seed": "seed",
        "created": SCANNED,
        "software": "0.1.0",
    }
    return build_heatmap(**(facts | changes))


def whole(opened: Any) -> NDArray[np.uint16]:
    """The stored values, each frame at its place; highdicom itself wants frames everywhere."""
    frames = opened.get_stored_frames()
    rows, columns = int(opened.TotalPixelMatrixRows), int(opened.TotalPixelMatrixColumns)
    made = np.zeros((rows + 128, columns + 128), dtype=np.uint16)
    for frame, item in zip(frames, opened.PerFrameFunctionalGroupsSequence, strict=True):
        place = item.PlanePositionSlideSequence[0]
        y = place.RowPositionInTotalImagePixelMatrix - 1
        x = place.ColumnPositionInTotalImagePixelMatrix - 1
        made[y : y + 128, x : x + 128] = frame
    return made[:rows, :columns]


def levels() -> list[HeatLevel]:
    """Levels at 8 and 64 px of the slide; the finest is larger than a frame."""
    return [
        HeatLevel(values=some_values(-(-HEIGHT // px), -(-WIDTH // px)), mpp=0.25 * px)
        for px in (8, 64)
    ]


def test_values_are_read_back_where_they_lie(ihc_images: list[Dataset], save: Save) -> None:
    base, wanted = ihc_images[0], levels()
    made = heatmap(ihc_images, wanted)
    assert len(made) == 2
    for dataset, level in zip(made, wanted, strict=True):
        path = save(dataset)
        assert dicom_errors(path) == []
        opened = pmread(path)
        found = whole(opened)
        (mapping,) = opened.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
        read = found >= mapping.RealWorldValueFirstValueMapped
        assert found.shape == level.values.shape
        assert np.array_equal(read, np.isfinite(level.values))
        assert mapping.RealWorldValueSlope == pytest.approx(3 / 65535)
        values = found * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        np.testing.assert_allclose(values[read], level.values[read], atol=3.1 / 65535)
        assert opened.FrameOfReferenceUID == base.FrameOfReferenceUID
        assert opened.TotalPixelMatrixOriginSequence == base.TotalPixelMatrixOriginSequence
        spacing = opened.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        assert [float(v) for v in spacing] == pytest.approx([level.mpp / 1000] * 2)
        assert opened.ImageType[3] == "NONE"
    # 138 x 175 values: two of four tiles hold any.
    assert made[0].NumberOfFrames == 2
    assert len({d.SeriesInstanceUID for d in made}) == len({d.PyramidUID for d in made}) == 1


def test_frames_state_their_place_on_the_slide(ihc_images: list[Dataset]) -> None:
    base = ihc_images[0]
    fine = heatmap(ihc_images, levels())[0]
    place = fine.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0]
    assert place.ColumnPositionInTotalImagePixelMatrix == 1
    assert place.RowPositionInTotalImagePixelMatrix == 129
    origin = base.TotalPixelMatrixOriginSequence[0]
    # Orientation 0\-1\0\-1\0\0: rows run along -x.
    assert float(place.XOffsetInSlideCoordinateSystem) == pytest.approx(
        float(origin.XOffsetInSlideCoordinateSystem) - 128 * 0.002
    )
    assert float(place.YOffsetInSlideCoordinateSystem) == pytest.approx(
        float(origin.YOffsetInSlideCoordinateSystem)
    )


def test_a_palette_has_distinct_colors_and_white_for_what_was_not_read(
    ihc_images: list[Dataset], save: Save
) -> None:
    plain = heatmap(ihc_images, levels())[0]
    assert plain.PixelPresentation == "MONOCHROME"
    fine = heatmap(ihc_images, levels(), cielab=CIELAB)[0]
    assert fine.PixelPresentation == "COLOR_RANGE"
    # dciodvfy of 2022 knows palettes in other images only, and takes a number for a word.
    for line in dicom_errors(path := save(fine)):
        assert re.search("PaletteColorLookupTable(Descriptor|Data)|Non-string attribute", line), (
            line
        )
    names = [f"{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")]
    palette = np.stack([np.frombuffer(fine[name].value, dtype="<u2") for name in names], axis=1)
    shown = palette[whole(pmread(path))]
    shown = shown / 65535
    assert np.allclose(shown[30, 40], 1)
    first, last = shown[0, 0], shown[-1, 127]
    yellow = shown[len(shown) // 3, 10]
    assert first[2] > first[0]
    assert last[0] > 2 * last[2]
    assert min(yellow[0], yellow[1]) > yellow[2] + 0.2


def test_equal_values_are_equal_bytes_and_other_values_other_uids(
    ihc_images: list[Dataset], save: Save
) -> None:
    first, again = (
        [save(dataset).read_bytes() for dataset in heatmap(ihc_images, levels())] for _ in range(2)
    )
    assert first == again
    changed = levels()
    changed[0].values[0, 0] = 1.5
    uids = {d.SOPInstanceUID for d in heatmap(ihc_images, levels())}
    assert not uids & {d.SOPInstanceUID for d in heatmap(ihc_images, changed)}
    assert not uids & {d.SOPInstanceUID for d in heatmap(ihc_images, levels(), cielab=CIELAB)}


def test_nothing_read_is_no_object(ihc_images: list[Dataset]) -> None:
    empty = HeatLevel(values=np.full((6, 7), np.nan, np.float32), mpp=50.0)
    assert heatmap(ihc_images, [empty]) == []


@pytest.mark.parametrize(
    ("value", "mpp", "message"), [(3.1, 50.0, "within 0 and 3"), (1.0, 0.6, "no whole multiple")]
)
def test_values_that_make_no_object_are_refused(
    value: float, mpp: float, message: str, ihc_images: list[Dataset]
) -> None:
    level = HeatLevel(values=np.full((5, 5), value, np.float32), mpp=mpp)
    with pytest.raises(ObjectError, match=message):
        heatmap(ihc_images, [level])


def test_orthanc_takes_and_serves_them(
    ihc_images: list[Dataset], save: Save, orthanc: Orthanc
) -> None:
    paths = [save(dataset) for dataset in heatmap(ihc_images, levels())]
    address = PacsAddress(host="127.0.0.1", port=orthanc.dicom_port, called_aet="ORTHANC")
    outcomes: dict[Path, Outcome] = {}
    store(address, paths, before=lambda _path: None, after=outcomes.__setitem__)
    assert {outcome.status for outcome in outcomes.values()} == {0}
    found = orthanc.qido("instances", includefield="00080016")
    assert [item["00080016"]["Value"][0] for item in found] == ["1.2.840.10008.5.1.4.1.1.30"] * 2
