"""Index of a TIFF: its directories, and where their tiles and strips lie in the file.

tifffile reads whatever a tag claims. The index here is bounded: files that are still being written,
or are damaged, are looked at in the thread that scans the scanner's folder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_DIRECTORIES = 4096
"""Most directories of a slide: levels, focal planes and associated images."""
MOST_ENTRIES = 4096
"""Most tags of a directory."""
WIDTH, HEIGHT, TILE_WIDTH, SUB_DIRECTORIES, NDPI_FLAG, FIRST_PRIVATE = (
    256,
    257,
    322,
    330,
    65420,
    32768,
)
COMPRESSION, UNCOMPRESSED = 259, 1
SAMPLES, ROWS, PLANAR, TILE_HEIGHT = 277, 278, 284, 323
PHOTOMETRIC, GRAY = 262, (0, 1)
"""Tag of what a sample means, and its values for gray: WhiteIsZero and BlackIsZero (TIFF 6.0)."""
LAST_BYTES = 64
"""Last bytes of a compressed tile that are never all zero; some writers pad tiles with a few."""
OFFSETS, COUNTS = (324, 273), (325, 279)
"""Tags of the offsets and byte counts of tiles, then of strips (TIFF 6.0)."""
_WHOLE = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
"""Bytes of the types of whole numbers: BYTE, SHORT, LONG, IFD, LONG8, IFD8."""
_SIZES = {**_WHOLE, 2: 1, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 17: 8}
"""Bytes of the values of each type."""


class TiffIndexError(Exception):
    """The index of a TIFF is damaged, or leads beyond the end of the file."""


class NoTiffError(TiffIndexError):
    """The bytes are no TIFF."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Tag of a directory: type, number of values, and where the values lie in the file.

    `value`: a single number of NDPI, whose halves lie apart.
    """

    kind: int
    count: int
    offset: int
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Numbers of TIFF, BigTIFF and NDPI: sizes of a directory's parts and of offsets."""

    order: str
    head: str
    entry: int
    link: str
    inline: int

    @property
    def head_bytes(self) -> int:
        """Size of the number of entries."""
        return struct.calcsize(self.head)


