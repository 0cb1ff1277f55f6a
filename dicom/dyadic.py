"""Levels of a slide by powers of two, as the writer of DICOM pyramids takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from dicom.pyramid_source import Levels

PART_PX = 2048
"""Edge of the part of a finer level that is read at once for a level that is made; also the
greatest factor between these levels."""


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
    picture of a large slide. It is made of the level of the next smaller power: one of another
    factor may be a photograph of the label.
    """
    return levels if is_taken(levels) else _Dyadic(levels)


def sources(levels: Levels) -> Sequence[int]:
    """Return which level of the file each of `dyadic` is read from."""
    return range(len(levels.level_dimensions)) if is_taken(levels) else _Dyadic(levels).sources


def made_sizes(levels: Levels) -> frozenset[tuple[int, int]]:
    """Return the sizes (width, height) of those of `dyadic` that the file does not hold."""
    return frozenset() if is_taken(levels) else _Dyadic(levels).made_sizes


class _Dyadic:
    """Levels by powers of two, each of them once."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        base = levels.level_dimensions[0]
        powers = _powers(levels)
        first = {power: k for k, power in reversed([*enumerate(powers)]) if power is not None}
        exact = {n: k for n, k in first.items() if power_of(base, levels.level_dimensions[k]) == n}
        made: dict[int, int] = {}
        for k, down in enumerate(levels.level_downsamples):
            power = _next(down)
            finer = max(n for n in exact if n < power or n == 1)
            if powers[k] is None and power not in first and power // finer <= PART_PX:
                made[power] = exact[finer]
        self._of_source = {k: n for n, k in exact.items()}
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
        self.made_sizes = frozenset(
            size
            for size, is_made in zip(self.level_dimensions, self._is_made, strict=True)
            if is_made
        )

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
        return self._made(location, level, size)

    def _made(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return RGBA of a level that is made, as `read_region`: part by part."""
        power, source = self._powers[level], self.sources[level]
        of_source, down = self._of_source[source], self._levels.level_downsamples[source]
        shrunk = power // of_source
        edge = PART_PX // shrunk
        made = Image.new("RGBA", size)
        # Nothing is read beyond the edge of the slide.
        ends = (
            min(n, -(-whole // power) - at // power)
            for n, whole, at in zip(size, self._levels.level_dimensions[0], location, strict=True)
        )
        across, along = (range(0, end, edge) for end in ends)
        for x, y in product(across, along):
            part = min(edge, size[0] - x), min(edge, size[1] - y)
            # The reader finds the level's px by its own quotient.
            at = tuple(
                round((start + n * power) / of_source * down)
                for start, n in zip(location, (x, y), strict=True)
            )
            finer = part[0] * shrunk, part[1] * shrunk
            px = self._levels.read_region((at[0], at[1]), source, finer)
            made.paste(px.resize(part, Image.Resampling.BOX), (x, y))
        return made


def _next(factor: float) -> int:
    """Return the power of two that is a factor or above it."""
    return int(2 ** math.ceil(math.log2(factor)))
