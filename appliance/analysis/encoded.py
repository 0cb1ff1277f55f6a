"""A level of a slide as its file holds it: encoded tiles, where each lies, how to decode one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Decode = Callable[[bytes, int], Pixels]
"""Px (rows, cols, 3) of an encoded tile, given its bytes and its number; raises ValueError,
RuntimeError or tifffile's errors where they cannot be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedLevel:
    """`size_px`, `tile_px` (width, height); tiles row by row, each `counts` bytes of `path` from
    `offsets` on; a count of 0: the scanner left the tile out."""

    path: Path
    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    offsets: Sequence[int]
    counts: Sequence[int]
    decode: Decode


def jpeg_decoder(*, rgb: bool, tables: bytes = b"") -> Decode:
    """Strictly: what libjpeg only warns of (a hole, an early end) is an error, as to OpenSlide.

    `tables` (a JPEG stream of its own) holds what all tiles share. `rgb`: components are not YCbCr;
    libjpeg goes by Adobe's marker (APP14), and would guess without.
    """
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([0 if rgb else 1])
    head = b"\xff\xd8" + adobe + tables[2:-2]

    def decode(data: bytes, _number: int) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(head + data[2:], colorspace="RGB", strict=True)
        return pixels

    return decode