class TiffIndex:
    """Directories of an open TIFF of `size_bytes`."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream, self._size = stream, size_bytes
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            raise NoTiffError("no TIFF")
        (version,) = struct.unpack(order + "H", head[2:4])
        if version == 42:
            self._layout = Layout(order, "H", 12, "I", 4)
            (self._first,) = struct.unpack(order + "I", head[4:8])
        elif version == 43:
            self._layout = Layout(order, "Q", 20, "Q", 8)
            (self._first,) = struct.unpack(order + "Q", head[8:16])
        else:
            raise NoTiffError("no TIFF")
        if version == 42 and order == "<":
            self._become_ndpi(head)

    def directories(self) -> list[dict[int, Entry]]:
        """Read all directories, those of pyramids below others (SubIFDs) included.

        Raises
        ------
        TiffIndexError
            If one leads beyond the end of the file, or there are none or too many.
        """
        found: list[dict[int, Entry]] = []
        waiting, seen = [self._first], set[int]()
        while waiting:
            at = waiting.pop()
            if at == 0 or at in seen:
                continue
            seen.add(at)
            if len(found) >= MOST_DIRECTORIES:
                raise TiffIndexError("too many directories")
            entries, link = self._directory(at, self._layout)
            found.append(entries)
            waiting.append(link)
            if SUB_DIRECTORIES in entries:
                waiting += [int(n) for n in self.numbers(entries[SUB_DIRECTORIES])]
        if not found:
            raise TiffIndexError("no directory")
        return found

    def numbers(self, entry: Entry, most: int = MOST_DIRECTORIES) -> NDArray[np.uint64]:
        """Return the values of a tag of whole numbers, which has `most` at most."""
        width = _WHOLE.get(entry.kind)
        if entry.count > most:
            raise TiffIndexError("a tag has too many values")
        if width is None:
            raise TiffIndexError("a tag has values of another type")
        if entry.value is not None:
            return np.array([entry.value], dtype=np.uint64)
        data = self._bytes(entry.offset, entry.count * width)
        return np.frombuffer(data, f"{self._layout.order}u{width}").astype(np.uint64)

    def spans(self, directory: dict[int, Entry]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the offsets and byte counts of a directory's tiles or strips."""
        for offsets, counts, of_tiles in zip(OFFSETS, COUNTS, (True, False), strict=True):
            if offsets in directory:
                needed = self._tiles(directory) if of_tiles else self._strips(directory)
                starts = self.numbers(directory[offsets], needed)
                # Some programs state fewer rows than their single strip has.
                if of_tiles and len(starts) < needed:
                    raise TiffIndexError("a directory lacks tiles")
                if counts not in directory:  # allowed for a single strip
                    return starts, np.ones_like(starts)
                sizes = self.numbers(directory[counts], needed)
                if len(starts) != len(sizes):
                    raise TiffIndexError("as many offsets as byte counts are needed")
                return starts, sizes
        raise TiffIndexError("a directory has neither tiles nor strips")

    def _tiles(self, directory: dict[int, Entry]) -> int:
        """Return the number of tiles that cover the image of a directory."""
        across, down = (
            -(-self._one(directory, edge) // max(1, self._one(directory, tile)))
            for edge, tile in ((WIDTH, TILE_WIDTH), (HEIGHT, TILE_HEIGHT))
        )
        return across * down * self._planes(directory)

    def _strips(self, directory: dict[int, Entry]) -> int:
        """Return the number of strips that cover the image of a directory."""
        height = self._one(directory, HEIGHT)
        rows = self._one(directory, ROWS) or height  # not stated: a single strip
        return max(1, -(-height // max(1, rows))) * self._planes(directory)

    def _planes(self, directory: dict[int, Entry]) -> int:
        """Return how many planes an image has: one for each sample of a px, or one of all."""
        return max(1, self._one(directory, SAMPLES)) if self._one(directory, PLANAR) == 2 else 1

    def _one(self, directory: dict[int, Entry], tag: int) -> int:
        """Return the value of a tag that has one; 0 where it is not stated."""
        if tag not in directory:
            return 0
        values = self.numbers(directory[tag], 1)
        return int(values[0]) if len(values) else 0

    def is_gray(self) -> bool:
        """Return whether the picture of the first directory has no color."""
        first, _ = self._directory(self._first, self._layout)
        is_so = PHOTOMETRIC in first and self._one(first, PHOTOMETRIC) in GRAY
        return is_so and self._one(first, SAMPLES) < 3

    def ends(self) -> Iterator[int]:
        """Yield the end of the furthest tile of each directory."""
        for directory in self.directories():
            self._check(directory)
            end, _ = self._furthest(directory)
            yield end

    def has_all_tiles(self) -> bool:
        """Return whether the furthest tile of each directory lies in the file, and is written."""
        for directory in self.directories():
            self._check(directory)
            end, size = self._furthest(directory)
            if end > self._size or not self._is_written(directory, end, size):
                return False
        return True

    def _furthest(self, directory: dict[int, Entry]) -> tuple[int, int]:
        """Return the end of a directory's furthest tile, and its size in bytes."""
        starts, sizes = self.spans(directory)
        if not len(starts):
            return 0, 0
        # Offset and count below 2^63 each: their sum does not wrap.
        limit = np.uint64(2**62)
        ends = np.minimum(starts, limit) + np.minimum(sizes, limit)
        last = int(ends.argmax())
        return int(ends[last]), int(sizes[last])

    def _is_written(self, directory: dict[int, Entry], end: int, size: int) -> bool:
        """Return whether a tile is no space of zeros: copies often have their full size at once."""
        if size < LAST_BYTES or COMPRESSION not in directory:
            return True
        if self.numbers(directory[COMPRESSION]).tolist() == [UNCOMPRESSED]:
            return True
        return any(self._bytes(end - LAST_BYTES, LAST_BYTES))

    def _check(self, directory: dict[int, Entry]) -> None:
        """Raise TiffIndexError where a standard tag has no value, or not of its type."""
        for tag in (WIDTH, HEIGHT):
            entry = directory.get(tag)
            if entry is None or entry.count != 1 or entry.kind not in _WHOLE:
                raise TiffIndexError("a directory has no image size")
        for tag, entry in directory.items():
            # Scanners write private tags in their own ways.
            length = entry.count * _SIZES.get(entry.kind, 0)
            if tag < FIRST_PRIVATE and entry.offset + length > self._size:
                raise TiffIndexError("the value of a tag lies beyond the end of the file")

    def _become_ndpi(self, head: bytes) -> None:
        """Use NDPI's layout where the first directory has its flag.

        NDPI is a TIFF with offsets of 64 bits: the upper halves follow the directory.
        """
        ndpi = Layout("<", "H", 12, "Q", 4)
        (first,) = struct.unpack("<Q", head[4:12])
        for at in (first, self._first):
            try:
                entries, _ = self._directory(at, ndpi)
            except TiffIndexError:
                continue
            if NDPI_FLAG in entries:
                self._layout, self._first = ndpi, at
                return

    def _directory(self, at: int, layout: Layout) -> tuple[dict[int, Entry], int]:
        """Return the tags of the directory at an offset, and the offset of the next one."""
        order = layout.order
        (number,) = struct.unpack(order + layout.head, self._bytes(at, layout.head_bytes))
        if not 0 < number <= MOST_ENTRIES:
            raise TiffIndexError("a directory has no tags, or too many")
        start = at + layout.head_bytes
        body = number * layout.entry
        tail = struct.calcsize(order + layout.link)
        ndpi = layout.link == "Q" and layout.inline == 4
        data = self._bytes(start, body + tail + (4 * number if ndpi else 0))
        (link,) = struct.unpack_from(order + layout.link, data, body)
        entries = {}
        long = "Q" if layout.inline == 8 else "I"
        for i in range(number):
            place = i * layout.entry
            tag, kind, count = struct.unpack_from(f"{order}HH{long}", data, place)
            where = place + layout.entry - layout.inline
            (value,) = struct.unpack_from(order + long, data, where)
            if ndpi:
                value |= struct.unpack_from("<I", data, body + tail + 4 * i)[0] << 32
            if count * _SIZES.get(kind, 1) > layout.inline:
                entries[tag] = Entry(kind, count, value)
            elif ndpi and (kind, count) == (4, 1):
                entries[tag] = Entry(kind, count, start + where, value)
            else:
                entries[tag] = Entry(kind, count, start + where)
        return entries, link

    def _bytes(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self._size:
            raise TiffIndexError("the index leads beyond the end of the file")
        self._stream.seek(offset)
        data = self._stream.read(count)
        if len(data) < count:
            raise TiffIndexError("the index leads beyond the end of the file")
        return data


def tiff_reaches_end(stream: BinaryIO, size_bytes: int) -> bool:
    """Return whether all tiles that a TIFF's index names lie within the file, and are written.

    Raises
    ------
    TiffIndexError
        If the index itself is no TIFF's, or leads beyond the end of the file.
    """
    return TiffIndex(stream, size_bytes).has_all_tiles()
