"""Reasons why a slide does not open, for a person; OpenSlide reports only that it failed."""

from __future__ import annotations

import struct
from pathlib import Path

from pydicom import dcmread
from tifffile import TiffFile, TiffFileError

from appliance.domain import QuarantineReason

TIFF_ERRORS = (TiffFileError, OSError, ValueError, IndexError, KeyError, struct.error)
"""Errors that tifffile raises on bytes that are no TIFF, or only a part of one."""


def why_no_format(path: Path) -> QuarantineReason:
    """Reason for a file whose format OpenSlide does not know.

    DAMAGED for a part of a TIFF or a broken DICOM header, NOT_PYRAMIDAL for a TIFF without tiles,
    else UNREADABLE.
    """
    if _is_cut_off(path) or _is_damaged_dicom(path):
        return QuarantineReason.DAMAGED
    try:
        with TiffFile(path) as tiff:
            page = tiff.pages.first
            if page.shape and not page.is_tiled:
                return QuarantineReason.NOT_PYRAMIDAL
    except TIFF_ERRORS:
        return QuarantineReason.UNREADABLE
    return QuarantineReason.UNREADABLE


def why_not_open(path: Path) -> QuarantineReason:
    """Reason for a file whose format OpenSlide knows and which it cannot open."""
    if path.suffix.lower() == ".dcm":
        return QuarantineReason.MISSING_TAGS
    if _is_cut_off(path):
        return QuarantineReason.DAMAGED
    try:
        with TiffFile(path) as tiff:
            if len(tiff.pages) > 0:
                return QuarantineReason.UNSUPPORTED
    except TIFF_ERRORS:
        return QuarantineReason.UNREADABLE
    return QuarantineReason.UNREADABLE


def _is_damaged_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM (PS3.10 section 7.1) with a header that is broken."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return False
        dcmread(path, stop_before_pixels=True)
    except OSError:
        return False
    except Exception:  # noqa: BLE001  damaged headers make pydicom raise errors of any type
        return True
    return False


def _is_cut_off(path: Path) -> bool:
    """Return whether a TIFF was copied in part: it refers to bytes after its end, or is empty."""
    try:
        size = path.stat().st_size
        if _directory_end(path, size) > size:
            return True
        with TiffFile(path) as tiff:
            # A directory of zeros: the length was reserved, the content was never written.
            if not tiff.pages.first.shape or not tiff.pages.first.dataoffsets:
                return True
            return any(
                offset + count > size
                for page in tiff.pages
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
            )
    except TIFF_ERRORS:
        return False


def _directory_end(path: Path, size: int) -> int:
    """Offset after the last byte of the chain of TIFF directories; ValueError if it is no TIFF."""
    with path.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            raise ValueError("no TIFF")
        (version,) = struct.unpack(order + "H", head[2:4])
        if version not in (42, 43):
            raise ValueError("no TIFF")
        # TIFF 6.0 and BigTIFF: number of entries, entry, offset of the next directory.
        number, entry, link = ("H", 12, "I") if version == 42 else ("Q", 20, "Q")
        start = 4 if version == 42 else 8
        (at,) = struct.unpack_from(order + link, head, start)
        furthest, seen = 0, set()
        while at and at not in seen:
            seen.add(at)
            furthest = max(furthest, at + struct.calcsize(order + number))
            if furthest > size:
                return int(furthest)
            stream.seek(at)
            (entries,) = struct.unpack(order + number, stream.read(struct.calcsize(order + number)))
            end = stream.tell() + entries * entry + struct.calcsize(order + link)
            furthest = max(furthest, end)
            if end > size:
                return int(furthest)
            stream.seek(end - struct.calcsize(order + link))
            (at,) = struct.unpack(order + link, stream.read(struct.calcsize(order + link)))
        return int(furthest)


def without_path(err: Exception, path: Path) -> str:
    """Text of an error without the slide's name: details go to logs, and names hold accessions."""
    return str(err).replace(str(path), "the file").replace(path.name, "the file")
