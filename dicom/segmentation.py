"""Label maps as DICOM Segmentation (PS3.3 A.51): BINARY, TILED_SPARSE, a pyramid per series."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom import codes
from dicom.derived import CREATOR, FIRST_SERIES_NUMBER, MANUFACTURER, SERIAL, content_label, finish
from dicom.errors import ObjectError
from dicom.frames import (
    FRAME_BYTES,
    HEADER_BYTES,
    NATIVE_BYTES,
    TILE_PX,
    Level,
    Raster,
    functional_groups,
    survey,
    write_frames,
)
from dicom.placement import axes_mm, px_per_value, spacing_mm
from dicom.uids import deterministic_uid

LEVEL_STEP = 4
"""Reduction from each level to the next; px stay whole multiples of the slide's."""


class Form(StrEnum):
    """Form of a series. All but the first hold a level in memory and take one layer."""

    SPARSE = "sparse"  #: BINARY, TILED_SPARSE: accepted by every viewer and validator
    FULL = "full"  #: BINARY, TILED_FULL: empty frames too; dciodvfy of 2022 gives false errors
    LABELMAP = "labelmap"  #: LABELMAP, RLE: small; most of today's viewers and archives refuse it


IN_MEMORY_PX = 1 << 25
"""Largest level in px that highdicom may build: it copies the px a few times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmFacts:
    """Network that made the result (TID 4019); `weights_sha256` identifies its weights.

    `site_calibration` says in words whether they were calibrated for the site.
    """

    name: str
    version: str
    weights_sha256: str
    site_calibration: str = "not calibrated for this site"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFacts:
    """One segment; `number` is its value in the label map, from 1. `cielab` (L*, a*, b*).

    `modifiers` tell segments of one type apart (Segmented Property Type Modifier, PS3.3 C.8.20.4).
    """

    number: int
    label: str
    category: Code
    type: Code
    algorithm: AlgorithmFacts
    cielab: tuple[int, int, int]
    modifiers: tuple[Code, ...] = ()

    @property
    def stated(self) -> str:
        """Label and codes, as they enter UIDs."""
        modifiers = (f"{code.scheme_designator} {code.value}" for code in self.modifiers)
        return "|".join((self.label, *modifiers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Segments without overlap: value v of `labels` (uint8 (rows, columns)) is the v-th."""

    labels: Raster
    segments: Sequence[SegmentFacts]


def pyramid_factors(mpp: float, *, finest_um: float, coarsest_um: float) -> tuple[int, ...]:
    """Return the widths of the levels' px in px of a raster (`mpp` µm), finest first.

    Levels are `LEVEL_STEP` apart. The last one is as near to `coarsest_um` as whole px allow, and
    at least twice as coarse as the level before. Levels finer than `finest_um` are left out.
    """
    last = max(1, round(coarsest_um / mpp))
    factors, factor = [last], 1
    while 2 * factor <= last:
        factors.append(factor)
        factor *= LEVEL_STEP
    return tuple(sorted(f for f in factors if f == last or f * mpp > 0.99 * finest_um))


