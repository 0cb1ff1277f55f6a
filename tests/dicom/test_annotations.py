"""ANN: valid, read back by highdicom, every tile at its place on the slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from fixtures.judges import dicom_errors
from fixtures.slide_objects import ALGORITHM, MPP, SCANNED
from highdicom.spatial import ReferenceToPixelTransformer
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom.annotations import build_annotations
from dicom.errors import ObjectError

Save = Callable[[Dataset], Path]
TILES = {
    "NFW/1+": np.array([[0.0, 0.0, 143.0, 143.0], [143.0, 0.0, 286.0, 143.0]]),
    "N": np.array([[143.0, 143.0, 286.0, 275.0]]),
}  # µm


def annotations(image: Dataset, tiles_um: dict[str, NDArray[np.float64]] | None = None) -> Dataset:
    return build_annotations(
        TILES if tiles_um is None else tiles_um,
        image=image,
        algorithm=ALGORITHM,
        created=SCANNED,
        uid_seed="seed",
        software="0.1.0",
    )


def test_tiles_lie_where_they_were(ihc_images: list[Dataset], save: Save) -> None:
    base = ihc_images[0]
    path = save(annotations(base))
    assert dicom_errors(path) == []
    read = hd.ann.annread(path)
    assert read.FrameOfReferenceUID == base.FrameOfReferenceUID
    assert read.StudyInstanceUID == base.StudyInstanceUID
    assert "research use only" in read.SeriesDescription
    origin = base.TotalPixelMatrixOriginSequence[0]
    to_px = ReferenceToPixelTransformer(
        image_position=[
            float(origin.XOffsetInSlideCoordinateSystem),
            float(origin.YOffsetInSlideCoordinateSystem),
            0.0,
        ],
        image_orientation=[float(v) for v in base.ImageOrientationSlide],
        pixel_spacing=base.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing,
        round_output=False,
    )
    groups = read.get_annotation_groups()
    assert [group.label for group in groups] == ["N", "NFW/1+"]
    for group in groups:
        assert group.algorithm_identification.name == ALGORITHM.name
        boxes = TILES[group.label]
        drawn = group.get_graphic_data(coordinate_type="3D")
        assert len(drawn) == len(boxes) == group.number_of_annotations
        for corners, (left, top, right, bottom) in zip(drawn, boxes, strict=True):
            px = to_px(corners.astype(float))[:, :2] + 0.5  # from the first px's corner
            wanted = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) / MPP
            assert np.abs(px - wanted).max() < 0.1


def test_equal_tiles_are_equal_bytes_and_others_have_another_uid(
    ihc_images: list[Dataset], save: Save
) -> None:
    first = annotations(ihc_images[0])
    content = save(first).read_bytes()
    assert save(annotations(ihc_images[0])).read_bytes() == content
    moved = {label: boxes + 1 for label, boxes in TILES.items()}
    assert annotations(ihc_images[0], moved).SOPInstanceUID != first.SOPInstanceUID
    assert dcmread(save(first)).SOPInstanceUID == first.SOPInstanceUID


@pytest.mark.parametrize("tiles", [{}, {"N": np.zeros((0, 4))}, {"N": np.zeros((3, 2))}])
def test_what_makes_no_annotations_is_refused(
    tiles: dict[str, NDArray[np.float64]], ihc_images: list[Dataset]
) -> None:
    with pytest.raises(ObjectError):
        annotations(ihc_images[0], tiles)
