"""Likeness of the pixels of two aligned slides: two sections never show the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.registration.mapping import SlideMapping

SAME_SECTION = 0.96
"""Likeness from which two slides show one section (docs/identity-picture.md)."""
MOST_PLACES = 60_000
FINE_PX, COARSE_PX = 0.8, 4.0
"""Sigmas of the band of structure that is compared: nuclei and less, no shading."""
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)

Pixels = NDArray[np.uint8]
Float = NDArray[np.float32]


def likeness(
    he: Pixels, ihc: Pixels, tissue: NDArray[np.bool_], mapping: SlideMapping, mpp: float
) -> float:
    """Return the likeness (-1 to 1) of two overviews, uint8 RGB at `mpp`; `tissue` is the H&E's.

    It is the correlation of fine structure in the color in which it is least: another stain differs
    in at least one. Places are compared as the mapping has them and, for slides of one size, as
    they are; the better one counts.
    """
    rows, columns = np.nonzero(tissue)
    step = max(1, len(rows) // MOST_PLACES)
    rows, columns = rows[::step], columns[::step]
    if len(rows) < 100:
        return 0.0
    first, second = _fine(he), _fine(ihc)
    here = first[rows, columns]
    places = mapping.forward(np.stack([columns + 0.5, rows + 0.5], axis=1) * mpp) / mpp - 0.5
    found = [_correlation(here, _sampled(second, places))]
    if he.shape == ihc.shape:
        found.append(_correlation(here, second[rows, columns]))
    return max(found)


def _fine(image: Pixels) -> Float:
    density = _DENSITY[image]
    fine: Float = cv2.GaussianBlur(density, (0, 0), FINE_PX)
    fine -= cv2.GaussianBlur(density, (0, 0), COARSE_PX)
    return fine


def _sampled(fine: Float, places: NDArray[np.float64]) -> Float:
    """Values at (column, row) places (n, 2); NaN where they are none or off the picture."""
    rows, columns = fine.shape[:2]
    on = np.isfinite(places).all(axis=1)
    on &= (places >= 0).all(axis=1) & (places[:, 0] < columns - 1) & (places[:, 1] < rows - 1)
    values = np.full((len(places), 3), np.nan, dtype=np.float32)
    at = places[on].astype(int)
    part = (places[on] - at).astype(np.float32)
    x, y = part[:, :1], part[:, 1:]
    column, row = at.T
    above = fine[row, column] * (1 - x) + fine[row, column + 1] * x
    below = fine[row + 1, column] * (1 - x) + fine[row + 1, column + 1] * x
    values[on] = above * (1 - y) + below * y
    return values


def _correlation(a: Float, b: Float) -> float:
    """Least correlation of the three colors, over the places that both have; 0 for few places."""
    both = np.asarray(np.isfinite(b).all(axis=1))
    if both.sum() < max(100, 0.3 * len(b)):
        return 0.0
    a, b = a[both] - a[both].mean(axis=0), b[both] - b[both].mean(axis=0)
    spread = np.sqrt((a**2).mean(axis=0) * (b**2).mean(axis=0)) + 1e-6
    return float(((a * b).mean(axis=0) / spread).min())
