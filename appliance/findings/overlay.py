"""Overlays on thumbnails: tumor probability on H&E, stain classes on IHC, colors of their legends.

A layer is RGBA uint8 of the thumbnail's shape; `blend` lays it over the thumbnail. All mapping goes
through slide µm, because thumbnail, rasters and tile grid each have their own px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.domain import SlideFacts
from appliance.findings.findings import MARGIN, Rasters
from appliance.findings.label_map import CHUNK_ROWS, LabelMap
from appliance.geometry import TILE_UM

RGB = tuple[int, int, int]

PROBABILITY_COLORS: tuple[tuple[float, RGB], ...] = (
    (0.0, (255, 250, 190)),
    (0.5, (125, 215, 160)),
    (1.0, (0, 105, 150)),
)
"""Color stops (probability, RGB): yellow, green, blue; no red or purple, the colors of H&E."""

OUTLINE: RGB = (12, 32, 64)
"""Color of the rim of the tumor area."""

BAND_ROWS = 64
"""Rows of a picture that are blended at a time."""

STRONGEST = 99.0
"""Percentile of the tiles' weights that is drawn as 1: a few tiles may have nearly all of it."""

MARGIN_OPACITY = 0.35
"""Opacity of tiles that were read for display and are not scored, relative to scored tiles."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Thumbnail (RGB) and its layer (RGBA), both uint8 of the same size."""

    thumbnail: NDArray[np.uint8]
    layer: NDArray[np.uint8] | None


