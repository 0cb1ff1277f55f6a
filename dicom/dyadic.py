"""Levels of a slide by powers of two, as the writer of DICOM pyramids takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from dicom.pyramid_source import Levels


def power_of(base: tuple[int, int], level: tuple[int, int]) -> int | None:
    """Return the power of two that a level was shrunk by, with the rest at the edge dropped or
    rounded up; None where it was shrunk by another factor. Sizes are (width, height)."""
    power = int(2 ** max(0, round(math.log2((base[0] / level[0] + base[1] / level[1]) / 2))))
    exact = all(abs(b / power - n) < 1 for b, n in zip(base, level, strict=True))
    return power if exact else None


def is_taken(levels: Levels) -> bool:
    """Return whether the writer takes the levels by the factors that they state."""
    from wsidicom.config import settings

    logs = [math.log2(down) for down in levels.level_downsamples]
    within = settings.level_scale_tolerance
    return all(math.isclose(log, round(log), rel_tol=0, abs_tol=within) for log in logs)


def keeps_all(levels: Levels) -> bool:
    """Return whether the levels of `dyadic` are those of the file, each of them."""
    if is_taken(levels):
        return True
    powers = [power_of(levels.level_dimensions[0], size) for size in levels.level_dimensions]
    return None not in powers and len(set(powers)) == len(powers)


def dyadic(levels: Levels) -> Levels:
    """Return the levels as the writer takes them; `levels` itself where it does already.

    A small level's quotient of the sizes is far from the factor that it was shrunk by. A level of
    another factor is replaced by one of the next power of two, so that a viewer keeps a small
    picture of a large slide.
    """
    return levels if is_taken(levels) else _Dyadic(levels)


def sources(levels: Levels) -> Sequence[int]:
    """Return which level of the file each of `dyadic` is read from."""
    return range(len(levels.level_dimensions)) if is_taken(levels) else _Dyadic(levels).sources


class _Dyadic:
    """Levels by powers of two, each of them once."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        base = levels.level_dimensions[0]
        powers = [power_of(base, size) for size in levels.level_dimensions]
        first = {power: k for k, power in reversed([*enumerate(powers)]) if power is not None}
        made: dict[int, int] = {}
        for k, down in enumerate(levels.level_downsamples):
            if powers[k] is None and (power := _next(down)) not in first:
                made.setdefault(power, k)
        self._powers = sorted(first | made)
        self._is_made = [power in made for power in self._powers]
        self.sources = [(first | made)[power] for power in self._powers]
        self.level_downsamples: Sequence[float] = [float(power) for power in self._powers]
        self.level_dimensions: Sequence[tuple[int, int]] = [
            (max(1, base[0] // power), max(1, base[1] // power))
            if power in made
            else levels.level_dimensions[first[power]]
            for power in self._powers
        ]

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        """Return RGBA of a level; `location` in level-0 px, `size` in px of the level."""
        read, source = self._levels.read_region, self.sources[level]
        power, down = self._powers[level], self._levels.level_downsamples[source]
        if not self._is_made[level]:
            # The reader finds the level's px by its own quotient.
            at = round(location[0] / power * down), round(location[1] / power * down)
            return read(at, source, size)
        wide = max(1, round(size[0] * power / down)), max(1, round(size[1] * power / down))
        return read(location, source, wide).resize(size, Image.Resampling.BOX)


def _next(factor: float) -> int:
    """Return the power of two that is a factor or above it."""
    return int(2 ** math.ceil(math.log2(factor)))
