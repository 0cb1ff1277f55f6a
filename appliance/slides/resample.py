"""From the px of a level to px of the size that is wanted, each where it belongs.

Linear onto the wanted raster or, where that is coarser than the level by more than `SMOOTH_TO`,
onto a whole multiple of it that is not, then the area average over that multiple. Sizes are exact,
places to `NEAR_PX`. `cv2.resize` does the first several times faster than a general warp, but only
for windows that begin with the raster's own px: the raster is prolonged to the left until one of
its px begins, near enough, where one of the level's does. Where none does, the warp it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SMOOTH_TO = 1.2
"""Level px per wanted px up to which linear sampling alone weighs all level px nearly alike."""
MOST_LEAD = 32
"""Fine px by which the raster is prolonged at most."""
NEAR_PX = 1 / 16
"""Of the level; 0.02 µm on a scan at 40x. No slide is aligned with another so well."""
SAME = 1e-6
"""So little a step may differ from 1: a thousandth of a px on a tile."""


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a window: which level px it needs, and where its own lie in these.

    `first` and `count` of the level's px, from which the raster begins; it is `lead` px longer
    there than is wanted, and its first px begins `off` px (of the level) after the level's.
    """

    first: int
    count: int
    lead: int
    off: float


@dataclass(frozen=True, slots=True)
class Raster:
    """Px that are `scale` px of a level wide. Each is the mean of `fine` x `fine` finer ones."""

    scale: float

    @property
    def fine(self) -> int:
        """Finer px per px."""
        return 1 if self.scale <= SMOOTH_TO else math.ceil(self.scale - 1e-3)

    @property
    def step(self) -> float:
        """Level px per finer px."""
        return self.scale / self.fine

    def span(self, start: int, count: int, *, lead: bool = True) -> Span:
        """The level's px for the raster's `count` px from `start` on; none lies before the slide.

        Its last px may lie beyond the slide. Without `lead`, no more than those that the raster
        takes from, and one around.
        """
        begin, end = start * self.scale, (start + count) * self.scale
        if abs(self.step - 1) < SAME and abs(begin - round(begin)) < NEAR_PX:  # the level's own px
            return Span(round(begin), count * self.fine, 0, 0.0)
        # One px of the level lies before the first that is wanted, which takes from it too.
        least = math.ceil(1 / self.step) if begin >= 1 else 0
        for longer in range(least, MOST_LEAD + 1 if lead else least):
            at = begin - longer * self.step
            if at > -NEAR_PX and abs(at - round(at)) <= NEAR_PX:
                return self._from(round(at), at, end, longer)
        at = begin - least * self.step
        return self._from(max(0, math.floor(at)), at, end, least)

    def _from(self, first: int, at: float, end: float, lead: int) -> Span:
        return Span(first, math.ceil(end + 0.5) + 1 - first, lead, at - first)

    def sample(self, level: Pixels, x: Span, y: Span, columns: int, rows: int) -> Pixels:
        """uint8 (rows, columns, …) of this raster from level px (y.count, x.count, …)."""
        size = columns * self.fine, rows * self.fine
        same = abs(self.step - 1) < SAME
        # Where no px would be won or lost, OpenCV copies, and the last px would be off by half one.
        copied = not same and all(abs(n / self.step - n) <= 0.5 for n in level.shape[:2])
        if copied or max(abs(x.off), abs(y.off)) > NEAR_PX:
            finer = self._warped(level, x, y, size)
        else:
            finer = level if same else self._enlarged(level)
            finer = finer[y.lead : y.lead + size[1], x.lead : x.lead + size[0]]
        if self.fine > 1:
            finer = cv2.resize(finer, (columns, rows), interpolation=cv2.INTER_AREA)
        return np.asarray(finer, dtype=np.uint8)

    def _enlarged(self, level: Pixels) -> Pixels:
        finer = cv2.resize(
            level, None, fx=1 / self.step, fy=1 / self.step, interpolation=cv2.INTER_LINEAR
        )
        return np.asarray(finer, dtype=np.uint8)

    def _warped(self, level: Pixels, x: Span, y: Span, size: tuple[int, int]) -> Pixels:
        # Centre of finer px i lies at (i + 0.5) * step from the raster's edge.
        begin = [s.off + (s.lead + 0.5) * self.step - 0.5 for s in (x, y)]
        matrix = np.array([[self.step, 0, begin[0]], [0, self.step, begin[1]]])
        warped = cv2.warpAffine(
            level,
            matrix,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(warped, dtype=np.uint8)
