"""Layers over the px of one tile, or of a block of tiles: M's classes, and heat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.delivery.pictures.case import PicturedCase
from appliance.findings.findings import SCORED
from appliance.findings.overlay import MARGIN_OPACITY, Picture, blend, heat_layer
from appliance.geometry import TILE_UM, TileIndex

OPACITY = 0.55


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
    """Lay heat (rows, columns) over RGB uint8 px; it is 0-1, or NaN for none, and covers all px.

    Each px has the nearest value: the squares of a network's patches are seen as they are.
    """
    r, c = (
        np.arange(px) * count // px for px, count in zip(pixels.shape, heat.shape, strict=False)
    )
    return blend(Picture(pixels, heat_layer(heat[np.ix_(r, c)])), OPACITY)


def _nearest(
    y_um: NDArray[np.float64], x_um: NDArray[np.float64], mpp: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a raster of `shape` at places in µm; its last ones for those beyond."""
    rows = np.minimum((y_um / mpp).astype(np.intp), shape[0] - 1)
    return rows, np.minimum((x_um / mpp).astype(np.intp), shape[1] - 1)
