"""Label maps as DICOM Segmentation (PS3.3 A.51): BINARY, tiled, a small pyramid per label map."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom import codes
from dicom.errors import ObjectError
from dicom.uids import deterministic_uid

TILE_PX = 512
LEVEL_STEP = 4
"""Each coarser level has pixels so many times larger: still whole multiples of the slide's."""
COARSEST_PX = 300
"""No level is added below a longest side of so many pixels."""
CREATOR = "Tandem^^^^"
MANUFACTURER = "Tandem"
SERIAL = "1"
FIRST_SERIES_NUMBER = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmFacts:
    """Which network said it (TID 4019); `weights_sha256` identifies its weights."""

    name: str
    version: str
    weights_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFacts:
    """One segment; `number` is its value in the label map, from 1. `cielab` (L*, a*, b*)."""

    number: int
    label: str
    category: Code
    type: Code
    algorithm: AlgorithmFacts
    cielab: tuple[int, int, int]


def build_segmentation(
    *,
    source_images: Sequence[Dataset],
    label_map: NDArray[np.uint8],
    mpp: float,
    segments: Sequence[SegmentFacts],
    series_description: str,
    content_description: str,
    uid_seed: str,
    created: datetime,
    software: str,
) -> list[Dataset]:
    """One series of SEG instances: the label map and coarser copies of it, finest first.

    `label_map` uint8 (rows, cols), 0 background, starts at the slide's top left corner; its px is
    `mpp` µm, a whole multiple of the slide's. `source_images` are the slide's headers, level 0
    first. A label map without any segment gives a valid object with empty frames. Equal arguments
    make equal bytes.

    Raises
    ------
    ObjectError
        If `mpp` is no multiple of the slide's, or a value of the label map is no segment.
    """
    import highdicom as hd

    base = source_images[0]
    base_mpp = slide_mpp(base)
    factor = mpp / base_mpp
    if abs(factor - round(factor)) > 0.01 or factor < 0.99:
        raise ObjectError(f"{mpp:g} µm is no whole multiple of the slide's {base_mpp:g} µm")
    if int(label_map.max(initial=0)) > len(segments):
        raise ObjectError(
            f"the label map holds {label_map.max()}, there are {len(segments)} segments"
        )
    descriptions = [_description(segment) for segment in segments]
    series_uid = deterministic_uid(uid_seed, "series")
    pyramid_uid = deterministic_uid(uid_seed, "pyramid")
    made = []
    spacing_mm = round(factor) * float(_spacing(base)[0])
    for level, labels in enumerate(_levels(label_map)):
        with warnings.catch_warnings():
            # highdicom tells that frames are empty; we know, and empty maps are results too.
            warnings.simplefilter("ignore", UserWarning)
            dataset = hd.seg.Segmentation(
                source_images=[base],
                pixel_array=labels[None],
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=series_uid,
                series_number=FIRST_SERIES_NUMBER + int(base.get("SeriesNumber") or 1),
                sop_instance_uid=deterministic_uid(uid_seed, "instance", str(level)),
                instance_number=level + 1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name="Tandem HER2",
                software_versions=software,
                device_serial_number=SERIAL,
                content_description=content_description[:64],
                content_creator_name=CREATOR,
                content_label="HER2" if len(segments) > 1 else "TUMOR",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                pixel_measures=hd.PixelMeasuresSequence(
                    pixel_spacing=(spacing_mm, spacing_mm), slice_thickness=0.001
                ),
                tile_pixel_array=True,
                tile_size=(TILE_PX, TILE_PX),
                dimension_organization_type="TILED_SPARSE",
                omit_empty_frames=True,
                pyramid_uid=pyramid_uid,
            )
        _finish(dataset, series_description, created)
        made.append(dataset)
        spacing_mm *= LEVEL_STEP
    return made


def slide_mpp(image: Dataset) -> float:
    """µm per px of an image; rows' and columns' spacing must agree (ObjectError)."""
    rows, columns = _spacing(image)
    if abs(rows - columns) > 0.01 * rows:
        raise ObjectError("the slide's pixels are not square")
    return rows * 1000


def _spacing(image: Dataset) -> tuple[float, float]:
    rows, columns = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    return float(rows), float(columns)


def _levels(label_map: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The label map and coarser ones: the label in the middle of each block."""
    levels = [np.ascontiguousarray(label_map)]
    while max(levels[-1].shape) > COARSEST_PX * LEVEL_STEP:
        half = LEVEL_STEP // 2
        padded = np.pad(levels[-1], [(0, -n % LEVEL_STEP) for n in levels[-1].shape], mode="edge")
        levels.append(np.ascontiguousarray(padded[half::LEVEL_STEP, half::LEVEL_STEP]))
    return levels


def _description(segment: SegmentFacts) -> Dataset:
    import highdicom as hd

    description = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_identification(segment.algorithm),
        tracking_id=segment.label,
        tracking_uid=deterministic_uid("tracking", segment.label, segment.algorithm.weights_sha256),
        display_color=hd.color.CIELabColor(*segment.cielab),
    )
    assert isinstance(description, Dataset)  # noqa: S101  highdicom is untyped
    return description


def algorithm_identification(algorithm: AlgorithmFacts) -> Dataset:
    """Algorithm Identification Sequence: name, version, the weights' checksum as parameter."""
    import highdicom as hd

    sequence = hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:64],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        parameters={"weights_sha256": algorithm.weights_sha256},
    )
    assert isinstance(sequence, list | Sequence)  # noqa: S101
    return sequence


def _finish(dataset: Dataset, series_description: str, created: datetime) -> None:
    dataset.SeriesDescription = series_description[:64]
    dataset.PatientOrientation = None
    # highdicom draws this one at random.
    organization = deterministic_uid(dataset.SOPInstanceUID, "dimension organization")
    for item in [*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence]:
        item.DimensionOrganizationUID = organization
    stamp(dataset, created)


def stamp(dataset: Dataset, created: datetime) -> None:
    """All times of making are `created`: equal facts make equal bytes."""
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    for contribution in dataset.get("ContributingEquipmentSequence", []):
        contribution.ContributionDateTime = f"{date}{time}"
    for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        if keyword in dataset or keyword == "ContentDate":
            setattr(dataset, keyword, date)
    for keyword in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        if keyword in dataset or keyword == "ContentTime":
            setattr(dataset, keyword, time)
