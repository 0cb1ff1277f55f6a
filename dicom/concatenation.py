"""Concatenations (PS3.3 C.7.6.16.2.2.4): an image of many frames as several instances.

Archives have limits: Orthanc 1.10 answers 0xA700 to an instance of more than 4 GiB. The parts of a
concatenation repeat the header, and share the frames out in their order. Frames are copied as they
are, and memory holds one. Number of Frames is that of a part; those of a TILED_FULL matrix are the
frames of all parts (PS3.3 C.7.6.17.3).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread

from dicom.errors import ObjectError
from dicom.uids import deterministic_uid

ITEM, DELIMITER, UNDEFINED = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\xff\xff\xff\xff"
PIXEL_DATA = b"\xe0\x7f\x10\x00OB\x00\x00" + UNDEFINED
"""Start of encapsulated Pixel Data, Explicit VR Little Endian (PS3.5 A.4)."""
PART_BYTES = 100 * 2**20
"""Most bytes of a part. Archives that read a whole instance for one frame or one attribute answer
from their cache then: Orthanc keeps 128 MB."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Place of a frame's one fragment in the file; `size` is without the item's head."""

    at: int
    size: int


def split_instance(path: Path, max_bytes: int) -> list[Path]:
    """Replace an encapsulated image of more than `max_bytes` by the parts of a concatenation.

    Return the parts beside it, named by their UIDs, in order; or `path` where it is small enough.
    Each frame is one fragment. A part has at most `PART_BYTES`, and at least one frame, however
    large that is. Equal bytes give parts of equal bytes under equal UIDs. The file shrinks while
    the parts are written, the last one first: the disk holds the image once and a part.

    Raises
    ------
    ObjectError
        If the image is not encapsulated, or its frames are not one fragment each.
    OSError
        If the parts cannot be written.
    """
    if path.stat().st_size <= max_bytes:
        return [path]
    with path.open("rb") as stream:
        header = dcmread(stream, stop_before_pixels=True)
        frames = _frames(stream)
        if len(frames) != int(header.NumberOfFrames):
            raise ObjectError("the frames of an image are not one fragment each")
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in header:
                delattr(header, keyword)
        beside = path.stat().st_size - sum(frame.size for frame in frames)
        bounds = list(pairwise(_bounds(frames, min(max_bytes, PART_BYTES) - beside)))
        parts = []
        for number, (first, end) in reversed(list(enumerate(bounds, start=1))):
            part = _part(header, number, len(bounds), first, end)
            parts.append(path.with_name(f"{part.SOPInstanceUID}.dcm"))
            _write(parts[-1], part, stream, frames[first:end])
            os.truncate(path, frames[first].at)
    path.unlink()
    return parts[::-1]


def _frames(stream: BinaryIO) -> list[_Frame]:
    """Return the frames of Pixel Data, at whose start the stream is."""
    if stream.read(len(PIXEL_DATA)) != PIXEL_DATA:
        raise ObjectError("the pixels of an image are not encapsulated")
    found = []
    while (head := stream.read(8))[:4] == ITEM:
        size = int.from_bytes(head[4:], "little")
        found.append(_Frame(stream.tell(), size))
        stream.seek(size, 1)
    if head[:4] != DELIMITER:
        raise ObjectError("the pixels of an image end early")
    return found[1:]  # without the basic offset table


def _bounds(frames: Sequence[_Frame], room: int) -> Iterator[int]:
    """Yield the numbers of the first frame of each part, and the number of all frames."""
    size = 0
    yield 0
    for number, frame in enumerate(frames):
        if number and size and size + frame.size > room:
            yield number
            size = 0
        size += frame.size
    yield len(frames)


def _part(header: Dataset, number: int, total: int, first: int, end: int) -> Dataset:
    """Return the header of the part with frames `first` to `end` (not included)."""
    whole = str(header.SOPInstanceUID)
    part = deepcopy(header)
    uid = deterministic_uid(whole, "part", str(first), str(end))
    part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = uid
    part.NumberOfFrames = end - first
    part.ConcatenationUID = deterministic_uid(whole, "concatenation", str(total))
    part.SOPInstanceUIDOfConcatenationSource = whole
    part.InConcatenationNumber, part.InConcatenationTotalNumber = number, total
    part.ConcatenationFrameOffsetNumber = first
    return part


def _write(path: Path, part: Dataset, source: BinaryIO, frames: Sequence[_Frame]) -> None:
    """Write header, basic offset table and frames."""
    with path.open("wb") as file:
        part.save_as(file, enforce_file_format=True)
        file.write(PIXEL_DATA + ITEM + struct.pack("<I", 4 * len(frames)))
        offset = 0
        for frame in frames:
            file.write(struct.pack("<I", offset))
            offset += 8 + frame.size
        for frame in frames:
            file.write(ITEM + struct.pack("<I", frame.size))
            source.seek(frame.at)
            file.write(source.read(frame.size))
        file.write(DELIMITER + struct.pack("<I", 0))
