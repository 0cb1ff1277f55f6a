"""Layers over the px of one tile, or of a block of tiles: M's classes, and heat."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.delivery.pictures.case import PicturedCase
from appliance.findings.findings import SCORED
from appliance.findings.overlay import MARGIN_OPACITY, Picture, blend, heat_layer
from appliance.geometry import TILE_UM, TileIndex

OPACITY, ATTENTION_OPACITY = 0.55, 0.85
PALE = np.uint8(127)
"""Gray of black px below heat."""


def with_classes(
    case: PicturedCase, pixels: NDArray[np.uint8], first: TileIndex, tiles: tuple[int, int]
) -> NDArray[np.uint8]:
    """Lay M's label map over RGB uint8 px that cover `tiles` (rows, columns) from tile `first` on.

    Each px has the class of the label nearest to its center. Tiles that are not scored are faint,
    as on the report's page.
    """
    rasters, colors = case.findings.rasters, case.colors
    if rasters.ihc_classes is None or not colors:
        return pixels
    y, x = (
        (start + (np.arange(px) + 0.5) * count / px) * TILE_UM
        for start, count, px in zip((first.row, first.column), tiles, pixels.shape, strict=False)
    )
    rows, columns = _nearest(y, x, rasters.ihc_mpp, rasters.ihc_classes.shape)
    window = rasters.ihc_classes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels = np.asarray(window)[np.ix_(rows - rows[0], columns - columns[0])]
    read = rasters.ihc_read[np.ix_(*_nearest(y, x, TILE_UM, rasters.ihc_read.shape))]
    width_um, height_um = case.findings.ihc.size_um
    on_slide = np.outer(y < height_um, x < width_um)
    layer = np.zeros((*labels.shape, 4), dtype=np.uint8)
    for number, color in enumerate(colors, start=1):
        layer[labels == number, :3] = color
    opaque = np.where(read == SCORED, 1.0, MARGIN_OPACITY)
    layer[..., 3] = 255 * opaque * (on_slide & (labels > 0))
    return blend(Picture(pixels, layer), OPACITY)


def with_heat(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay heat (rows, columns) over RGB uint8 px; it is 0-1, or NaN for none, a value per tile."""
    r, c = (
        np.arange(px) * count // px for px, count in zip(pixels.shape, heat.shape, strict=False)
    )
    return blend(Picture(pixels, heat_layer(heat[np.ix_(r, c)])), OPACITY)


def with_attention(
    pixels: NDArray[np.uint8], heat: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    """Lay heat (0-1, a value per patch) over the gray of RGB uint8 px; None is no heat.

    The heat is interpolated between the centers of the patches. The gray is pale: the colors of
    heat would be lost in those of a stain.
    """
    if heat is None:
        return _pale_gray(pixels)
    size = pixels.shape[1], pixels.shape[0]
    return with_tile_heat(
        pixels, np.asarray(cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR))
    )


def with_tile_heat(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay heat (0-1 for each px, or NaN for none) over the pale gray of RGB uint8 px."""
    return blend(Picture(_pale_gray(pixels), heat_layer(heat)), ATTENTION_OPACITY)


def _pale_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.repeat((gray // 2 + PALE)[..., None], 3, axis=2)


def _nearest(
    y_um: NDArray[np.float64], x_um: NDArray[np.float64], mpp: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a raster of `shape` at places in µm; its last ones for those beyond."""
    rows = np.minimum((y_um / mpp).astype(np.intp), shape[0] - 1)
    return rows, np.minimum((x_um / mpp).astype(np.intp), shape[1] - 1)
