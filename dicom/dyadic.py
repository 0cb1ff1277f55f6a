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
    """Return whether the writer takes the levels by the factors that they state.

    It keeps one level of each rounded power, the last, and looks at no other.
    """
    kept = {round(math.log2(down)): k for k, down in enumerate(levels.level_downsamples)}
    sizes = levels.level_dimensions
    whole = sizes[kept.get(0, 0)] == sizes[0]
    return whole and all(_is_near(levels.level_downsamples[k]) for k in kept.values())


def keeps_all(levels: Levels) -> bool:
    """Return whether the writer keeps levels of the file alone: none of `dyadic` is made anew."""
    if is_taken(levels):
        return True
    powers = _powers(levels)
    return None not in powers and len(set(powers)) == len(powers)


def _is_near(down: float) -> bool:
    """Return whether the writer takes a factor for a power of two."""
    from wsidicom.config import settings

    log = math.log2(down)
    return math.isclose(log, round(log), rel_tol=0, abs_tol=settings.level_scale_tolerance)


def _powers(levels: Levels) -> list[int | None]:
    """Return the power of two of each level; None where it was shrunk by another factor."""
    sizes = levels.level_dimensions
    found = [power_of(sizes[0], size) for size in sizes]
    for k, down in enumerate(levels.level_downsamples):
        power = int(2 ** round(math.log2(down)))
        if found[k] is None and power > 1 and _is_near(down):
            found[k] = power
    return found


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
        powers = _powers(levels)
        first = {power: k for k, power in reversed([*enumerate(powers)]) if power is not None}
        made: dict[int, int] = {}
        for k, down in enumerate(levels.level_downsamples):
            if powers[k] is None and (power := _next(down)) not in first:
                made.setdefault(power, k)
        self._powers = sorted(first | made)
        self._is_made = [power in made for power in self._powers]
        self.sources = [(first | made)[power] for power in self._powers]
        # A level near a power of two keeps the factor that the file states, as `is_taken` has it.
        self.level_downsamples: Sequence[float] = [
            float(power)
            if power in made or power_of(base, levels.level_dimensions[first[power]])
            else levels.level_downsamples[first[power]]
            for power in self._powers
        ]
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
        factor, down = self.level_downsamples[level], self._levels.level_downsamples[source]
        if not self._is_made[level]:
            # The reader finds the level's px by its own quotient.
            at = round(location[0] / factor * down), round(location[1] / factor * down)
            return read(at, source, size)
        wide = max(1, round(size[0] * factor / down)), max(1, round(size[1] * factor / down))
        return read(location, source, wide).resize(size, Image.Resampling.BOX)


def _next(factor: float) -> int:
    """Return the power of two that is a factor or above it."""
    return int(2 ** math.ceil(math.log2(factor)))
