"""Where there is tissue, and what colour the glass has, from a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from appliance.geometry import TILE_UM, TileGrid

MIN_DENSITY = 0.015
"""Optical density that glass never reaches: the floor under Otsu's threshold, so that an empty
slide has no tissue. The palest IHC background with counterstain lies above 0.02."""
MAX_THRESHOLD = 0.03
"""Ceiling: beside dark tissue Otsu would cut off stroma that is paler than that."""
SPECK_MM2 = 0.01
"""Smaller pieces are dust."""
SMOOTH_UM = 12.0
"""Nuclei and the gaps between them make one tissue."""
DARK = 40
"""Below this grey level it is pen, edge or unscanned, not tissue and not glass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """`mask` bool (rows, cols) at `mpp` over the whole slide; `white_rgb` the glass (0-255)."""

    mask: NDArray[np.bool_]
    mpp: float
    white_rgb: tuple[int, int, int]
    area_mm2: float


def find_tissue(thumbnail: NDArray[np.uint8], mpp: float) -> Tissue:
    """Tissue on a thumbnail, uint8 RGB (rows, cols, 3), at `mpp` µm per px.

    Optical density against the slide's own glass, smoothed over `SMOOTH_UM`, Otsu within bounds.
    """
    white = _glass(thumbnail)
    ratio = np.maximum(thumbnail, 1).astype(np.float32) / np.array(white, dtype=np.float32)
    density = np.clip(-np.log10(ratio), 0, None).mean(axis=2).astype(np.float32)
    # A tiny field is not smoothed away.
    sigma = min(SMOOTH_UM / mpp, 0.02 * max(density.shape))
    smooth = cv2.GaussianBlur(density, (0, 0), sigma) if sigma > 0.3 else density
    usable = thumbnail.max(axis=2) > DARK
    # Clipped, so that control tissue and black px do not stretch the histogram.
    values = np.clip(smooth[usable], 0, 0.15)
    level = MIN_DENSITY
    if values.size and float(values.max()) > MIN_DENSITY:
        level = float(np.clip(0.35 * threshold_otsu(values), MIN_DENSITY, MAX_THRESHOLD))
    mask = ((smooth > level) & usable).astype(np.uint8)
    mask = _without_specks(mask, mpp)
    return Tissue(
        mask=mask.astype(bool),
        mpp=mpp,
        white_rgb=white,
        area_mm2=float(mask.sum()) * mpp**2 / 1e6,
    )


def tissue_share(tissue: Tissue, grid: TileGrid) -> NDArray[np.float32]:
    """Share (0-1) of each tile that is tissue, float32 (rows, columns of the grid)."""
    to_tile = tissue.mpp / TILE_UM
    # Cumulative sums answer any rectangle, whatever the ratio of the two rasters.
    total = np.pad(tissue.mask.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows = np.minimum(np.round(np.arange(grid.rows + 1) / to_tile), tissue.mask.shape[0])
    columns = np.minimum(np.round(np.arange(grid.columns + 1) / to_tile), tissue.mask.shape[1])
    corner = total[np.ix_(rows.astype(int), columns.astype(int))]
    inside = corner[1:, 1:] - corner[:-1, 1:] - corner[1:, :-1] + corner[:-1, :-1]
    share: NDArray[np.float32] = (inside * to_tile**2).astype(np.float32)
    return share


def _glass(thumbnail: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Median of the brightest tenth; a field full of tissue has hardly any glass."""
    grey = thumbnail.min(axis=2)
    bright = thumbnail[grey >= np.quantile(grey, 0.9)]
    r, g, b = (int(v) for v in np.median(bright, axis=0))
    # What is darker than any glass is tissue: then the scanner's white is assumed.
    return (r, g, b) if min(r, g, b) >= 180 else (245, 245, 245)


def _without_specks(mask: NDArray[np.uint8], mpp: float) -> NDArray[np.uint8]:
    slide_mm2 = mask.size * mpp**2 / 1e6
    smallest_px = min(SPECK_MM2, 0.02 * slide_mm2) * 1e6 / mpp**2
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, dtype=np.uint8)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= smallest_px
    cleaned: NDArray[np.uint8] = keep[labels]
    # Small holes are lumens and fat: part of the tissue.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - cleaned, connectivity=4)
    fill = stats[:, cv2.CC_STAT_AREA] < smallest_px
    fill[0] = False
    cleaned[fill[labels]] = 1
    return cleaned