def tumor_layer(rasters: Rasters, he: SlideFacts, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Layer of tumor probability with the rim of the tumor area: RGBA uint8 (rows, columns, 4).

    `shape` is (rows, columns) of the thumbnail. Unread tiles are transparent. Opacity grows with
    the probability, so that normal tissue stays visible.
    """
    rows, columns = _centers_um(he, shape)
    grid = rasters.he_probability
    r = np.minimum((rows / TILE_UM).astype(int), grid.shape[0] - 1)
    c = np.minimum((columns / TILE_UM).astype(int), grid.shape[1] - 1)
    layer = heat_layer(grid[np.ix_(r, c)])
    tumor = _nearest(rasters.he_tumor, rasters.he_mpp, rows, columns)
    contours, _ = cv2.findContours(tumor, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(shape) / 600))
    cv2.drawContours(layer, contours, -1, (*OUTLINE, 255), thickness)
    return layer


def heat_layer(heat: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Layer of values 0-1 (rows, columns) in `PROBABILITY_COLORS`: RGBA uint8 of that shape.

    Opacity grows with the value. NaN is transparent.
    """
    read = ~np.isnan(heat)
    p = np.where(read, heat, 0.0)
    stops = [stop for stop, _ in PROBABILITY_COLORS]
    layer = np.zeros((*heat.shape, 4), dtype=np.uint8)
    for channel in range(3):
        values = [color[channel] for _, color in PROBABILITY_COLORS]
        layer[..., channel] = np.interp(p, stops, values).astype(np.uint8)
    layer[..., 3] = np.where(read, 255 * (0.1 + 0.9 * p), 0).astype(np.uint8)
    return layer


def attention_heat(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights of tiles as heat, 0-1, NaN where no tile was read.

    Those from the percentile `STRONGEST` on are 1.
    """
    high = float(np.nanpercentile(weights, STRONGEST)) if np.isfinite(weights).any() else 0.0
    heat: NDArray[np.float32] = np.clip(weights / np.float32(high or 1.0), 0, 1)
    return heat


def attention_title(reader: str) -> str:
    """Return the title, for people, of the weights that a reader gave to tiles."""
    return f"Attention: {reader.replace('_', ' ')}"


def stain_layer(
    rasters: Rasters, ihc: SlideFacts, shape: tuple[int, int], class_colors: Sequence[RGB]
) -> NDArray[np.uint8] | None:
    """Layer of the stain classes: RGBA uint8 (rows, columns, 4); None without a label map.

    A thumbnail px covers many px of the label map. Its color is the mean of their class colors by
    area and its opacity the labeled share, so that no class is drawn larger than it is. Tiles that
    are not scored are faint.
    """
    if rasters.ihc_classes is None or not class_colors:
        return None
    shares = class_shares(rasters.ihc_classes, rasters.ihc_mpp, ihc, shape)
    shares = shares[..., : len(class_colors)]
    colors = np.array(list(class_colors), dtype=np.float32)
    labeled = shares.sum(axis=-1)
    mix = shares @ colors / np.maximum(labeled, 1e-6)[..., None]
    rows, columns = _centers_um(ihc, shape)
    r, c = (
        np.minimum((um / TILE_UM).astype(int), length - 1)
        for um, length in zip((rows, columns), rasters.ihc_read.shape, strict=True)
    )
    faint = np.where(rasters.ihc_read[np.ix_(r, c)] == MARGIN, MARGIN_OPACITY, 1.0)
    return np.dstack([mix, 255 * labeled * faint]).round().astype(np.uint8)


def class_shares(
    classes: LabelMap, mpp: float, slide: SlideFacts, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Share (0-1) of classes 1-4 in each thumbnail px: float32 (rows, columns, 4).

    Where the label map is coarser than the thumbnail, the nearest label has share 1.
    """
    rows, columns = _centers_um(slide, shape)
    px_um = (
        slide.height_px * slide.mpp / shape[0],
        slide.width_px * slide.mpp / shape[1],
    )
    if min(px_um) < mpp:
        labels = _nearest(classes[:], mpp, rows, columns)
        return np.stack([labels == k for k in range(1, 5)], axis=-1).astype(np.float32)
    # The map is finer than the thumbnail: sum runs of rows, then runs of columns.
    starts = [
        np.minimum((np.arange(n) * um / mpp).round().astype(int), length - 1)
        for n, um, length in zip(shape, px_um, classes.shape, strict=True)
    ]
    ends = [np.append(s[1:], length) for s, length in zip(starts, classes.shape, strict=True)]
    area = np.outer(ends[0] - starts[0], ends[1] - starts[1]).astype(np.float32)
    shares = np.zeros((*shape, 4), dtype=np.float32)
    height = classes.shape[0]
    for top in range(0, height, CHUNK_ROWS):
        # One band at a time, because the label map of a large slide has half a billion px.
        band = classes[top : top + CHUNK_ROWS]
        for row in np.flatnonzero((starts[0] < top + len(band)) & (ends[0] > top)):
            part = band[max(0, starts[0][row] - top) : ends[0][row] - top]
            for k in range(1, 5):
                counts = (part == k).sum(axis=0, dtype=np.int32)
                shares[row, :, k - 1] += np.add.reduceat(counts, starts[1])
    shares /= np.maximum(area, 1)[..., None]
    return shares


def blend(picture: Picture, opacity: float) -> NDArray[np.uint8]:
    """Blend the layer into the thumbnail at `opacity` (0-1): RGB uint8."""
    if picture.layer is None or opacity <= 0:
        return picture.thumbnail
    mixed = np.empty_like(picture.thumbnail)
    for first in range(0, len(mixed), BAND_ROWS):
        # Blended in bands: each move of the opacity slider blends anew, and whole float copies are
        # large.
        band = slice(first, first + BAND_ROWS)
        base = picture.thumbnail[band].astype(np.float32)
        layer = picture.layer[band].astype(np.float32)
        alpha = layer[..., 3:] * (opacity / 255)
        mixed[band] = (base + (layer[..., :3] - base) * alpha).round()
    return mixed


def _centers_um(
    slide: SlideFacts, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centers of the thumbnail's px in slide µm: y of the rows, x of the columns."""
    y = (np.arange(shape[0]) + 0.5) * slide.height_px * slide.mpp / shape[0]
    x = (np.arange(shape[1]) + 0.5) * slide.width_px * slide.mpp / shape[1]
    return y, x


def _nearest(
    raster: NDArray[np.uint8], mpp: float, y_um: NDArray[np.float64], x_um: NDArray[np.float64]
) -> NDArray[np.uint8]:
    r = np.minimum((y_um / mpp).astype(int), raster.shape[0] - 1)
    c = np.minimum((x_um / mpp).astype(int), raster.shape[1] - 1)
    sampled: NDArray[np.uint8] = np.ascontiguousarray(raster[np.ix_(r, c)])
    return sampled
