"""Files of a slide, and their fingerprint."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError


def slide_files(path: Path) -> list[Path]:
    """All files of the slide that `path` stands for, sorted.

    For most formats that is one file. For MRXS it is the index and its folder; for DICOM all files
    of the same series in the folder.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        return [path, *sorted(p for p in folder.rglob("*") if p.is_file())]
    if suffix == ".dcm":
        series = _series_uid(path)
        if series:
            return [p for p in sorted(path.parent.glob("*.dcm")) if _series_uid(p) == series]
    return [path]


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the bytes of all files of a slide, in order of their names."""
    digest = hashlib.sha256()
    for file in slide_files(path):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _series_uid(path: Path) -> str:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, EOFError, OSError, ValueError, struct.error):
        return ""
    return str(header.get("SeriesInstanceUID", ""))
