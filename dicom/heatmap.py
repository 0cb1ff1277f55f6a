"""Heat maps as DICOM Parametric Map (PS3.3 A.75): uint16, TILED_SPARSE."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom import codes
from dicom.derived import CREATOR, FIRST_SERIES_NUMBER, MANUFACTURER, SERIAL, finish
from dicom.errors import ObjectError
from dicom.placement import axes_mm, px_per_value, spacing_mm
from dicom.study import SH_LENGTH
from dicom.uids import deterministic_uid

TILE_PX = 128
"""Edge of a frame: 32 KiB as in a segmentation, and fine enough to omit unread tissue."""
HIGHEST = 2**16 - 1
SERIES_OFFSET = 50
"""Offset of series numbers from those of the slide's segmentations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatLevel:
    """Values float (rows, columns) from the slide's top left corner, NaN where nothing was read; a
    value covers `mpp` µm, a whole multiple of the slide's px."""

    values: NDArray[np.float32]
    mpp: float


def build_heatmap(
    *,
    source_images: Sequence[Dataset],
    levels: Sequence[HeatLevel],
    read_mpp: float | None = None,
    highest: float,
    quantity: Code,
    label: str,
    cielab: Sequence[tuple[float, float, float]] = (),
    series_description: str,
    content_description: str,
    uid_seed: str,
    created: datetime,
    software: str,
    series_offset: int = SERIES_OFFSET,
) -> list[Dataset]:
    """Build one series of Parametric Maps, an instance per level that has any value.

    Values from 0 to `highest` are stored as 1 to 65535: a value is the stored one times
    highest/65535 (Real World Value Mapping); 0 means not read. Frames without any value are absent.
    `quantity` is the concept of the values, `label` its name, cut to 16 characters. `cielab` are
    colors (L*, a*, b*) of 0 to `highest` at equal steps, for a palette in the object that
    interpolates linearly in CIELAB; without them the viewer chooses. `source_images` are the
    slide's headers, level 0 first, `read_mpp` its µm per px as `slide_mpp` takes it.
    `series_offset` keeps the series of one slide apart. Equal arguments give equal bytes.

    Raises
    ------
    ObjectError
        If a level does not lie on the slide, or a value is not within 0 and `highest`.
    """
    base = source_images[0]
    stored = [_stored(level.values, highest) for level in levels]
    digest = hashlib.sha256(b"".join(pixels.tobytes() for pixels in stored)).digest()
    seed: list[str | bytes] = [uid_seed, str(base.SOPInstanceUID), digest, repr(highest)]
    seed += [f"{level.values.shape} {level.mpp!r}" for level in levels]
    seed += [repr(cielab), created.isoformat(), software, *_reworded(quantity)]
    mapping = _mapping(highest, quantity, label, content_description)
    made: list[Dataset] = []
    for level, pixels in zip(levels, stored, strict=True):
        factor = px_per_value(base, pixels.shape, level.mpp, read_mpp)
        spacing = [factor * value for value in spacing_mm(base)]
        if not pixels.any():
            continue
        dataset = _made_by_highdicom(
            base,
            pixels,
            spacing,
            seed,
            number=len(made) + 1,
            mapping=mapping,
            cielab=cielab,
            content_description=content_description,
            software=software,
            series_offset=series_offset,
        )
        finish(dataset, base, series_description, created)
        made.append(dataset)
    return made


def _reworded(quantity: Code) -> list[str]:
    """Meaning of the code that earlier editions worded otherwise, so that UIDs differ."""
    is_it = quantity == codes.STAIN_INTENSITY  # which compares no meanings
    return [quantity.meaning] if is_it and quantity.meaning == codes.STAIN_INTENSITY.meaning else []


def _mapping(highest: float, quantity: Code, label: str, explanation: str) -> Any:
    """Real World Value Mapping: a value is the stored one times `highest` / 65535."""
    import highdicom as hd

    return hd.pm.RealWorldValueMapping(
        lut_label=label[:SH_LENGTH],
        lut_explanation=explanation[:64],
        unit=codes.NO_UNITS,
        value_range=(1, HIGHEST),
        slope=highest / HIGHEST,
        intercept=0.0,
        quantity_definition=quantity,
    )


