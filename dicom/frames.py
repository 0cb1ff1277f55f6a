"""Binary segments as sparse frames (PS3.3 C.7.6.17): surveyed first, then written band by band.

A level of a segmentation can have ten thousand frames and a label map as large as a slide. Memory
holds one band of it, and functional groups are rows of bytes instead of objects.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.valuerep import DS, format_number_as_ds

from dicom.errors import ObjectError

TILE_PX = 512
FRAME_BYTES = TILE_PX * TILE_PX // 8
"""Bytes of a frame at one bit per px; a whole number, so that frames share no byte."""
BAND_PX = 2 * TILE_PX
"""Rows of a band in memory. It equals the chunk height of label maps: each chunk is decoded
once."""
GROUP_BYTES = 320
HEADER_BYTES = 1 << 16
"""Upper bound of a frame's functional groups, and of everything else before the px."""
NATIVE_BYTES = 2**32 - 2
"""Largest uncompressed PixelData (PS3.5 7.1.1)."""


class Raster(Protocol):
    """Array uint8 (rows, columns): a numpy array, or an object that reads px on indexing."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""

    def __getitem__(self, place: Any, /) -> Any:
        """Return the px of two slices, uint8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A level that can be written. A px of `rasters` is `factor` times as wide as the finest
    level's.

    `frames` int32 (n, 3) are the nonempty frames in file order: tile row, tile column, segment
    number (from 1).
    """

    factor: int
    rasters: tuple[Raster, ...]
    frames: NDArray[np.int32]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the total pixel matrix."""
        rows, columns = self.rasters[0].shape
        return rows, columns

    @property
    def expected_bytes(self) -> int:
        """Upper bound of the file's size."""
        return HEADER_BYTES + len(self.frames) * (FRAME_BYTES + GROUP_BYTES)


