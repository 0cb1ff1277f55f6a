"""SEG: valid for the judges, in the slide's place, and the very label map when read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from fixtures.judges import dicom_errors
from fixtures.slide_objects import (
    ALGORITHM,
    HEIGHT,
    MAP_MPP,
    WIDTH,
    her2_label_map,
    her2_segments,
    segmentation,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom import codes
from dicom.errors import ObjectError
from dicom.segmentation import SegmentFacts
from dicom.source import read_headers

Save = Callable[[Dataset], Path]


def read_back(path: Path) -> NDArray[np.uint8]:
    """The label map as a reader of the file sees it."""
    opened = hd.seg.segread(path)
    labels: NDArray[np.uint8] = opened.get_total_pixel_matrix(combine_segments=True)
    return labels


def tumor_segment() -> list[SegmentFacts]:
    return [
        SegmentFacts(
            number=1,
            label="Tumor",
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            type=codes.NEOPLASM,
            algorithm=ALGORITHM,
            cielab=(55, 60, 40),
        )
    ]


def test_her2_classes_are_read_back_exactly(ihc_images: list[Dataset], save: Save) -> None:
    labels = her2_label_map()
    made = segmentation(ihc_images, labels)
    paths = [save(dataset) for dataset in made]
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    assert np.array_equal(read_back(paths[0]), labels)
    # The coarser one: the label in the middle of each block of 4 x 4.
    coarse = np.pad(labels, [(0, -n % 4) for n in labels.shape], mode="edge")[2::4, 2::4]
    assert np.array_equal(read_back(paths[1]), coarse)


def test_series_is_a_pyramid_in_the_slides_frame(ihc_images: list[Dataset]) -> None:
    base = ihc_images[0]
    made = segmentation(ihc_images, her2_label_map())
    assert len(made) == 2
    assert {d.FrameOfReferenceUID for d in made} == {base.FrameOfReferenceUID}
    assert len({d.SeriesInstanceUID for d in made}) == len({d.PyramidUID for d in made}) == 1
    assert {d.StudyInstanceUID for d in made} == {base.StudyInstanceUID}
    for dataset, factor in zip(made, (4, 16), strict=True):
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert [float(v) for v in measures.PixelSpacing] == pytest.approx([0.00025 * factor] * 2)
        assert dataset.TotalPixelMatrixOriginSequence == base.TotalPixelMatrixOriginSequence
        assert dataset.ImageOrientationSlide == base.ImageOrientationSlide
        assert dataset.SegmentationType == "BINARY"
        assert dataset.DimensionOrganizationType == "TILED_SPARSE"
        assert dataset.PatientOrientation is None
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert [s.SegmentLabel for s in dataset.SegmentSequence] == [
            "HER2 0",
            "HER2 1+",
            "HER2 2+",
            "HER2 3+",
        ]
        algorithm = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
            ALGORITHM.name,
            ALGORITHM.version,
        )
        assert ALGORITHM.weights_sha256 in algorithm.AlgorithmParameters


def test_frames_lie_where_the_label_map_says(ihc_images: list[Dataset]) -> None:
    """One px of tumor in a corner is one frame, at that corner's place on the slide."""
    base = ihc_images[0]
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[1050, 1300] = 1
    fine = segmentation(ihc_images, labels, mpp=0.25, segments=tumor_segment())[0]
    assert fine.NumberOfFrames == 1
    place = fine.PerFrameFunctionalGroupsSequence[0].PlanePositionSlideSequence[0]
    column = int(place.ColumnPositionInTotalImagePixelMatrix)
    row = int(place.RowPositionInTotalImagePixelMatrix)
    assert (column, row) == (1025, 1025)
    origin = base.TotalPixelMatrixOriginSequence[0]
    # Orientation 0\-1\0\-1\0\0: columns run along -y, rows along -x.
    assert float(place.XOffsetInSlideCoordinateSystem) == pytest.approx(
        float(origin.XOffsetInSlideCoordinateSystem) - 1024 * 0.00025
    )
    assert float(place.YOffsetInSlideCoordinateSystem) == pytest.approx(
        float(origin.YOffsetInSlideCoordinateSystem) - 1024 * 0.00025
    )


@pytest.mark.parametrize("mpp", [0.25, 1.0, 4.0])
def test_tumor_at_every_resolution(mpp: float, he_images: list[Dataset], save: Save) -> None:
    factor = round(mpp / 0.25)
    shape = (-(-HEIGHT // factor), -(-WIDTH // factor))
    labels = (np.indices(shape).sum(0) // 30 % 2).astype(np.uint8)
    made = segmentation(he_images, labels, mpp=mpp, segments=tumor_segment())
    paths = [save(dataset) for dataset in made]
    assert len(paths) > 1
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    assert np.array_equal(read_back(paths[0]), labels)


@pytest.mark.parametrize("present", [(), (2,)])
def test_absent_classes_still_make_a_valid_object(
    present: tuple[int, ...], ihc_images: list[Dataset], save: Save
) -> None:
    labels = np.zeros_like(her2_label_map())
    for number in present:
        labels[10:60, 10:90] = number
    paths = [save(dataset) for dataset in segmentation(ihc_images, labels)]
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    assert np.array_equal(read_back(paths[0]), labels)


def test_equal_facts_are_equal_bytes(ihc_images: list[Dataset], save: Save) -> None:
    labels = her2_label_map()
    first = [save(dataset).read_bytes() for dataset in segmentation(ihc_images, labels)]
    again = [save(dataset).read_bytes() for dataset in segmentation(ihc_images, labels)]
    assert first == again
    labels[0, 0] = (labels[0, 0] + 1) % 5
    changed = segmentation(ihc_images, labels)
    assert not {d.SOPInstanceUID for d in changed} & {
        d.SOPInstanceUID for d in segmentation(ihc_images, her2_label_map())
    }


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        (her2_label_map(), {"mpp": 0.6}, "no whole multiple"),
        (her2_label_map(), {"mpp": 1.003}, "no whole multiple"),
        (her2_label_map(), {"mpp": 4.0}, "another slide"),
        (her2_label_map(), {"segments": her2_segments()[:3]}, "the label map holds 4"),
        (her2_label_map(), {"segments": her2_segments()[::-1]}, "must be numbered"),
        (her2_label_map(), {"segments": []}, "must be numbered"),
        (her2_label_map().astype(np.int32), {}, "uint8"),
        (np.zeros((0, 0), dtype=np.uint8), {}, "at least one px"),
    ],
)
def test_facts_that_make_no_object_are_refused(
    labels: NDArray[np.uint8], changes: dict[str, Any], message: str, ihc_images: list[Dataset]
) -> None:
    with pytest.raises(ObjectError, match=message):
        segmentation(ihc_images, labels, **({"mpp": MAP_MPP} | changes))


def test_on_a_scanners_own_dicom(real: Path, save: Save) -> None:
    """A scanner's own header, older than ours and lacking much, still carries a valid SEG."""
    headers = read_headers([real / "slides" / "sm_image.dcm"])
    labels = (np.indices((25, 25)).sum(0) % 5).astype(np.uint8)
    paths = [save(dataset) for dataset in segmentation(headers, labels, mpp=0.998)]
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    assert np.array_equal(read_back(paths[0]), labels)