def _made_by_highdicom(
    base: Dataset,
    pixels: NDArray[np.uint16],
    spacing: Sequence[float],
    seed: Sequence[str | bytes],
    *,
    number: int,
    mapping: Any,
    cielab: Sequence[tuple[float, float, float]],
    content_description: str,
    software: str,
    series_offset: int,
) -> Dataset:
    """Let highdicom make the object of `pixels` (rows, columns); correct what it sets wrongly."""
    import highdicom as hd

    frames, places = _frames(pixels)
    window = hd.VOILUTTransformation(window_center=(HIGHEST + 1) / 2, window_width=HIGHEST + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dataset: Dataset = hd.pm.ParametricMap(
            source_images=[base],
            pixel_array=frames,
            series_instance_uid=deterministic_uid(*seed, "series"),
            series_number=FIRST_SERIES_NUMBER + series_offset + int(base.get("SeriesNumber") or 1),
            sop_instance_uid=deterministic_uid(*seed, "instance", str(number)),
            instance_number=number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name="Tandem HER2",
            software_versions=software,
            device_serial_number=SERIAL,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[window],
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_description=content_description[:64],
            content_creator_name=CREATOR,
            content_label="HEATMAP",
            pixel_measures=hd.PixelMeasuresSequence(pixel_spacing=spacing, slice_thickness=0.001),
            plane_positions=_positions(base, spacing, places),
            dimension_organization_type="TILED_SPARSE",
            derived_pixel_contrast="NONE",
            palette_color_lut_transformation=_palette(cielab) if cielab else None,
            icc_profile=_srgb() if cielab else None,
            pyramid_uid=deterministic_uid(*seed, "pyramid"),
        )
    if cielab:
        # Type 1 if there is a palette (PS3.3 C.7.6.16.2.26); highdicom omits it.
        colored = Dataset()
        colored.MinimumStoredValueMapped, colored.MaximumStoredValueMapped = 0.0, float(HIGHEST)
        dataset.SharedFunctionalGroupsSequence[0].StoredValueColorRangeSequence = [colored]
    # highdicom sets the extent of the frames instead of the whole matrix.
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = pixels.shape
    dataset.TotalPixelMatrixOriginSequence = base.TotalPixelMatrixOriginSequence
    return dataset


def _positions(
    base: Dataset, spacing: Sequence[float], places: Sequence[tuple[int, int]]
) -> list[Any]:
    """Plane position of each frame from its (row, column) in the total pixel matrix."""
    import highdicom as hd

    origin, step = axes_mm(base, spacing)
    return [
        hd.PlanePositionSequence(
            coordinate_system="SLIDE",
            image_position=origin + np.array(place) @ step,
            pixel_matrix_position=(place[1] + 1, place[0] + 1),
        )
        for place in places
    ]


def _stored(values: NDArray[np.float32], highest: float) -> NDArray[np.uint16]:
    read = np.isfinite(values)
    if read.any() and not 0 <= values[read].min() <= values[read].max() <= highest:
        raise ObjectError(f"a heat map's values lie within 0 and {highest:g}")
    scaled = np.clip(np.nan_to_num(values) * (HIGHEST / highest), 1, HIGHEST)
    return np.where(read, np.rint(scaled), 0).astype(np.uint16)


def _frames(
    pixels: NDArray[np.uint16],
) -> tuple[NDArray[np.uint16], list[tuple[int, int]]]:
    """Tiles with a value, padded at the edges, and the row and column of their starts."""
    padded = np.pad(pixels, [(0, -n % TILE_PX) for n in pixels.shape])
    places = [
        (y, x)
        for y in range(0, padded.shape[0], TILE_PX)
        for x in range(0, padded.shape[1], TILE_PX)
        if padded[y : y + TILE_PX, x : x + TILE_PX].any()
    ]
    frames = [padded[y : y + TILE_PX, x : x + TILE_PX] for y, x in places]
    return np.array(frames, dtype=np.uint16), places


def _palette(cielab: Sequence[tuple[float, float, float]]) -> Any:
    """Palette with an entry per stored value: white for unread px, the colors for the rest."""
    import highdicom as hd
    from skimage.color import lab2rgb

    at = np.linspace(0, len(cielab) - 1, HIGHEST)
    lab = np.stack([np.interp(at, range(len(cielab)), axis) for axis in zip(*cielab, strict=True)])
    rgb = np.vstack([np.ones((1, 3)), lab2rgb(lab.T[None])[0]])
    entries = np.rint(rgb * HIGHEST).astype(np.uint16)
    return hd.PaletteColorLUTTransformation(
        *(
            hd.PaletteColorLUT(0, np.ascontiguousarray(entries[:, number]), color)
            for number, color in enumerate(("red", "green", "blue"))
        )
    )


def _srgb() -> bytes:
    """ICC profile that highdicom gives presentation states; a palette requires one."""
    return (files("highdicom") / "_icc_profiles" / "sRGB_v4_ICC_preference.icc").read_bytes()
