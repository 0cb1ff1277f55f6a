"""Label maps as DICOM Segmentation (PS3.3 A.51): BINARY, tiled, a small pyramid per label map."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
"""No second coarser level is added below a longest side of so many pixels."""
CREATOR = "Tandem^^^^"
MANUFACTURER = "Tandem"
SERIAL = "1"
CHARACTER_SET = "ISO_IR 192"
"""UTF-8, whatever the slide's: our texts hold µ and ≥."""
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
        If `mpp` is no multiple of the slide's, the label map does not lie on the slide, its values
        are no segments, or the segments are not numbered 1, 2, ….
    """
    import highdicom as hd

    base = source_images[0]
    factor = _factor(base, label_map, mpp)
    _check_segments(label_map, segments)
    digest = hashlib.sha256(np.ascontiguousarray(label_map).tobytes()).digest()
    # Of what the objects state, so that a changed label map can never keep its UIDs.
    seed = (uid_seed, str(base.SOPInstanceUID), digest, repr(mpp), created.isoformat(), software)
    descriptions = [_description(segment, seed) for segment in segments]
    series_uid = deterministic_uid(*seed, "series")
    pyramid_uid = deterministic_uid(*seed, "pyramid")
    made: list[Dataset] = []
    spacing_mm = tuple(factor * value for value in _spacing(base))
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
                sop_instance_uid=deterministic_uid(*seed, "instance", str(level)),
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
                    pixel_spacing=spacing_mm, slice_thickness=0.001
                ),
                tile_pixel_array=True,
                tile_size=(TILE_PX, TILE_PX),
                dimension_organization_type="TILED_SPARSE",
                omit_empty_frames=True,
                pyramid_uid=pyramid_uid,
            )
        _finish(dataset, series_description, created)
        made.append(dataset)
        spacing_mm = tuple(LEVEL_STEP * value for value in spacing_mm)
    return made


def _factor(base: Dataset, label_map: NDArray[np.uint8], mpp: float) -> int:
    """How many px of the slide one px of the label map is wide."""
    base_mpp = slide_mpp(base)
    factor = max(1, round(mpp / base_mpp))
    # Rounding errors add up over the slide: at its far edge they must stay under half a px.
    drift_px = abs(mpp / base_mpp / factor - 1) * max(label_map.shape)
    if drift_px > 0.5:
        raise ObjectError(f"{mpp:g} µm is no whole multiple of the slide's {base_mpp:g} µm")
    size = (int(base.TotalPixelMatrixRows), int(base.TotalPixelMatrixColumns))
    for what, cells, px in zip(("rows", "columns"), label_map.shape, size, strict=True):
        # One more than covers the slide is padding; beyond that it belongs to another slide.
        if cells > -(-px // factor) + 1:
            raise ObjectError(
                f"{cells} {what} of {factor} px do not lie on a slide of {px} px; the label map "
                "belongs to another slide or has another resolution"
            )
    return factor


def _check_segments(label_map: NDArray[np.uint8], segments: Sequence[SegmentFacts]) -> None:
    if label_map.ndim != 2 or label_map.dtype != np.uint8 or label_map.size == 0:
        raise ObjectError("a label map is a uint8 array (rows, columns) with at least one px")
    numbers = [segment.number for segment in segments]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise ObjectError(f"segments must be numbered 1, 2, …, not {numbers}")
    highest = int(label_map.max())
    if highest > len(segments):
        raise ObjectError(f"the label map holds {highest}, there are {len(segments)} segments")


def slide_mpp(image: Dataset) -> float:
    """µm per px of an image, mean of rows and columns; they must agree to 1% (ObjectError)."""
    rows, columns = _spacing(image)
    if abs(rows - columns) > 0.01 * rows:
        raise ObjectError("the slide's pixels are not square")
    return (rows + columns) / 2 * 1000


def _spacing(image: Dataset) -> tuple[float, float]:
    """Spacing of rows and of columns in mm (PS3.3 10.7.1.3)."""
    rows, columns = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    return float(rows), float(columns)


def _levels(label_map: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The label map and coarser ones: the label in the middle of each block.

    At least one is coarser where there is anything to coarsen: viewers fetch by level.
    """
    levels = [np.ascontiguousarray(label_map)]
    while max(levels[-1].shape) > COARSEST_PX * LEVEL_STEP or (
        len(levels) == 1 and min(label_map.shape) > LEVEL_STEP
    ):
        half = LEVEL_STEP // 2
        padded = np.pad(levels[-1], [(0, -n % LEVEL_STEP) for n in levels[-1].shape], mode="edge")
        levels.append(np.ascontiguousarray(padded[half::LEVEL_STEP, half::LEVEL_STEP]))
    return levels


def _description(segment: SegmentFacts, seed: Sequence[str | bytes]) -> Any:
    import highdicom as hd

    description = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_identification(segment.algorithm),
        tracking_id=segment.label,
        # Viewers take one UID for one thing: never that of another case or of a correction.
        tracking_uid=deterministic_uid(*seed, "tracking", segment.label),
        display_color=hd.color.CIELabColor(*segment.cielab),
    )
    return description


def algorithm_identification(algorithm: AlgorithmFacts) -> Any:
    """Algorithm Identification Sequence: name, version, the weights' checksum as parameter."""
    import highdicom as hd

    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:64],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        parameters={"weights_sha256": algorithm.weights_sha256},
    )


def _finish(dataset: Dataset, series_description: str, created: datetime) -> None:
    dataset.SpecificCharacterSet = CHARACTER_SET
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
