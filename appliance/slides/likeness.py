"""Likeness of pictures: whether a smaller one shows what a larger one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import cv2
import numpy as np

from appliance.slides.encoded import Pixels
from appliance.slides.header import true_downsample

PLACES, LIKE, EVEN = 8, 0.5, 3.0
"""Places of two pictures that are compared, their least correlation, and the spread in gray levels
below which they show nothing."""
PLACE_PX, FINER_PX = 256, 2048
"""Greatest edge of such a place of a level, and of the same place of the finer one."""
SHARES = 4
"""Places along the shorter edge of a small level."""
MOST_COMPARED_PX = 20_000_000
"""Area of the largest level that is compared; a photograph of the label or the glass is smaller."""
TRIED = 4 * PLACES
"""Places that are tried: damaged ones, and those that were not scanned, are no evidence."""

Level = tuple[int, tuple[int, int]]
"""Number of a level and its size (width, height)."""
Read = Callable[[int, int, int, int, int, list[int]], Pixels]
"""Reads RGBA of a level: number, x, y, width and height in its px; appends px that are damaged."""


def likeness(pairs: Sequence[tuple[Pixels, Pixels]]) -> float:
    """Return the correlation of pairs of pictures of equal size; 1 where one side shows nothing."""
    if not pairs:
        return 1.0
    both = [np.concatenate(side).astype(np.float32) for side in zip(*pairs, strict=True)]
    # The colors of one stain are alike on any two slides; its structure is not.
    shown = [(side - side.mean(axis=(0, 1))).ravel() for side in both]
    if min(float(side.std()) for side in shown) < EVEN:
        return 1.0
    return float(np.asarray(np.corrcoef(shown[0], shown[1]))[0, 1])


def shows_a_finer(read: Read, finer: Level, level: Level) -> bool:
    """Return whether a level shows a finer one, at the places where it shows most.

    True of a level that shows nothing, and of one too large for a photograph of the label. False
    where none of these places can be read.
    """
    width, height = level[1]
    if width * height > MOST_COMPARED_PX:
        return True
    coarse = read(level[0], 0, 0, width, height, [])
    down = true_downsample(finer[1], level[1])
    edge = max(1, min(PLACE_PX, int(FINER_PX / down), min(level[1]) // SHARES))
    pairs = []
    for x, y in _fullest(coarse, edge):
        finer_px = round(edge * down)
        fine = read(finer[0], round(x * down), round(y * down), finer_px, finer_px, [])
        if fine[..., 3].all():
            small = cv2.resize(fine[..., :3], (edge, edge), interpolation=cv2.INTER_AREA)
            pairs.append((np.asarray(small, np.uint8), coarse[y : y + edge, x : x + edge, :3]))
        if len(pairs) == PLACES:
            break
    if not pairs:
        return False
    shown = [np.concatenate(side).std(axis=(0, 1)).max() for side in zip(*pairs, strict=True)]
    if shown[1] < EVEN:
        return True
    return bool(shown[0] >= EVEN) and likeness(pairs) >= LIKE


def _fullest(rgba: Pixels, edge: int) -> list[tuple[int, int]]:
    """Return the corners (x, y) of places without gaps, those of most contrast first."""
    rows, columns = (range(0, n - edge + 1, edge) for n in rgba.shape[:2])
    found = []
    for y, x in product(rows, columns):
        place = rgba[y : y + edge, x : x + edge]
        if place[..., 3].all():
            found.append((float(place[..., :3].std(axis=(0, 1)).max()), x, y))
    return [(x, y) for _, x, y in sorted(found, reverse=True)[:TRIED]]