def survey(
    rasters: Sequence[Raster], segment_counts: Sequence[int], factors: Sequence[int]
) -> tuple[list[Level], bytes]:
    """Read the rasters once; return a level per factor, and a digest of their px.

    Value v of a raster is its v-th segment, 0 none; segments are numbered across all rasters. A px
    of a coarser level is the center px of its block: shares stay unbiased, thin structures do not
    survive. Memory holds a band and the coarser levels: with factors 4, 16, … a fifteenth of the
    rasters' px. A level without any segment gets one empty frame, because an object needs one.

    Raises
    ------
    ObjectError
        If a raster holds a value that is no segment.
    """
    rows, columns = rasters[0].shape
    digest = hashlib.sha256(repr((rows, columns, len(rasters))).encode())
    finest: list[tuple[int, int, int]] = []
    coarser: dict[int, list[NDArray[np.uint8]]] = {f: [] for f in factors if f > 1}
    for raster, count, first in _numbered(rasters, segment_counts):
        for factor, made in coarser.items():
            made.append(np.zeros((-(-rows // factor), -(-columns // factor)), dtype=np.uint8))
        for top in range(0, rows, BAND_PX):
            band = raster[top : top + BAND_PX, 0:columns]
            highest = int(band.max())
            if highest > count:
                raise ObjectError(f"the label map holds {highest}, there are {count} segments")
            if not highest:
                continue
            for row, column, tile in _tiles(band, top):
                digest.update(struct.pack("<3I", first, row, column))
                digest.update(tile.tobytes())
                finest += [(row, column, first + value - 1) for value in _values(tile)]
            for factor, made in coarser.items():
                _sample(band, top, factor, rows, made[-1])
    found = {1: finest} | {
        factor: [
            (row, column, first + value - 1)
            for raster, _, first in _numbered(made, segment_counts)
            for row, column, tile in _tiles(raster, 0)
            for value in _values(tile)
        ]
        for factor, made in coarser.items()
    }
    levels = [
        Level(
            factor=factor,
            rasters=tuple(coarser.get(factor, rasters)),
            frames=np.array(sorted(found[factor]) or [(0, 0, 1)], dtype=np.int32),
        )
        for factor in factors
    ]
    return levels, digest.digest()


def _numbered(
    rasters: Sequence[Any], segment_counts: Sequence[int]
) -> Iterator[tuple[Any, int, int]]:
    """Each raster with its number of segments and the number of its first segment."""
    first = 1
    for raster, count in zip(rasters, segment_counts, strict=True):
        yield raster, count, first
        first += count


def _tiles(band: NDArray[np.uint8], top: int) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Tile row, tile column and px of a band's nonempty tiles."""
    for y in range(0, band.shape[0], TILE_PX):
        for x in range(0, band.shape[1], TILE_PX):
            tile = band[y : y + TILE_PX, x : x + TILE_PX]
            if tile.any():
                yield (top + y) // TILE_PX, x // TILE_PX, tile


def _values(tile: NDArray[np.uint8]) -> list[int]:
    return [value for value in range(1, int(tile.max()) + 1) if (tile == value).any()]


def _sample(
    band: NDArray[np.uint8], top: int, factor: int, rows: int, coarse: NDArray[np.uint8]
) -> None:
    """Fill those px of `coarse` whose center lies in the band."""
    # A block across the edge may have its center off the slide: take the last px instead.
    r = np.minimum(np.arange(coarse.shape[0]) * factor + factor // 2, rows - 1)
    c = np.minimum(np.arange(coarse.shape[1]) * factor + factor // 2, band.shape[1] - 1)
    first, last = np.searchsorted(r, (top, top + len(band)))
    coarse[first:last] = band[np.ix_(r[first:last] - top, c)]


def functional_groups(
    frames: NDArray[np.int32],
    template: Dataset,
    origin_mm: NDArray[np.float64],
    step_mm: NDArray[np.float64],
    tile_px: tuple[int, int] = (TILE_PX, TILE_PX),
) -> bytes:
    """Encode the items of the Per-Frame Functional Groups Sequence of `frames`.

    `template` is the item of a frame; place, segment and index of each frame are patched into
    copies of its bytes, so that all items have one length. `origin_mm` (3,) is the start of the
    total pixel matrix, `step_mm` (2, 3) one px down and one to the right, both in the slide's frame
    of reference. `tile_px` is (rows, columns) of a frame.
    """
    place = template.PlanePositionSlideSequence[0]
    for axis in "XYZ":
        # Placeholder of the longest DS value.
        setattr(place, f"{axis}OffsetInSlideCoordinateSystem", DS("0.00000000000000"))
    item = _encoded(template)
    rows = np.tile(np.frombuffer(item, dtype=np.uint8), (len(frames), 1))
    corners = frames[:, :2] * np.array(tile_px, dtype=np.int32)
    offsets_mm = origin_mm + corners @ step_mm
    ranks = [np.unique(frames[:, axis], return_inverse=True)[1] + 1 for axis in (0, 1)]
    values: dict[tuple[int, int, bytes], NDArray[Any]] = {
        (0x0020, 0x9157, b"UL"): np.column_stack([frames[:, 2], *ranks]).astype("<u4"),
        (0x0048, 0x021E, b"SL"): (corners[:, 1:] + 1).astype("<i4"),
        (0x0048, 0x021F, b"SL"): (corners[:, :1] + 1).astype("<i4"),
    }
    # An object with one segment has its number in the shared groups.
    if "SegmentIdentificationSequence" in template:
        values[0x0062, 0x000B, b"US"] = frames[:, 2:].astype("<u2")
    for element, axis_mm in zip((0x072A, 0x073A, 0x074A), offsets_mm.T, strict=True):
        texts = [format_number_as_ds(v).ljust(16) for v in axis_mm.tolist()]
        values[0x0040, element, b"DS"] = np.array(texts, dtype="S16")[:, None]
    for (group, element, vr), column in values.items():
        size = column.shape[1] * column.itemsize
        at = _only(item, struct.pack("<2H2sH", group, element, vr, size)) + 8
        rows[:, at : at + size] = np.ascontiguousarray(column).view(np.uint8)
    return rows.tobytes()


def _encoded(item: Dataset) -> bytes:
    """Encode an item of a sequence, Explicit VR Little Endian, with its length."""
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = True, False
    write_dataset(written, item)
    content: bytes = written.getvalue()
    return struct.pack("<2HI", 0xFFFE, 0xE000, len(content)) + content


def _only(content: bytes, part: bytes) -> int:
    if content.count(part) != 1:
        raise ObjectError(f"a frame's groups hold {part!r} {content.count(part)} times, not once")
    return content.index(part)


def write_frames(file: BinaryIO, level: Level, segment_counts: Sequence[int]) -> None:
    """Write PixelData of the level's frames, lowest bit first (PS3.5 8.1.1, D)."""
    columns = level.shape[1]
    segments = [
        (raster, value)
        for raster, count, _ in _numbered(level.rasters, segment_counts)
        for value in range(1, count + 1)
    ]
    file.write(struct.pack("<2H2s2xI", 0x7FE0, 0x0010, b"OB", len(level.frames) * FRAME_BYTES))
    bands: dict[int, NDArray[np.uint8]] = {}
    last_top = -1
    for row, column, segment in level.frames.tolist():
        top = row * TILE_PX // BAND_PX * BAND_PX
        if top != last_top:
            bands.clear()
            last_top = top
        raster, value = segments[segment - 1]
        if id(raster) not in bands:
            bands[id(raster)] = raster[top : top + BAND_PX, 0:columns]
        y, x = row * TILE_PX - top, column * TILE_PX
        tile = bands[id(raster)][y : y + TILE_PX, x : x + TILE_PX]
        frame = np.zeros((TILE_PX, TILE_PX), dtype=np.bool_)
        np.equal(tile, value, out=frame[: tile.shape[0], : tile.shape[1]])
        file.write(np.packbits(frame, bitorder="little").tobytes())
