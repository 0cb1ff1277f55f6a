"""Encoded tiles of a DICOM whole slide: frames of VL WSM objects (PS3.3 C.8.12.4)."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit

from appliance.slides.encoded import Decode, EncodedLevel, Pixels, half_jpeg_decoder, jpeg_decoder
from appliance.slides.files import slide_files

ITEM = b"\xfe\xff\x00\xe0"
"""Tag of an item of encapsulated pixel data, little endian (PS3.5 A.4)."""
UNDEFINED = 0xFFFFFFFF
"""Undefined length (PS3.5 A.4)."""


def dicom_levels(path: Path, sizes: Sequence[tuple[int, int]]) -> dict[int, EncodedLevel]:
    """Encoded levels by number, of those of `sizes` (width, height) that one object holds.

    The object is one of `path`'s series. Its frames are complete and in order (TILED_FULL), each
    in one fragment.
    """
    found: dict[tuple[int, int], list[EncodedLevel]] = {}
    for file in slide_files(path):
        try:
            with file.open("rb") as stream:
                header = dcmread(stream, stop_before_pixels=True)
                level = _level(file, stream, header)
        except (InvalidDicomError, EOFError, OSError, ValueError, AttributeError, struct.error):
            continue
        if level is not None:
            found.setdefault(level.size_px, []).append(level)
    return {
        number: found[width, height][0]
        for number, (width, height) in enumerate(sizes)
        if len(found.get((width, height), ())) == 1
    }


def _level(file: Path, stream: BinaryIO, header: Dataset) -> EncodedLevel | None:
    """The level of an object, None where it is no such level; `stream` stands at the pixel data."""
    if "VOLUME" not in header.ImageType or header.SamplesPerPixel != 3 or header.BitsStored != 8:
        return None
    size = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
    tile = int(header.Columns), int(header.Rows)
    frames = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    decode = _decoder(header)
    if (
        decode is None
        or header.get("DimensionOrganizationType") != "TILED_FULL"
        or int(header.NumberOfFrames) != frames
    ):
        return None
    spans = _spans(stream, header, frames)
    if spans is None:
        return None
    offsets, counts = spans
    return EncodedLevel(
        path=file,
        size_px=size,
        tile_px=tile,
        offsets=np.array(offsets, dtype=np.int64),
        counts=np.array(counts, dtype=np.int64),
        decode=decode,
        decode_half=_half_decoder(header, tile),
    )


def _half_decoder(header: Dataset, tile_px: tuple[int, int]) -> Decode | None:
    if header.file_meta.TransferSyntaxUID != JPEGBaseline8Bit:
        return None
    return half_jpeg_decoder(tile_px, rgb=header.PhotometricInterpretation == "RGB")


def _decoder(header: Dataset) -> Decode | None:
    match header.file_meta.TransferSyntaxUID:
        case uid if uid == JPEGBaseline8Bit:
            return jpeg_decoder(rgb=header.PhotometricInterpretation == "RGB")
        case uid if uid in (JPEG2000, JPEG2000Lossless):
            return _jpeg2000
    return None


def _jpeg2000(data: bytes, _number: int) -> Pixels:
    return np.asarray(imagecodecs.jpeg2k_decode(data), dtype=np.uint8)


def _spans(stream: BinaryIO, header: Dataset, frames: int) -> tuple[list[int], list[int]] | None:
    """Offsets in the file and lengths of the frames; None where a frame has several fragments."""
    tag, _, length = struct.unpack("<4s4sI", stream.read(12))
    if tag != b"\xe0\x7f\x10\x00" or length != UNDEFINED:
        return None
    basic = _item(stream)
    if basic is None:
        return None
    table = struct.unpack(f"<{basic // 4}I", stream.read(basic))
    start = stream.tell()
    if "ExtendedOffsetTable" in header:
        table = struct.unpack(f"<{frames}Q", header.ExtendedOffsetTable[: 8 * frames])
    offsets, counts = [], []
    if not table:  # no offset table: items follow each other
        for _ in range(frames):
            count = _item(stream)
            if count is None:
                return None
            offsets.append(stream.tell())
            counts.append(count)
            stream.seek(count, os.SEEK_CUR)
        return (offsets, counts) if _item(stream) is None else None
    for number in range(frames):
        stream.seek(start + table[number])
        count = _item(stream)
        if count is None or (
            number + 1 < frames and table[number] + 8 + count != table[number + 1]
        ):
            return None
        offsets.append(stream.tell())
        counts.append(count)
    return offsets, counts


def _item(stream: BinaryIO) -> int | None:
    """Length of the item that begins here; None where no item begins."""
    tag, length = struct.unpack("<4sI", stream.read(8))
    return int(length) if tag == ITEM else None
