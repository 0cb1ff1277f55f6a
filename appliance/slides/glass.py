"""The glass of a slide: its color on an overview, and the calibration of px to it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.slide_level.unscanned import TINT, fill

DARK = 40
"""Gray level up to which a px is pen, edge or unscanned: neither tissue nor glass."""
ASSUMED_WHITE = (245, 245, 245)
"""Color of the glass of a slide that shows none."""
UNEVEN = 8
"""Spread of the brightest px (from their 10th to their 90th percentile), in gray levels (0-255),
above which they are no glass, if their color has a tint. Slides have a spread of 0 to 2, real
fields without glass 7 to 41."""


def glass_rgb(pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Color of the glass from scanned px, uint8 RGB (n, 3): median of the brightest tenth.

    A field full of tissue has hardly any glass. A median darker than any glass is tissue, and so is
    a colored one of px that are not alike; the usual scanner's white is assumed then.
    """
    gray = pixels.min(axis=-1)
    at_least = np.searchsorted(np.cumsum(np.bincount(gray, minlength=256)), 0.9 * gray.size)
    brightest = pixels[gray >= at_least]
    r, g, b = (int(v) for v in np.median(brightest, axis=0))
    spread = np.subtract(*np.percentile(brightest, (90, 10), axis=0)).max()
    tissue = max(r, g, b) - min(r, g, b) > TINT and spread > UNEVEN
    return (r, g, b) if min(r, g, b) >= 180 and not tissue else ASSUMED_WHITE


def usable_px(overview: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Px that may be tissue or glass, bool (rows, cols): no green pen, no black, no fill."""
    red, green, blue = (overview[..., c].astype(np.int16) for c in range(3))
    dark = overview.max(axis=2) <= DARK
    # No stain of a section is green.
    green_pen = (green > red + 30) & (green > blue + 15)
    # A px at the rim of these is a mixture.
    rim = np.ones((5, 5), dtype=np.uint8)
    unusable = cv2.dilate((dark | green_pen).astype(np.uint8), rim).astype(bool)
    usable: NDArray[np.bool_] = ~(unusable | fill(overview))
    return usable


def white_gain(white_rgb: tuple[int, int, int]) -> NDArray[np.float32]:
    """Diagonal matrix (3, 3) that brings glass of `white_rgb` to 255 in each channel."""
    return np.diag(255.0 / np.maximum(white_rgb, 1)).astype(np.float32)


def calibrate(
    pixels: NDArray[np.uint8], gain: NDArray[np.float32], into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Apply `white_gain` to uint8 RGB pixels (..., rows, cols, 3); `into` has the same shape."""
    out = np.empty_like(pixels) if into is None else into
    rows = (-1, pixels.shape[-2], 3)
    # Takes a third of the time of a look-up table.
    cv2.transform(pixels.reshape(rows), gain, out.reshape(rows))
    return out
