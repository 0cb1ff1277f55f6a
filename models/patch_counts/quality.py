"""Patches and tiles that are too white or too black, and CLAHE (arXiv 2503.22069, section 2.3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_WHITE, MAX_BLACK = 0.7, 0.2
"""Largest share of white px (glass) and of black px (ink, edge, fold) of a usable tile."""
WHITE, BLACK = 235, 40
"""Limits of a white and a black px: its darkest channel is above `WHITE` (optical density 0.035;
glass is 255), its brightest channel is below `BLACK`."""
CLIP_LIMIT, GRID = 2.0, 8
"""Numbers of CLAHE: OpenCV's clip limit, and fields along each edge. The paper prints none."""


def usable(tile: NDArray[np.uint8]) -> bool:
    """Return whether `tile`, uint8 (p, p, 3) with glass at 255, is neither too white nor too
    black."""
    black = float((tile.max(axis=2) < BLACK).mean())
    return white_share(tile) <= MAX_WHITE and black <= MAX_BLACK


def white_share(tile: NDArray[np.uint8]) -> float:
    """Return the share (0-1) of px that are glass."""
    return float((tile.min(axis=2) > WHITE).mean())


def clahe(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalization of a tile's lightness; same shape."""
    lab = cv2.cvtColor(tile, cv2.COLOR_RGB2LAB)
    equalizer = cv2.createCLAHE(clipLimit=CLIP_LIMIT, tileGridSize=(GRID, GRID))
    lab[..., 0] = equalizer.apply(lab[..., 0])
    equal: NDArray[np.uint8] = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return equal


def quality_rules() -> dict[str, float]:
    """Return the numbers of these rules, for manifests."""
    return {
        "max_white": MAX_WHITE,
        "white": WHITE,
        "max_black": MAX_BLACK,
        "black": BLACK,
        "clahe_clip_limit": CLIP_LIMIT,
        "clahe_grid": GRID,
    }
