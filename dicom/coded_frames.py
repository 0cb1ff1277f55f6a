"""Compressed tiles of a file as frames of DICOM, without decoding.

A TIFF keeps what all tiles share apart from them: the tables of JPEG and the meaning of the three
components. A DICOM frame is a whole stream (PS3.5 A.4.1), so both are written into its header. The
bytes from the start of scan on stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom.errors import SourceError

SOI, EOI, SOS, APP0, APP14, BASELINE = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE, 0xC0
"""Markers of JPEG (ISO/IEC 10918-1, table B.1)."""
TABLES = {0xDB, 0xC4}
"""Quantization and Huffman tables."""
OTHER_FRAMES = {*range(0xC1, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Starts of frames that are not baseline: extended, progressive, lossless, arithmetic."""
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""Adobe's marker segment: version 100, no flags, no transform of colors."""
CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ, the start of a JPEG 2000 codestream (ISO/IEC 15444-1, A.4)."""
COD, TILE_PART = 0x52, 0x90
COMPONENTS = 3


class Codec(StrEnum):
    """Codec of the tiles of a level."""

    JPEG = "JPEG"
    JPEG_2000 = "JPEG 2000"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedLevel:
    """Compressed tiles of a level, row by row; sizes are (width, height) in px of the level.

    Tile k is the `counts[k]` bytes of `path` from `offsets[k]`; a count of 0 means that the scanner
    left the tile out. `rgb`: the three components of JPEG are RGB, else YCbCr. `tables` is a JPEG
    stream with the tables that all tiles share; it may be empty.
    """

    path: Path
    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    codec: Codec
    rgb: bool
    tables: bytes = b""

    @property
    def columns(self) -> int:
        """Number of tiles in a row."""
        return -(-self.size_px[0] // self.tile_px[0])

    @property
    def ratio(self) -> float:
        """Lossy Image Compression Ratio of the file's tiles: px of the level by coded bytes."""
        width, height = self.size_px
        return round(COMPONENTS * width * height / max(1, int(self.counts.sum())), 2)

    def frame(self, file: int, number: int) -> bytes | None:
        """Return tile `number` of an open file as a frame; None where the scanner left it out.

        Raises
        ------
        SourceError
            If the tile cannot be a frame of the transfer syntax as it is.
        """
        count = int(self.counts[number])
        if count == 0:
            return None
        tile = os.pread(file, count, int(self.offsets[number]))
        if len(tile) < count:
            raise SourceError("the file ends within a tile")
        if self.codec is Codec.JPEG:
            return whole_jpeg(tile, self.tables, rgb=self.rgb, size_px=self.tile_px)
        if codestream_size(tile) != self.tile_px:
            raise SourceError("a tile's codestream has another size than its level's tiles")
        return tile


def whole_jpeg(tile: bytes, tables: bytes, *, rgb: bool, size_px: tuple[int, int]) -> bytes:
    """Return an abbreviated JPEG stream with `tables` in it, and Adobe's marker if it is RGB.

    Markers of the tile about colors (JFIF, Adobe) are left out: OpenSlide, too, takes the colors
    that the TIFF states. YCbCr is what decoders take without a marker; with Adobe's, pydicom
    converts the colors twice (3.0.2, by Pillow). Of two tables with one number the tile's own comes
    last and counts, as in the TIFF.

    Raises
    ------
    SourceError
        If the stream is not baseline JPEG of three 8-bit components and `size_px` (width, height),
        or lacks tables.
    """
    shared = [part for _, part in _segments(tables) if part[1] in TABLES] if tables else []
    own, scan = [], b""
    for at, part in _segments(tile):
        if part[1] == SOS:
            scan = tile[at:]
        else:
            own.append(part)
    frames = [part for part in own if part[1] == BASELINE]
    if not scan or len(frames) != 1 or any(part[1] in OTHER_FRAMES for part in own):
        raise SourceError("a tile is no baseline JPEG")
    bits, rows, columns, components = _frame_facts(frames[0])
    if (columns, rows) != size_px or bits != 8 or components != COMPONENTS:
        raise SourceError("a tile has another size or other px than its level's tiles")
    if TABLES - {part[1] for part in (*shared, *own)}:
        raise SourceError("a tile lacks tables")
    kept = (part for part in own if not _names_colors(part))
    return b"\xff\xd8" + (ADOBE_RGB if rgb else b"") + b"".join(shared) + b"".join(kept) + scan


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of the marker segments after SOI: up to SOS, that included, or EOI."""
    if stream[:2] != bytes([0xFF, SOI]):
        raise SourceError("a tile is no JPEG")
    at = 2
    while at + 4 <= len(stream) and stream[at + 1] != EOI:
        if stream[at] != 0xFF:
            raise SourceError("a tile's JPEG header is damaged")
        if stream[at + 1] == 0xFF:  # a fill byte (B.1.1.2)
            at += 1
            continue
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        yield at, stream[at:end]
        if stream[at + 1] == SOS:
            return
        at = end


def _frame_facts(segment: bytes) -> tuple[int, int, int, int]:
    """Return bits, rows, columns and number of components of a start of frame (B.2.2)."""
    if len(segment) < 10:
        raise SourceError("a tile's JPEG header is damaged")
    rows, columns = (int.from_bytes(segment[at : at + 2], "big") for at in (5, 7))
    return segment[4], rows, columns, segment[9]


def _names_colors(segment: bytes) -> bool:
    return (segment[1] == APP14 and segment[4:9] == b"Adobe") or (
        segment[1] == APP0 and segment[4:8] in (b"JFIF", b"JFXX")
    )


def codestream_size(tile: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG 2000 codestream (A.5.1).

    Raises
    ------
    SourceError
        If it is none of three 8-bit components.
    """
    if tile[:4] != CODESTREAM or len(tile) < 51:
        raise SourceError("a tile is no JPEG 2000 codestream")
    right, bottom, left, top = (int.from_bytes(tile[at : at + 4], "big") for at in (8, 12, 16, 20))
    # Each component: bits less one, and its px are as small as the picture's in both directions.
    if int.from_bytes(tile[40:42], "big") != COMPONENTS or tile[42:51] != b"\x07\x01\x01" * 3:
        raise SourceError("a tile has other px than three of 8 bits")
    return right - left, bottom - top


def photometric_2000(tile: bytes) -> str:
    """Return Photometric Interpretation of an RGB codestream (PS3.5 8.2.4).

    It depends on whether the components were transformed, and how (A.6.1, COD).

    Raises
    ------
    SourceError
        If it has no coding style.
    """
    at = 2
    while at + 14 <= len(tile) and tile[at] == 0xFF and tile[at + 1] != TILE_PART:
        if tile[at + 1] == COD:
            transformed, reversible = tile[at + 8], tile[at + 13] == 1
            return ("YBR_RCT" if reversible else "YBR_ICT") if transformed else "RGB"
        at += 2 + int.from_bytes(tile[at + 2 : at + 4], "big")
    raise SourceError("a tile's codestream has no coding style")
