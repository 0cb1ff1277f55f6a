"""Artefacts on an overview: pen and folds, which lie over tissue and are no stain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TileGrid, TileIndex
from appliance.slides.folds import fold_mask
from appliance.slides.glass import usable_px
from appliance.slides.pen import pen_mask
from appliance.slides.tissue import Tissue, mask_share

HIDDEN_UM = 400.0
"""Half the width of the widest stroke that counts as crossing the tissue on both sides of it."""
MARKED_SHARE = 0.2
"""Share of a tile under pen or on a fold from which on the tile is marked."""


def marked_percent(
    thumbnail: NDArray[np.uint8], tissue: Tissue, grid: TileGrid, tiles: Sequence[TileIndex]
) -> float:
    """Share (0-100) of `tiles` under pen or on a fold; 0 without tiles.

    Opaque pen hides tissue that is then in no tile. Where the share of hidden tissue is larger, it
    is returned instead.
    """
    share = mask_share(find_artefacts(thumbnail, tissue), tissue.mpp, grid)
    marked = [share[tile.row, tile.column] >= MARKED_SHARE for tile in tiles]
    return 100 * max(float(np.mean(marked)) if marked else 0.0, _hidden(thumbnail, tissue))


def find_artefacts(thumbnail: NDArray[np.uint8], tissue: Tissue) -> NDArray[np.bool_]:
    """Tissue under pen or on a fold, bool (rows, cols) of the overview.

    `thumbnail` is the overview, uint8 RGB at `tissue.mpp`. Green and opaque black pen are not part
    of the tissue, see `find_tissue`.
    """
    density = _density(thumbnail, tissue)
    marks: NDArray[np.bool_] = pen_mask(density, tissue.mask, tissue.mpp)
    marks = marks | fold_mask(density, tissue.mask, tissue.mpp)
    return marks & tissue.mask


def find_pen(thumbnail: NDArray[np.uint8], tissue: Tissue) -> NDArray[np.bool_]:
    """Pen that was taken for tissue, bool as `find_artefacts`."""
    return pen_mask(_density(thumbnail, tissue), tissue.mask, tissue.mpp) & tissue.mask


def _hidden(thumbnail: NDArray[np.uint8], tissue: Tissue) -> float:
    """Share (0-1) of the tissue that lies under green or black pen, with tissue around it."""
    around = _closed(tissue.mask, HIDDEN_UM / tissue.mpp)
    hidden = int((around & ~tissue.mask & ~usable_px(thumbnail)).sum())
    return hidden / max(1, hidden + int(tissue.mask.sum()))


def _closed(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """Morphological closing by a disc of radius `reach_px`, computed from distances.

    A kernel of hundreds of px took half of a case's time.
    """
    pad = math.ceil(reach_px) + 1
    padded = np.pad(mask, pad)
    if not mask.any():
        return mask
    wide = (
        cv2.distanceTransform((~padded).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        <= reach_px
    )
    closed = (
        cv2.distanceTransform(wide.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > reach_px
    )
    inner: NDArray[np.bool_] = closed[pad:-pad, pad:-pad] | mask
    return inner


def _density(thumbnail: NDArray[np.uint8], tissue: Tissue) -> NDArray[np.float32]:
    """Optical density against the slide's glass, float32 (rows, cols, 3)."""
    light = np.maximum(thumbnail, 1) / np.array(tissue.white_rgb, dtype=np.float32)
    density: NDArray[np.float32] = np.maximum(-np.log10(light), 0).astype(np.float32)
    return density
