"""Where there is tissue, and what colour the glass has, from a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from appliance.geometry import TILE_UM, TileGrid, TileIndex

FILE_NAME = "tissue.npz"
MIN_TISSUE_SHARE = 0.1
"""Share of tissue (0-1) below which a tile is not read: at most the rim of a section is lost."""
MIN_DENSITY = 0.02
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


ASSUMED_WHITE = (245, 245, 245)
"""Glass of a slide that shows none."""
FILL = 255
"""Scanners that write no transparency fill what they did not scan with pure white."""
FLAT_SIGMA = 3.0
"""Standard deviation of grey in 5 x 5 px below which a place is even enough to be glass."""
BAND_ROWS = 256
"""Rows of a thumbnail that are worked on at once."""


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
    Green pen, black borders and the fill of unscanned areas are neither tissue nor glass.
    """
    usable = usable_px(thumbnail)
    white = glass_rgb(thumbnail[usable]) if usable.any() else ASSUMED_WHITE
    density = _density(thumbnail, white)
    # A tiny field is not smoothed away.
    sigma = min(SMOOTH_UM / mpp, 0.02 * max(density.shape))
    smooth = _smooth(density, usable, sigma)
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
    """Tiles with enough tissue to be read, row by row; `share` as `tissue_share` returns it."""
    rows, columns = np.nonzero(share >= MIN_TISSUE_SHARE)
    return [TileIndex(int(c), int(r)) for r, c in zip(rows, columns, strict=True)]


def mask_share(mask: NDArray[np.bool_], mpp: float, grid: TileGrid) -> NDArray[np.float32]:
    """Share (0-1) of each tile that a mask of the slide at `mpp` covers, as `tissue_share`."""
    tile_px = TILE_UM / mpp
    # Cumulative sums answer any rectangle; between px of the mask they are linear.
    total = cv2.integral(mask.astype(np.uint8), sdepth=cv2.CV_64F)  # one row and column more
    total = _at(total, np.arange(grid.rows + 1) * tile_px)
    total = _at(total.T, np.arange(grid.columns + 1) * tile_px).T
    inside = total[1:, 1:] - total[:-1, 1:] - total[1:, :-1] + total[:-1, :-1]
    share: NDArray[np.float32] = (inside / tile_px**2).astype(np.float32)
    return share


def _at(rows: NDArray[np.float64], places: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows of an array at places between them, shape (places, columns); the last beyond it."""
    places = np.minimum(places, len(rows) - 1)
    before = places.astype(int)
    part = (places - before)[:, None]
    between: NDArray[np.float64] = rows[before] * (1 - part)
    between += rows[np.minimum(before + 1, len(rows) - 1)] * part
    return between


def glass_rgb(pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Colour of the glass from scanned px, uint8 RGB (n, 3): median of the brightest tenth.

    A field full of tissue has hardly any glass; what is darker than any glass is tissue, and then
    the usual scanner's white is assumed.
    """
    grey = pixels.min(axis=-1)
    at_least = np.searchsorted(np.cumsum(np.bincount(grey, minlength=256)), 0.9 * grey.size)
    r, g, b = (int(v) for v in np.median(pixels[grey >= at_least], axis=0))
    return (r, g, b) if min(r, g, b) >= 180 else ASSUMED_WHITE


def usable_px(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What may be tissue or glass, bool (rows, cols): not green pen, black, or fill."""
    red, green, blue = (thumbnail[..., c].astype(np.int16) for c in range(3))
    dark = thumbnail.max(axis=2) <= DARK
    # No stain of a section is green.
    green_pen = (green > red + 30) & (green > blue + 15)
    # A thumbnail px at the rim of these is a mixture.
    rim = np.ones((5, 5), dtype=np.uint8)
    unusable = cv2.dilate((dark | green_pen).astype(np.uint8), rim).astype(bool)
    usable: NDArray[np.bool_] = ~(unusable | _fill(thumbnail))
    return usable


def _fill(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pure white that is not this slide's glass, bool (rows, cols).

    Only where there is another even, colourless brightness that is clearly the glass; on a
    scanner whose glass is pure white there is none.
    """
    nothing = np.zeros(thumbnail.shape[:2], dtype=bool)
    fill = thumbnail.min(axis=2) == FILL
    if fill.mean() < 0.01:
        return nothing
    grey = thumbnail.min(axis=2)
    mean = cv2.blur(grey.astype(np.float32), (5, 5))
    variance = cv2.blur(grey.astype(np.float32) ** 2, (5, 5)) - mean**2
    colorless = thumbnail.max(axis=2) - grey <= 10
    even = colorless & (variance < FLAT_SIGMA**2) & (grey >= 180) & (grey <= 250)
    counts = np.bincount(grey[even], minlength=256)
    peak = int(counts.argmax())
    near = int(counts[max(0, peak - 4) : peak + 5].sum())
    if near < 0.05 * grey.size or near < 0.6 * int(even.sum()):
        return nothing
    filled: NDArray[np.bool_] = cv2.dilate(
        fill.astype(np.uint8), np.ones((3, 3), dtype=np.uint8)
    ).astype(bool)
    return filled


def _density(thumbnail: NDArray[np.uint8], white: tuple[int, int, int]) -> NDArray[np.float32]:
    """Mean optical density of each px against the glass, in bands: a large slide's overview has
    ten million px, and three channels of floats of it are more than all the rest."""
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
    """Gaussian over the usable px alone, so that black borders have no halo."""
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
