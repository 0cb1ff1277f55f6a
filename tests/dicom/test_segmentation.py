"""SEG: valid for the judges, in place on the slide, the label map unchanged when read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
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
    MPP,
    SCANNED,
    WIDTH,
    her2_label_map,
    her2_segments,
    layer,
    segmentation,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from dicom import codes
from dicom.errors import ObjectError
from dicom.fraction import write_fraction
from dicom.frames import survey
from dicom.segmentation import IN_MEMORY_PX, Form, Layer, SegmentFacts, pyramid_factors
from dicom.source import read_headers

Save = Callable[[Dataset], Path]

FALSE_ERRORS = {
    # TILED_FULL states these attributes by the order of its frames.
    Form.FULL: re.compile("Missing.*(PlanePos|PlaneOri|SegmentIdentification|PerFrameFunctional)"),
    # dciodvfy of 2022 does not know this class, whose background is segment 0.
    Form.LABELMAP: re.compile("Information Object Not found|SegmentNumber of 0"),
}
"""False errors of dciodvfy of 2022 on valid objects."""


def read_back(path: Path) -> NDArray[np.uint8]:
    """The label map as a reader of the file sees it."""
    opened = hd.seg.segread(path)
    labels: NDArray[np.uint8] = opened.get_total_pixel_matrix(combine_segments=True)
    return labels


def coarser(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(labels, [(0, -n % 4) for n in labels.shape], mode="edge")[2::4, 2::4]


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
    assert np.array_equal(read_back(paths[1]), coarser(labels))


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
        assert dataset.PatientOrientation == ""
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


def test_frames_have_the_functional_groups_that_highdicom_makes(ihc_images: list[Dataset]) -> None:
    base = ihc_images[0]
    labels = her2_label_map(HEIGHT, WIDTH)
    ours = segmentation(ihc_images, labels, mpp=MPP, factors=(1,))[0]
    theirs = hd.seg.Segmentation(
        source_images=[base],
        pixel_array=labels[None],
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription.from_dataset(item) for item in ours.SegmentSequence
        ],
        series_instance_uid="2.25.1",
        series_number=1,
        sop_instance_uid="2.25.2",
        instance_number=1,
        manufacturer="Tandem",
        manufacturer_model_name="Tandem",
        software_versions="1",
        device_serial_number="1",
        tile_pixel_array=True,
        tile_size=(512, 512),
        dimension_organization_type="TILED_SPARSE",
    )

    def frames(dataset: Dataset) -> dict[tuple[int, ...], tuple[list[float], bytes]]:
        items = dataset.PerFrameFunctionalGroupsSequence
        found = {}
        for number, item in enumerate(items):
            place = item.PlanePositionSlideSequence[0]
            key = (
                *item.FrameContentSequence[0].DimensionIndexValues,
                item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
                place.RowPositionInTotalImagePixelMatrix,
                place.ColumnPositionInTotalImagePixelMatrix,
            )
            names = [f"{axis}OffsetInSlideCoordinateSystem" for axis in "XYZ"]
            bits = dataset.PixelData[number * 32768 : (number + 1) * 32768]
            found[key] = ([float(place[name].value) for name in names], bits)
        assert len(found) == len(items) == dataset.NumberOfFrames
        return found

    expected, found = frames(theirs), frames(ours)
    assert found.keys() == expected.keys()
    for key, (offsets, bits) in expected.items():
        assert found[key][0] == pytest.approx(offsets, abs=1e-9)
        assert found[key][1] == bits
    assert ours.DimensionIndexSequence[0].DimensionIndexPointer == 0x0062000B


def test_segments_of_two_layers_overlap(ihc_images: list[Dataset], save: Save) -> None:
    classes, tumor = her2_label_map(), np.zeros_like(her2_label_map())
    tumor[40:200, 30:300] = 1
    (tumor_facts,) = tumor_segment()
    layers = [layer(classes), layer(tumor, [replace(tumor_facts, number=5)])]
    for factor, dataset in zip(
        (1, 4, 143),
        segmentation(ihc_images, classes, layers=layers, factors=(1, 4, 143)),
        strict=True,
    ):
        path = save(dataset)
        assert dicom_errors(path) == []
        assert dataset.SegmentsOverlap == "YES"
        opened = hd.seg.segread(path)
        assert opened.get_total_pixel_matrix(segment_numbers=[5]).shape[:2] == (
            -(-classes.shape[0] // factor),
            -(-classes.shape[1] // factor),
        )
        if factor == 1:
            assert np.array_equal(
                opened.get_total_pixel_matrix(segment_numbers=[1, 2, 3, 4], combine_segments=True),
                classes,
            )
            assert np.array_equal(opened.get_total_pixel_matrix(segment_numbers=[5])[..., 0], tumor)
            frame = pixel_array(path, index=0)
            assert np.array_equal(frame[: len(classes), : classes.shape[1]], classes == 1)


def test_a_large_map_is_read_by_bands_and_only_twice(ihc_images: list[Dataset]) -> None:
    """An IHC slide of 30,000 x 25,000 px: nothing asks for all its px at once."""
    base = ihc_images[0]
    base.TotalPixelMatrixRows, base.TotalPixelMatrixColumns = 25_000, 30_000
    labels = np.zeros((6250, 7500), dtype=np.uint8)
    labels[1020:1030, 7400:] = 3
    labels[6249, 0] = 1

    class Asked:
        shape, px = labels.shape, 0

        def __getitem__(self, place: tuple[slice, slice]) -> NDArray[np.uint8]:
            part = labels[place]
            assert len(part) <= 1024
            self.px += part.size
            return part

    asked = Asked()
    fine, coarse, tiles = segmentation(
        ihc_images,
        labels,
        layers=[Layer(labels=asked, segments=her2_segments())],
        factors=(1, 4, 128),
    )
    assert asked.px < 2.1 * labels.size
    places = [
        (
            item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            item.PlanePositionSlideSequence[0].RowPositionInTotalImagePixelMatrix,
            item.PlanePositionSlideSequence[0].ColumnPositionInTotalImagePixelMatrix,
        )
        for item in fine.PerFrameFunctionalGroupsSequence
    ]
    assert places == [(3, 513, 7169), (3, 1025, 7169), (1, 6145, 1)]
    assert (fine.TotalPixelMatrixRows, fine.TotalPixelMatrixColumns) == (6250, 7500)
    assert (coarse.TotalPixelMatrixRows, coarse.TotalPixelMatrixColumns) == (1563, 1875)
    assert (tiles.TotalPixelMatrixRows, tiles.TotalPixelMatrixColumns) == (49, 59)


def test_levels_beyond_the_limit_are_left_out_before_any_is_written(
    ihc_images: list[Dataset], save: Save
) -> None:
    labels = her2_label_map(HEIGHT, WIDTH)
    levels, _ = survey([labels], [4], (1, 4))
    made = segmentation(ihc_images, labels, mpp=MPP)
    sizes = [save(dataset).stat().st_size for dataset in made]
    assert all(a <= b.expected_bytes for a, b in zip(sizes, levels, strict=True))
    limit = levels[0].expected_bytes - 1
    (kept,) = segmentation(ihc_images, labels, mpp=MPP, max_bytes=limit)
    assert kept.TotalPixelMatrixRows == HEIGHT // 4
    with pytest.raises(ObjectError, match="even the coarsest"):
        segmentation(ihc_images, labels, mpp=MPP, max_bytes=1000)
    finest, coarser = (len(level.frames) for level in levels)
    assert len(segmentation(ihc_images, labels, mpp=MPP, max_frames=finest)) == 2
    (kept,) = segmentation(ihc_images, labels, mpp=MPP, max_frames=finest - 1)
    assert kept.NumberOfFrames == coarser


@pytest.mark.parametrize("form", [Form.FULL, Form.LABELMAP])
def test_other_forms_are_read_back_too(form: Form, ihc_images: list[Dataset], save: Save) -> None:
    labels = her2_label_map()
    for factor, dataset in zip((1, 4), segmentation(ihc_images, labels, form=form), strict=True):
        path = save(dataset)
        assert [line for line in dicom_errors(path) if not FALSE_ERRORS[form].search(line)] == []
        assert np.array_equal(read_back(path), labels if factor == 1 else coarser(labels))
    tumor = layer(np.minimum(labels, 1), [replace(tumor_segment()[0], number=5)])
    with pytest.raises(ObjectError, match="one layer"):
        segmentation(ihc_images, labels, form=form, layers=[layer(labels), tumor])


def test_levels_that_are_made_in_memory_are_small(ihc_images: list[Dataset]) -> None:
    rows, columns = IN_MEMORY_PX // 1000, 1001
    ihc_images[0].TotalPixelMatrixRows, ihc_images[0].TotalPixelMatrixColumns = 4 * rows, 4004
    labels = np.broadcast_to(np.uint8(0), (rows, columns))
    (kept,) = segmentation(ihc_images, labels, form=Form.LABELMAP)
    assert kept.TotalPixelMatrixColumns == 251


def test_a_probability_is_read_back_in_steps(he_images: list[Dataset], tmp_path: Path) -> None:
    probability = np.linspace(0, 1, 8 * 10, dtype=np.float32).reshape(8, 10)
    path = tmp_path / "fraction.dcm"
    write_fraction(
        path,
        source_images=he_images,
        probability=np.where(probability < 0.1, np.nan, probability),
        mpp=MPP * 140,
        segment=tumor_segment()[0],
        series_description="Tumor probability",
        content_description="Tumor probability",
        uid_seed="seed",
        created=SCANNED,
        software="0.1.0",
    )
    assert dicom_errors(path) == []
    found = hd.seg.segread(path).get_total_pixel_matrix()[..., 0]
    wanted = np.where(probability < 0.1, 0, probability)
    np.testing.assert_allclose(found, wanted, atol=0.5 / 255 + 1e-6)


def test_levels_go_from_the_finest_wanted_to_a_px_per_tile() -> None:
    assert pyramid_factors(1.0, finest_um=0, coarsest_um=143) == (1, 4, 16, 64, 143)
    assert pyramid_factors(1.117, finest_um=0, coarsest_um=142.99) == (1, 4, 16, 64, 128)
    assert pyramid_factors(1.117, finest_um=4.468, coarsest_um=142.99) == (4, 16, 64, 128)
    assert pyramid_factors(4.5, finest_um=0, coarsest_um=143) == (1, 4, 16, 32)
    assert pyramid_factors(1.0, finest_um=500, coarsest_um=143) == (143,)


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