def write_segmentation(
    stem: Path,
    *,
    source_images: Sequence[Dataset],
    layers: Sequence[Layer],
    mpp: float,
    read_mpp: float | None = None,
    factors: Sequence[int],
    max_bytes: int = NATIVE_BYTES,
    max_frames: int = 0,
    form: Form = Form.SPARSE,
    series_description: str,
    content_description: str,
    uid_seed: str,
    created: datetime,
    software: str,
) -> list[Path]:
    """Write one series of SEG instances, finest first: ``stem-1.dcm``, ``stem-2.dcm``, …

    The layers' label maps have one shape, start at the slide's top left corner, and their px is
    `mpp` µm, a whole multiple of the slide's (`read_mpp`: see `slide_mpp`). `source_images` are the
    slide's headers, level 0 first. Levels (`factors`, see `pyramid_factors`) whose file could
    exceed `max_bytes`, or with more than `max_frames` (0: any), are left out beforehand. Layers
    without segments give valid objects with an empty frame. Equal arguments give equal bytes.
    Memory: `frames.survey`. Forms but SPARSE take one layer, and levels up to `IN_MEMORY_PX`.

    Raises
    ------
    ObjectError
        If the label maps do not lie on the slide in whole px, a value is no segment, segments are
        not numbered 1, 2, …, the form takes fewer layers, or no level is within the limits.
    """
    base = source_images[0]
    factor = px_per_value(base, _check_layers(layers), mpp, read_mpp)
    segments = [segment for layer in layers for segment in layer.segments]
    counts = [len(layer.segments) for layer in layers]
    levels, digest = survey([layer.labels for layer in layers], counts, factors)
    levels = _within(levels, max_bytes, max_frames, form, len(segments))
    # Everything that the objects state: a changed label map must not keep its UIDs.
    seed: list[str | bytes] = [uid_seed, str(base.SOPInstanceUID), digest, repr(mpp)]
    seed += [created.isoformat(), software, form, *(str(level.factor) for level in levels)]
    seed += (segment.stated for segment in segments)
    paths = []
    for number, level in enumerate(levels, start=1):
        spacing = [factor * level.factor * value for value in spacing_mm(base)]
        facts = (base, segments, seed, number, spacing, content_description, software)
        paths.append(stem.with_name(f"{stem.name}-{number}.dcm"))
        if form is Form.SPARSE:
            dataset = _skeleton(*facts)
            dataset.SegmentsOverlap = "NO" if len(layers) == 1 else "YES"
            dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = level.shape
            dataset.NumberOfFrames = len(level.frames)
            finish(dataset, base, series_description, created)
            _write(paths[-1], dataset, level, counts, spacing)
        else:
            pixels = level.rasters[0][0 : level.shape[0], 0 : level.shape[1]]
            dataset = made_by_highdicom(*facts, pixels=pixels, form=form)
            finish(dataset, base, series_description, created)
            dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _skeleton(
    base: Dataset,
    segments: Sequence[SegmentFacts],
    seed: Sequence[str | bytes],
    number: int,
    spacing: Sequence[float],
    content_description: str,
    software: str,
) -> Dataset:
    """Object of a label map of a single px: equal to the final one except for frames and sizes."""
    import highdicom as hd

    # highdicom demands all px at the slide's own spacing: use another one while it is made.
    other = [2 * value for value in spacing]
    facts = (base, segments, seed, number, other, content_description, software)
    dataset = made_by_highdicom(*facts, pixels=np.ones((1, 1), dtype=np.uint8), form=Form.SPARSE)
    measures = hd.PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=0.001)
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = measures
    return dataset


def made_by_highdicom(
    base: Dataset,
    segments: Sequence[SegmentFacts],
    seed: Sequence[str | bytes],
    number: int,
    spacing: Sequence[float],
    content_description: str,
    software: str,
    *,
    pixels: NDArray[Any],
    form: Form | None,
) -> Dataset:
    """Let highdicom make the object of `pixels` (rows, columns); FRACTIONAL without a form."""
    import highdicom as hd

    type_ = {None: "FRACTIONAL", Form.LABELMAP: "LABELMAP"}.get(form, "BINARY")
    with warnings.catch_warnings():
        # highdicom warns of empty segments.
        warnings.simplefilter("ignore", UserWarning)
        dataset: Dataset = hd.seg.Segmentation(
            source_images=[base],
            pixel_array=pixels[None],
            segmentation_type=type_,
            segment_descriptions=[_description(segment, seed) for segment in segments],
            series_instance_uid=deterministic_uid(*seed, "series"),
            series_number=FIRST_SERIES_NUMBER + int(base.get("SeriesNumber") or 1),
            sop_instance_uid=deterministic_uid(*seed, "instance", str(number)),
            instance_number=number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name="Tandem HER2",
            software_versions=software,
            device_serial_number=SERIAL,
            fractional_type="PROBABILITY",
            content_description=content_description[:64],
            content_creator_name=CREATOR,
            content_label=content_label(segments[0].label),
            transfer_syntax_uid=RLELossless if form is Form.LABELMAP else ExplicitVRLittleEndian,
            pixel_measures=hd.PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=0.001),
            tile_pixel_array=True,
            tile_size=(TILE_PX, TILE_PX),
            dimension_organization_type="TILED_FULL" if form is Form.FULL else "TILED_SPARSE",
            omit_empty_frames=form is not Form.FULL,
            pyramid_uid=deterministic_uid(*seed, "pyramid"),
        )
    scheme = codes.private_scheme()
    if any(
        code.scheme_designator == scheme.CodingSchemeDesignator
        for segment in segments
        for code in segment.modifiers
    ):
        dataset.CodingSchemeIdentificationSequence = [scheme]
    return dataset


