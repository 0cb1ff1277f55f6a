"""One level of a slide, read from the encoded tiles of its file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFileError

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.encoded import EncodedLevel, Pixels
from appliance.slides.tile_cache import TileCache

Covered = NDArray[np.bool_] | None
"""Px that the slide has, bool (rows, columns); None where it has them all."""


class DirectLevel:
    """A level whose px come from its file's own tiles; usable by many threads.

    `name` is the level's key in `cache`; `fetch` returns `count` bytes of the file at an offset.
    """

    def __init__(
        self,
        level: EncodedLevel,
        name: tuple[int, int],
        fetch: Callable[[int, int], bytes],
        cache: TileCache,
    ) -> None:
        self.width, self.height = level.size_px
        self._tile_columns, self._tile_rows = level.tile_px
        self._columns = -(-self.width // self._tile_columns)
        self._rows = -(-self.height // self._tile_rows)
        self._offsets, self._counts, self._decode = level.offsets, level.counts, level.decode
        self._fetch, self._cache, self._name = fetch, cache, name

    def fullest(self, number: int) -> list[tuple[int, int]]:
        """(column, row) of the `number` whole tiles with most bytes; tiles of glass look alike."""
        whole = (self.width // self._tile_columns, self.height // self._tile_rows)
        order = np.argsort(-self._counts, kind="stable")
        places = ((int(n) % self._columns, int(n) // self._columns) for n in order)
        return list(islice((p for p in places if p[0] < whole[0] and p[1] < whole[1]), number))

    def read(
        self, x: int, y: int, width: int, height: int, *, lost_px: list[int] | None = None
    ) -> tuple[Pixels, Covered]:
        """Level px from (x, y), uint8 RGB (height, width, 3), and where the slide has px.

        Raises SlideError DAMAGED where a tile cannot be decoded. With `lost_px` such a tile counts
        as missing instead, and its number of px is appended to the list.
        """
        out = np.empty((height, width, 3), dtype=np.uint8)
        covered = None
        if x < 0 or y < 0 or x + width > self.width or y + height > self.height:
            covered = np.zeros((height, width), dtype=bool)
            rows = slice(max(0, -y), max(0, self.height - y))
            covered[rows, max(0, -x) : max(0, self.width - x)] = True
        first_row, last_row = max(0, y // self._tile_rows), (y + height - 1) // self._tile_rows
        first, last = max(0, x // self._tile_columns), (x + width - 1) // self._tile_columns
        for row in range(first_row, min(last_row, self._rows - 1) + 1):
            top = row * self._tile_rows - y
            into_rows = slice(max(0, top), min(height, top + self._tile_rows))
            for column in range(first, min(last, self._columns - 1) + 1):
                left = column * self._tile_columns - x
                into = into_rows, slice(max(0, left), min(width, left + self._tile_columns))
                # Keep out of the cache: tiles wholly inside the window, which few overlapping
                # windows need; and all tiles of an overview. Tiles between two of its blocks are
                # needed twice, but their number grows with the slide.
                inside = (
                    0 <= top <= height - self._tile_rows and 0 <= left <= width - self._tile_columns
                )
                once = inside or lost_px is not None
                try:
                    tile = self.tile(column, row, keep=not once)
                except SlideError:
                    if lost_px is None:
                        raise
                    tile = None
                    r, c = into
                    lost_px.append((r.stop - r.start) * (c.stop - c.start))
                if tile is None:
                    if covered is None:
                        covered = np.ones((height, width), dtype=bool)
                    covered[into] = False
                    continue
                r, c = into
                out[into] = tile[r.start - top : r.stop - top, c.start - left : c.stop - left]
        return out, covered

    def tile(self, column: int, row: int, *, keep: bool = True) -> Pixels | None:
        """A whole tile of the file, uint8 RGB; None where the scanner left it out."""
        index = row * self._columns + column
        if index >= min(len(self._counts), len(self._offsets)):
            raise SlideError(QuarantineReason.DAMAGED, f"tile {index} has no place in the file")
        if self._counts[index] == 0:
            return None
        return self._cache.get((*self._name, index), lambda: self._decoded(index), keep=keep)

    def _decoded(self, index: int) -> Pixels:
        data = self._fetch(int(self._offsets[index]), int(self._counts[index]))
        try:
            tile = self._decode(data, index)
        except (RuntimeError, ValueError, TiffFileError, struct.error) as err:
            raise SlideError(QuarantineReason.DAMAGED, f"tile {index}: {err}") from err
        size = (self._tile_rows, self._tile_columns, 3)
        if tile.ndim != 3 or tile.shape[2] != 3:
            raise SlideError(QuarantineReason.DAMAGED, f"tile {index} has no color")
        if any(a > b for a, b in zip(tile.shape, size, strict=True)):
            raise SlideError(QuarantineReason.DAMAGED, f"tile {index} is too large")
        if tile.shape != size:  # some writers crop the tiles at the slide's edge
            whole = np.zeros(size, dtype=np.uint8)
            rows, columns = (min(a, b) for a, b in zip(tile.shape[:2], size[:2], strict=True))
            whole[:rows, :columns] = tile[:rows, :columns]
            return whole
        return tile


def halved(level: EncodedLevel) -> EncodedLevel | None:
    """The level at half its size; None where its codec cannot decode to that, or a tile's edge is
    odd."""
    if level.decode_half is None or any(edge % 2 for edge in level.tile_px):
        return None
    width, height = (-(-edge // 2) for edge in level.size_px)
    tile_px = (level.tile_px[0] // 2, level.tile_px[1] // 2)
    return replace(level, size_px=(width, height), tile_px=tile_px, decode=level.decode_half)
