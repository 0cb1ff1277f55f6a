"""Encoded tiles of a slide's level: their places in the file, and decoders of JPEG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Places = NDArray[np.int64]
Decode = Callable[[bytes, int], Pixels]
"""Decoder of one tile: its bytes and its number to uint8 RGB (rows, cols, 3). Raises ValueError,
RuntimeError or tifffile's errors where the bytes cannot be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedLevel:
    """A level as its file holds it; sizes are (width, height).

    Tiles go row by row. Tile k occupies `counts[k]` bytes of `path` from `offsets[k]`; a count of 0
    means that the scanner left the tile out. Both are arrays: a slide can have 100,000 tiles, and
    Python integers would take 40 bytes each.
    """

    path: Path
    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    offsets: Places
    counts: Places
    decode: Decode
    decode_half: Decode | None = None
    """Decoder to half the tile's size, where the codec does that at lower cost."""


def jpeg_decoder(*, rgb: bool, tables: bytes = b"") -> Decode:
    """Strict decoder of JPEG tiles.

    Warnings of libjpeg (a hole, an early end) are errors, as in OpenSlide. `tables` is a separate
    JPEG stream with the tables that all tiles share. `rgb` says that the components are not YCbCr;
    libjpeg reads that from Adobe's marker (APP14), and guesses without.
    """
    head = _head(rgb, tables)

    def decode(data: bytes, _number: int) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(head + data[2:], colorspace="RGB", strict=True)
        return pixels

    return decode


def half_jpeg_decoder(tile_px: tuple[int, int], *, rgb: bool, tables: bytes = b"") -> Decode:
    """Decoder as `jpeg_decoder`, to half the size of tiles of `tile_px` (inverse transform)."""
    head, whole = _head(rgb, tables), jpeg_decoder(rgb=rgb, tables=tables)
    width, height = tile_px[0] // 2, tile_px[1] // 2

    def decode(data: bytes, number: int) -> Pixels:
        stream = head + data[2:]
        if simplejpeg.decode_jpeg_header(stream)[:2] == (tile_px[1], tile_px[0]):
            half: Pixels = simplejpeg.decode_jpeg(
                stream, colorspace="RGB", strict=True, min_width=width, min_height=height
            )
            return half
        # Some writers crop the tiles at the slide's edge: decode such a tile, then shrink it.
        tile = whole(data, number)
        rows, columns = (-(-edge // 2) for edge in tile.shape[:2])
        return np.asarray(cv2.resize(tile, (columns, rows), interpolation=cv2.INTER_AREA))

    return decode


def _head(rgb: bool, tables: bytes) -> bytes:
    """Start of a JPEG stream: SOI, Adobe's marker, shared tables without their SOI and EOI."""
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([0 if rgb else 1])
    return b"\xff\xd8" + adobe + tables[2:-2]