def _write(
    path: Path,
    skeleton: Dataset,
    level: Level,
    segment_counts: Sequence[int],
    spacing: Sequence[float],
) -> None:
    """Write the skeleton's elements, then the level's frames: these are the last two elements."""
    groups = functional_groups(
        level.frames,
        skeleton.PerFrameFunctionalGroupsSequence[0],
        *axes_mm(skeleton, spacing),
    )
    del skeleton.PerFrameFunctionalGroupsSequence, skeleton.PixelData
    with path.open("wb") as file:
        skeleton.save_as(file, enforce_file_format=True)
        file.write(struct.pack("<2H2s2xI", 0x5200, 0x9230, b"SQ", len(groups)))
        file.write(groups)
        write_frames(file, level, segment_counts)


def _within(
    levels: Sequence[Level], max_bytes: int, max_frames: int, form: Form, segments: int
) -> list[Level]:
    """Levels within the limits."""
    if form is not Form.SPARSE and len(levels[0].rasters) > 1:
        raise ObjectError(f"a segmentation as {form} takes one layer: segments must not overlap")

    def frames(level: Level) -> int:
        tiles = math.prod(-(-px // TILE_PX) for px in level.shape)
        return tiles * segments if form is Form.FULL else len(level.frames)

    def size(level: Level) -> int:
        full = HEADER_BYTES + frames(level) * FRAME_BYTES
        return full if form is Form.FULL else level.expected_bytes

    kept = [
        level
        for level in levels
        if size(level) <= min(max_bytes, NATIVE_BYTES)
        and (not max_frames or frames(level) <= max_frames)
        and (form is Form.SPARSE or math.prod(level.shape) <= IN_MEMORY_PX)
    ]
    if not kept:
        raise ObjectError(
            f"even the coarsest segmentation could have {min(map(size, levels))} bytes and "
            f"{min(map(frames, levels))} frames, allowed are {max_bytes} and "
            f"{max_frames or 'any number'}: allow larger ones"
        )
    return kept


def _check_layers(layers: Sequence[Layer]) -> tuple[int, int]:
    """Rows and columns of all layers; ObjectError if layers or segments are invalid."""
    shapes = {layer.labels.shape for layer in layers}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 2 or 0 in shape:
        raise ObjectError("label maps are arrays (rows, columns) of one size, of at least one px")
    for layer in layers:
        if layer.labels[0:1, 0:1].dtype != np.uint8:
            raise ObjectError("a label map's px are uint8")
    numbers = [segment.number for layer in layers for segment in layer.segments]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise ObjectError(f"segments must be numbered 1, 2, …, not {numbers}")
    return shape[0], shape[1]


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
        # Viewers take equal tracking UIDs for one finding: unique per case and per correction.
        tracking_uid=deterministic_uid(*seed, "tracking", segment.label),
        display_color=hd.color.CIELabColor(*segment.cielab),
    )
    if segment.modifiers:
        (type_,) = description.SegmentedPropertyTypeCodeSequence
        type_.SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept.from_code(code) for code in segment.modifiers
        ]
    return description


def algorithm_identification(algorithm: AlgorithmFacts) -> Any:
    """Algorithm Identification Sequence: name, version; weights and calibration as parameters."""
    import highdicom as hd

    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:64],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        parameters={
            "weights_sha256": algorithm.weights_sha256,
            "site_calibration": algorithm.site_calibration,
        },
    )
