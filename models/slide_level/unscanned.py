"""Areas of a slide's overview that were not scanned: black borders, and fill of pure white."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLACK = 40
"""Gray level up to which a px at the edge of an overview is a black border."""
TINT = 16
"""Difference of the channels, in gray levels (0-255), up to which a color may be glass of its own:
lamps tint it by up to 13."""
NEUTRAL = 10
"""The same, in overviews whose white may be glass: pale, even tissue is tinted by more."""
FILL = 255
"""Pure white, with which scanners that write no transparency fill unscanned areas."""
FLAT_SIGMA = 3.0
"""Standard deviation of gray in 5 x 5 px below which a place is even enough to be glass."""
_LEAST = 0.01
"""Share of the overview below which nothing is a border or fill."""
_STRAIGHT = 0.9
"""Share of the white's outline in straight lines along rows and columns, from which it is no glass:
the outline of glass follows the section."""


def on_glass(overview: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an overview, uint8 RGB (rows, columns, 3), with its unscanned areas as glass.

    The overview itself is returned where all of it was scanned.
    """
    unscanned = fill(overview) | _black_border(overview)
    return painted(overview, unscanned) if unscanned.any() else overview


def painted(overview: NDArray[np.uint8], unscanned: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return an overview with some px in the color of the others' glass.

    The color is the median of the brightest tenth of the others.
    """
    scanned = overview[~unscanned]
    if not len(scanned):
        return overview
    gray = scanned.min(axis=1)
    painted = overview.copy()
    painted[unscanned] = np.median(scanned[gray >= np.percentile(gray, 90)], axis=0)
    return painted


def fill(overview: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pure white that is not this slide's glass, bool (rows, columns).

    Only where another even brightness, with a tint at most, is clearly the glass. A scanner whose
    glass is pure white has no fill.
    """
    white = overview.min(axis=2) == FILL
    if white.mean() < _LEAST or not (
        _shows_glass(overview, NEUTRAL) or (_is_framed(white) and _shows_glass(overview, TINT))
    ):
        return np.zeros(white.shape, dtype=bool)
    filled: NDArray[np.bool_] = cv2.dilate(
        white.astype(np.uint8), np.ones((3, 3), dtype=np.uint8)
    ).astype(bool)
    return filled


def _shows_glass(overview: NDArray[np.uint8], tint: int) -> bool:
    """Return whether one even brightness below white, tinted by `tint` at most, is the glass."""
    gray = overview.min(axis=2)
    mean = cv2.blur(gray.astype(np.float32), (5, 5))
    variance = cv2.blur(gray.astype(np.float32) ** 2, (5, 5)) - mean**2
    colorless = overview.max(axis=2) - gray <= tint
    even = colorless & (variance < FLAT_SIGMA**2) & (gray >= 180) & (gray <= 250)
    counts = np.bincount(gray[even], minlength=256)
    peak = int(counts.argmax())
    near = int(counts[max(0, peak - 4) : peak + 5].sum())
    return near >= 0.05 * gray.size and near >= 0.6 * int(even.sum())


def _is_framed(white: NDArray[np.bool_]) -> bool:
    """Return whether the outline of the white consists of straight lines along rows and columns."""
    # Compression frays the outline by some px.
    smooth = cv2.medianBlur(white.astype(np.uint8), 9)
    length = max(8, max(white.shape) // 50)
    outline = straight = 0
    for picture in (smooth, smooth.T):
        steps = (picture[1:] != picture[:-1]).astype(np.uint8)
        outline += int(steps.sum())
        line = np.ones((1, length), dtype=np.uint8)
        straight += int(cv2.morphologyEx(steps, cv2.MORPH_OPEN, line).sum())
    return straight >= _STRAIGHT * max(1, outline)


def _black_border(overview: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Black that reaches the edge of the overview, with its rim, bool (rows, columns)."""
    black = (overview.max(axis=2) <= BLACK).astype(np.uint8)
    if black.mean() < _LEAST:
        return np.zeros(black.shape, dtype=bool)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=8)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    border = np.zeros(count, dtype=np.uint8)
    border[edges] = stats[edges, cv2.CC_STAT_AREA] >= _LEAST * black.size
    border[0] = 0
    # A px at the rim of it is a mixture.
    rim = np.ones((5, 5), dtype=np.uint8)
    found: NDArray[np.bool_] = cv2.dilate(border[labels], rim).astype(bool)
    return found
