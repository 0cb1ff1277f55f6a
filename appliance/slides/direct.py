"""The direct path into a slide: its own encoded tiles, straight to the codec.

OpenSlide composes every read on a transparent canvas; that costs several times what decoding does.
Here a tile is read from its file at its offset and decoded, nothing else. What a format does beyond
its tiles (stitching, overlaps, odd color) is OpenSlide's to know, so a level is read directly only
where samples of it come out identical to OpenSlide's: `DirectSlide.level` looks.
"""

from __future__ import annotations

import logging
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFileError

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.dicom_tiles import dicom_levels
from appliance.slides.encoded import EncodedLevel, Pixels
from appliance.slides.tiff_tiles import tiff_levels

log = logging.getLogger(__name__)

Covered = NDArray[np.bool_] | None
"""Which px the slide has, bool (rows, cols); none where it has them all."""

SAMPLES = 8
"""Tiles of a level that are compared with OpenSlide's."""
CACHED_BYTES = 64 * 2**20
"""Decoded tiles kept, so that those which straddle two reads are decoded once."""


class DirectSlide:
    """The levels of a slide that can be read directly; each is compared when it is first read.

    `general` reads RGBA (height, width, 4) from a level of `sizes` by OpenSlide.
    """

    def __init__(
        self,
        path: Path,
        sizes: Sequence[tuple[int, int]],
        general: Callable[[int, int, int, int, int], Pixels],
    ) -> None:
        self._general = general
        self._lock = Lock()
        self._opening = Lock()
        self._checked: dict[int, DirectLevel | None] = {}
        self._files: dict[Path, int] = {}
        cache = TileCache()
        levels = dicom_levels(path, sizes) if path.suffix.lower() == ".dcm" else None
        encoded = levels or tiff_levels(path, sizes)
        self._found = {
            number: DirectLevel(level, (number, 1), partial(self._fetch, level.path), cache)
            for number, level in encoded.items()
        }
        self._halved = {
            number: DirectLevel(half, (number, 2), partial(self._fetch, level.path), cache)
            for number, level in encoded.items()
            if (half := _halved(level)) is not None
        }

    def close(self) -> None:
        """Close its files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def level(self, number: int) -> DirectLevel | None:
        """The level, where its px are OpenSlide's; none where they are not."""
        with self._lock:
            if number not in self._checked:
                level = self._found.get(number)
                same = level is not None and self._same(number, level)
                self._checked[number] = level if same else None
                if not same:
                    log.info(
                        "level %d is read by OpenSlide: its tiles alone give other pixels, or none",
                        number,
                    )
            return self._checked[number]

    def half(self, number: int) -> DirectLevel | None:
        """The level at half its size, straight from the codec; none where that costs as much.

        A level that was not there before: its px are nearly, not exactly, the means of four.
        """
        return None if self.level(number) is None else self._halved.get(number)

    def _same(self, number: int, level: DirectLevel) -> bool:
        compared = 0
        for column, row in level.fullest(SAMPLES):
            try:
                tile = level.tile(column, row)
                if tile is None:
                    continue
                height, width = tile.shape[:2]
                rgba = self._general(number, column * width, row * height, width, height)
            except SlideError:  # a damaged tile says nothing of the others
                continue
            if not (rgba[..., 3] == 255).all() or not np.array_equal(rgba[..., :3], tile):
                return False
            compared += 1
        return compared > 0

    def _fetch(self, path: Path, offset: int, count: int) -> bytes:
        with self._opening:
            if path not in self._files:
                self._files[path] = os.open(path, os.O_RDONLY)
            file = self._files[path]
        data = os.pread(file, count, offset)
        if len(data) < count:
            raise SlideError(QuarantineReason.DAMAGED, "the file ends within a tile")
        return data


class DirectLevel:
    """One level; its px from the file's own tiles. May be used by many threads."""

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
        """(column, row) of the whole tiles with most bytes: glass would look alike anyway."""
        whole = (self.width // self._tile_columns, self.height // self._tile_rows)
        order = np.argsort(-self._counts, kind="stable")
        places = ((int(n) % self._columns, int(n) // self._columns) for n in order)
        return list(islice((p for p in places if p[0] < whole[0] and p[1] < whole[1]), number))

    def read(
        self, x: int, y: int, width: int, height: int, *, lost_px: list[int] | None = None
    ) -> tuple[Pixels, Covered]:
        """Level px from (x, y) on, uint8 RGB (height, width, 3), and which of them there are.

        Raises SlideError DAMAGED where a tile cannot be decoded; given `lost_px`, such a tile is
        not there, and its number of px is added to the list.
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
                # One that lies within the window whole is wanted by few others, which overlap.
                # Those between two blocks of an overview are, but together they grow with it.
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
        """A whole tile of the file, uint8 RGB; none where the scanner left it out."""
        index = row * self._columns + column
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
        if any(a > b for a, b in zip(tile.shape, size, strict=True)):
            raise SlideError(QuarantineReason.DAMAGED, f"tile {index} is too large")
        if tile.shape != size:  # some writers cut the tiles at the slide's edge
            whole = np.zeros(size, dtype=np.uint8)
            rows, columns = (min(a, b) for a, b in zip(tile.shape[:2], size[:2], strict=True))
            whole[:rows, :columns] = tile[:rows, :columns]
            return whole
        return tile


def _halved(level: EncodedLevel) -> EncodedLevel | None:
    if level.decode_half is None or any(edge % 2 for edge in level.tile_px):
        return None
    width, height = (-(-edge // 2) for edge in level.size_px)
    tile_px = (level.tile_px[0] // 2, level.tile_px[1] // 2)
    return replace(level, size_px=(width, height), tile_px=tile_px, decode=level.decode_half)


class TileCache:
    """The decoded tiles used last, up to a number of bytes; may be used by many threads."""

    def __init__(self, most_bytes: int = CACHED_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._tiles: OrderedDict[tuple[int, ...], Pixels] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, ...], make: Callable[[], Pixels], *, keep: bool = True) -> Pixels:
        """The tile; `make` decodes it outside the lock (two threads may do so at once).

        One that was not there is there from now on if it is to be kept.
        """
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        tile = make()
        if not keep:
            return tile
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._held += tile.nbytes
            while self._held > self._most:
                _, oldest = self._tiles.popitem(last=False)
                self._held -= oldest.nbytes
        return tile
