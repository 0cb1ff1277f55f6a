"""Concatenations (PS3.3 C.7.6.16.2.2.4): an image of many frames as several instances.

Archives have limits: Orthanc 1.10 answers 0xA700 to an instance of more than 4 GiB. The parts of a
concatenation repeat the header, and share the frames out in their order. Frames are copied as they
are, and memory holds one.

Parts are TILED_SPARSE: each states the places of its frames. Parts of a TILED_FULL matrix, which
the standard allows too (PS3.3 C.7.6.17.3), state none, and dicom-microscopy-viewer 0.48 asks the
last part for all frames then; Orthanc 1.10 closes the connection at a frame that it does not have.
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

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.tag import Tag

from dicom.errors import ObjectError
from dicom.frames import functional_groups
from dicom.placement import axes_mm, spacing_mm
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
        If the image is not encapsulated, its frames are not one fragment each, or they are not
        those of one plane, in order (TILED_FULL).
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
        groups = _places(header)
        room = min(max_bytes, PART_BYTES) - beside
        bounds = list(pairwise(_bounds(frames, room, len(groups[0]))))
        parts = []
        for number, (first, end) in reversed(list(enumerate(bounds, start=1))):
            part = _part(header, number, len(bounds), first, end)
            parts.append(path.with_name(f"{part.SOPInstanceUID}.dcm"))
            _write(parts[-1], part, groups[first:end], stream, frames[first:end])
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


def _places(header: Dataset) -> list[bytes]:
    """Return the functional groups of each frame, encoded: its place, and its index.

    The header becomes that of a TILED_SPARSE image with the same frames. Its dimensions are the
    optical path, the row and the column (PS3.3 C.7.6.17).
    """
    tile = int(header.Rows), int(header.Columns)
    size = int(header.TotalPixelMatrixRows), int(header.TotalPixelMatrixColumns)
    rows, columns = (-(-px // edge) for px, edge in zip(size, tile, strict=True))
    (path, *more), full = header.OpticalPathSequence, header.DimensionOrganizationType
    if full != "TILED_FULL" or more or int(header.NumberOfFrames) != rows * columns:
        raise ObjectError("the frames of an image are not those of one plane, in order")
    header.DimensionOrganizationType = "TILED_SPARSE"
    (organization,) = header.DimensionOrganizationSequence
    header.DimensionIndexSequence = [
        _dimension(organization.DimensionOrganizationUID, *pointers)
        for pointers in (
            ("OpticalPathIdentifier", "OpticalPathIdentificationSequence"),
            ("RowPositionInTotalImagePixelMatrix", "PlanePositionSlideSequence"),
            ("ColumnPositionInTotalImagePixelMatrix", "PlanePositionSlideSequence"),
        )
    ]
    identified = Dataset()
    identified.OpticalPathIdentifier = path.OpticalPathIdentifier
    header.SharedFunctionalGroupsSequence[0].OpticalPathIdentificationSequence = [identified]
    template, content, place = Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [1, 1, 1]
    place.RowPositionInTotalImagePixelMatrix = place.ColumnPositionInTotalImagePixelMatrix = 1
    template.FrameContentSequence, template.PlanePositionSlideSequence = [content], [place]
    across = np.indices((rows, columns), dtype=np.int32).reshape(2, -1).T
    frames = np.column_stack([across, np.ones(len(across), dtype=np.int32)])
    groups = functional_groups(frames, template, *axes_mm(header, spacing_mm(header)), tile)
    length = len(groups) // len(frames)
    return [groups[at : at + length] for at in range(0, len(groups), length)]


def _dimension(organization: str, pointer: str, group: str) -> Dataset:
    """Return an item of the Dimension Index Sequence; attributes by keyword."""
    item = Dataset()
    item.DimensionOrganizationUID = organization
    item.DimensionIndexPointer = Tag(pointer)
    item.FunctionalGroupPointer = Tag(group)
    return item


def _bounds(frames: Sequence[_Frame], room: int, beside: int) -> Iterator[int]:
    """Yield the numbers of the first frame of each part, and the number of all frames.

    `beside` are the bytes of a frame's functional groups.
    """
    size = 0
    yield 0
    for number, frame in enumerate(frames):
        if number and size and size + frame.size + beside > room:
            yield number
            size = 0
        size += frame.size + beside
    yield len(frames)


def _part(header: Dataset, number: int, total: int, first: int, end: int) -> Dataset:
    """Return the header of the part with frames `first` to `end` (not included)."""
    whole = str(header.SOPInstanceUID)
    part = deepcopy(header)
    uid = deterministic_uid(whole, "part with places", str(first), str(end))
    part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = uid
    part.NumberOfFrames = end - first
    part.ConcatenationUID = deterministic_uid(whole, "concatenation with places", str(total))
    part.SOPInstanceUIDOfConcatenationSource = whole
    part.InConcatenationNumber, part.InConcatenationTotalNumber = number, total
    part.ConcatenationFrameOffsetNumber = first
    return part


def _write(
    path: Path,
    part: Dataset,
    groups: Sequence[bytes],
    source: BinaryIO,
    frames: Sequence[_Frame],
) -> None:
    """Write header, functional groups of the frames, basic offset table and frames."""
    with path.open("wb") as file:
        part.save_as(file, enforce_file_format=True)
        size = sum(len(group) for group in groups)
        file.write(struct.pack("<2H2s2xI", 0x5200, 0x9230, b"SQ", size))
        file.writelines(groups)
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
