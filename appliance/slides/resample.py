"""Resampling of a level's px to a raster of another px size.

Sampling is linear onto the target raster. Where the target is coarser than the level by more than
`SMOOTH_TO`, sampling is linear onto a finer raster, a whole multiple of the target, and then
averaged by area. Px sizes are exact; places are accurate to `NEAR_PX`.

`cv2.resize` is several times faster than a general warp, but only for windows that begin at a px of
the level. The raster is therefore extended to the left (`lead`) until one of its px begins, within
`NEAR_PX`, where a px of the level does. Without such a place the general warp is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SMOOTH_TO = 1.2
"""Level px per target px up to which linear sampling alone weights all level px nearly equally."""
MOST_LEAD = 32
"""Largest lead, in fine px."""
NEAR_PX = 1 / 16
"""Tolerance of a place, in level px: 0.02 µm on a scan at 40x, far below the error of any
alignment."""
SAME = 1e-6
"""Largest difference of a step from 1 that counts as none: a thousandth of a px on a tile."""


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a window: the level px that it needs, and its place in them.

    The window needs `count` level px from `first`. The raster begins `lead` fine px before the
    target window, and `off` level px after the start of `first`.
    """

    first: int
    count: int
    lead: int
    off: float


@dataclass(frozen=True, slots=True)
class Raster:
    """Raster whose px are `scale` px of a level wide, each the mean of `fine` x `fine` fine px."""

    scale: float

    @property
    def fine(self) -> int:
        """Fine px per px, along one axis."""
        return 1 if self.scale <= SMOOTH_TO else math.ceil(self.scale - 1e-3)

    @property
    def step(self) -> float:
        """Level px per fine px."""
        return self.scale / self.fine

    def span(self, start: int, count: int, *, lead: bool = True) -> Span:
        """Level px for `count` px of the raster from `start`; none lies before the slide.

        The last may lie outside the slide. Without `lead` the span has only the px that the raster
        samples, and one around them.
        """
        begin, end = start * self.scale, (start + count) * self.scale
        if abs(self.step - 1) < SAME and abs(begin - round(begin)) < NEAR_PX:  # the level's own px
            return Span(round(begin), count * self.fine, 0, 0.0)
        # The first px samples one level px before its own start too.
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
        """Resample level px (y.count, x.count, …) to uint8 (rows, columns, …) of this raster."""
        size = columns * self.fine, rows * self.fine
        same = abs(self.step - 1) < SAME
        # OpenCV copies where the number of px stays the same; the last px would be off by half.
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
        # The center of fine px i lies at (i + 0.5) * step from the raster's edge.
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
