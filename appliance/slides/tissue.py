"""The tissue of a slide: its mask on an overview, its files, its share of each tile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.slides.glass import ASSUMED_WHITE, glass_rgb, usable_px

FILE_NAME = "tissue.npz"
MIN_TISSUE_SHARE = 0.1
"""Share of tissue (0-1) below which a tile is not read: at most the rim of a section is lost."""
MIN_DENSITY = 0.02
"""Floor of the threshold: an optical density that glass never reaches, so that an empty slide has
no tissue. The palest IHC background with counterstain lies above it."""
MAX_THRESHOLD = 0.03
"""Ceiling of the threshold: beside dark tissue Otsu's would exclude paler stroma."""
SPECK_MM2 = 0.01
"""Area below which a piece is dust, and a hole belongs to the tissue."""
SMOOTH_UM = 12.0
"""Sigma of the smoothing that joins nuclei and the gaps between them into one tissue."""
BAND_ROWS = 256
"""Rows of an overview that are processed at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """Tissue of a slide.

    `mask` is bool (rows, cols) at `mpp` over the whole slide; `white_rgb` is the color of the glass
    (0-255).
    """

    mask: NDArray[np.bool_]
    mpp: float
    white_rgb: tuple[int, int, int]
    area_mm2: float


def find_tissue(thumbnail: NDArray[np.uint8], mpp: float) -> Tissue:
    """Find the tissue on an overview, uint8 RGB (rows, cols, 3), at `mpp` µm per px.

    Optical density against the slide's own glass, smoothed over `SMOOTH_UM`, is compared with
    Otsu's threshold within bounds. Green pen, black borders and the fill of unscanned areas are
    neither tissue nor glass.
    """
    from skimage.filters import threshold_otsu  # slow to load; the daemon does not need it

    usable = usable_px(thumbnail)
    white = glass_rgb(thumbnail[usable]) if usable.any() else ASSUMED_WHITE
    density = _density(thumbnail, white)
    # Do not smooth away a tiny field.
    sigma = min(SMOOTH_UM / mpp, 0.02 * max(density.shape))
    smooth = _smooth(density, usable, sigma)
    # Clip, so that control tissue and black px do not stretch the histogram.
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


def save_tissue(tissue: Tissue, folder: Path) -> None:
    """Write ``tissue.npz`` into the artifact of an inspected slide."""
    np.savez_compressed(
        folder / FILE_NAME,
        mask=tissue.mask,
        mpp=tissue.mpp,
        white_rgb=tissue.white_rgb,
        area_mm2=tissue.area_mm2,
    )


def load_tissue(folder: Path) -> Tissue:
    """Read what `save_tissue` wrote."""
    with np.load(folder / FILE_NAME, allow_pickle=False) as arrays:
        r, g, b = (int(v) for v in arrays["white_rgb"])
        return Tissue(
            mask=arrays["mask"],
            mpp=float(arrays["mpp"]),
            white_rgb=(r, g, b),
            area_mm2=float(arrays["area_mm2"]),
        )


def tissue_share(tissue: Tissue, grid: TileGrid) -> NDArray[np.float32]:
    """Share (0-1) of each tile that is tissue, float32 (rows, columns of the grid)."""
    return mask_share(tissue.mask, tissue.mpp, grid)


def tissue_tiles(share: NDArray[np.float32]) -> list[TileIndex]:
    """Tiles with enough tissue to be read, row by row; `share` is as `tissue_share` returns it."""
    rows, columns = np.nonzero(share >= MIN_TISSUE_SHARE)
    return [TileIndex(int(c), int(r)) for r, c in zip(rows, columns, strict=True)]


def mask_share(mask: NDArray[np.bool_], mpp: float, grid: TileGrid) -> NDArray[np.float32]:
    """Share (0-1) of each tile that a mask of the slide at `mpp` covers, as `tissue_share`."""
    tile_px = TILE_UM / mpp
    # Cumulative sums give the area of any rectangle; they are linear between px of the mask.
    total = cv2.integral(mask.astype(np.uint8), sdepth=cv2.CV_64F)  # has one more row and column
    total = _at(total, np.arange(grid.rows + 1) * tile_px)
    total = _at(total.T, np.arange(grid.columns + 1) * tile_px).T
    inside = total[1:, 1:] - total[:-1, 1:] - total[1:, :-1] + total[:-1, :-1]
    share: NDArray[np.float32] = (inside / tile_px**2).astype(np.float32)
    return share


def _at(rows: NDArray[np.float64], places: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Interpolate between rows of an array: (places, columns); the last row beyond the end."""
    places = np.minimum(places, len(rows) - 1)
    before = places.astype(int)
    part = (places - before)[:, None]
    between: NDArray[np.float64] = rows[before] * (1 - part)
    between += rows[np.minimum(before + 1, len(rows) - 1)] * part
    return between


def _density(thumbnail: NDArray[np.uint8], white: tuple[int, int, int]) -> NDArray[np.float32]:
    """Mean optical density of each px against the glass, float32 (rows, cols).

    Computed in bands: a large slide's overview has ten million px, and three float channels of it
    would dominate the memory.
    """
    levels = np.maximum(np.arange(256), 1).astype(np.float32)[:, None]
    ratio = levels / np.array(white, dtype=np.float32)
    table = np.clip(-np.log10(ratio), 0, None).reshape(1, 256, 3)
    density = np.empty(thumbnail.shape[:2], dtype=np.float32)
    for top in range(0, len(thumbnail), BAND_ROWS):
        band = np.ascontiguousarray(thumbnail[top : top + BAND_ROWS])
        density[top : top + BAND_ROWS] = cv2.LUT(band, table).mean(axis=2)
    return density


def _smooth(
    density: NDArray[np.float32], usable: NDArray[np.bool_], sigma: float
) -> NDArray[np.float32]:
    """Gaussian blur over the usable px alone, so that black borders have no halo."""
    if sigma <= 0.3:
        return density
    if usable.all():
        whole: NDArray[np.float32] = cv2.GaussianBlur(density, (0, 0), sigma)
        return whole
    weight = cv2.GaussianBlur(usable.astype(np.float32), (0, 0), sigma)
    total = cv2.GaussianBlur(np.where(usable, density, np.float32(0)), (0, 0), sigma)
    smooth: NDArray[np.float32] = total / np.maximum(weight, 1e-3)
    return smooth


def _without_specks(mask: NDArray[np.uint8], mpp: float) -> NDArray[np.uint8]:
    """Remove pieces and fill holes that are smaller than `SPECK_MM2`; uint8 0 and 1."""
    slide_mm2 = mask.size * mpp**2 / 1e6
    smallest_px = min(SPECK_MM2, 0.02 * slide_mm2) * 1e6 / mpp**2
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, dtype=np.uint8)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= smallest_px
    cleaned: NDArray[np.uint8] = keep[labels]
    # Small holes are lumens and fat, which belong to the tissue.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - cleaned, connectivity=4)
    fill = stats[:, cv2.CC_STAT_AREA] < smallest_px
    fill[0] = False
    cleaned[fill[labels]] = 1
    return cleaned
