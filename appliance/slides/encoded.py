"""A level of a slide as its file holds it: encoded tiles, where each lies, how to decode one."""

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
"""Px (rows, cols, 3) of an encoded tile, given its bytes and its number; raises ValueError,
RuntimeError or tifffile's errors where they cannot be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedLevel:
    """`size_px`, `tile_px` (width, height); tiles row by row, each `counts` bytes of `path` from
    `offsets` on; a count of 0: the scanner left the tile out. A slide can have 100,000 tiles, and
    as Python's own numbers they would take 40 bytes each."""

    path: Path
    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    offsets: Places
    counts: Places
    decode: Decode
    decode_half: Decode | None = None
    """To half the tile's size, where the codec can do so for less."""


def jpeg_decoder(*, rgb: bool, tables: bytes = b"") -> Decode:
    """Strictly: what libjpeg only warns of (a hole, an early end) is an error, as to OpenSlide.

    `tables` (a JPEG stream of its own) holds what all tiles share. `rgb`: components are not YCbCr;
    libjpeg goes by Adobe's marker (APP14), and would guess without.
    """
    head = _head(rgb, tables)

    def decode(data: bytes, _number: int) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(head + data[2:], colorspace="RGB", strict=True)
        return pixels

    return decode


def half_jpeg_decoder(tile_px: tuple[int, int], *, rgb: bool, tables: bytes = b"") -> Decode:
    """As `jpeg_decoder`, to half the size of tiles of `tile_px`: the inverse transform does it."""
    head, whole = _head(rgb, tables), jpeg_decoder(rgb=rgb, tables=tables)
    width, height = tile_px[0] // 2, tile_px[1] // 2

    def decode(data: bytes, number: int) -> Pixels:
        stream = head + data[2:]
        if simplejpeg.decode_jpeg_header(stream)[:2] == (tile_px[1], tile_px[0]):
            half: Pixels = simplejpeg.decode_jpeg(
                stream, colorspace="RGB", strict=True, min_width=width, min_height=height
            )
            return half
        # Some writers cut the tiles at the slide's edge: such a one is made smaller afterwards.
        tile = whole(data, number)
        rows, columns = (-(-edge // 2) for edge in tile.shape[:2])
        return np.asarray(cv2.resize(tile, (columns, rows), interpolation=cv2.INTER_AREA))

    return decode


def _head(rgb: bool, tables: bytes) -> bytes:
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([0 if rgb else 1])
    return b"\xff\xd8" + adobe + tables[2:-2]
