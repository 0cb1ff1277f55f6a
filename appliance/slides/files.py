"""Files of a slide, and their fingerprint."""

from __future__ import annotations

import hashlib
import stat
from functools import lru_cache
from pathlib import Path

from pydicom import dcmread


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
            files = sorted(p for p in path.parent.iterdir() if p.suffix.lower() == ".dcm")
            return [p for p in files if _series_uid(p) == series]
    return [path]


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the bytes of all files of a slide, in order of their names."""
    digest = hashlib.sha256()
    for file in slide_files(path):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _series_uid(path: Path) -> str:
    """Series of a DICOM file; empty where it cannot be told. Special files are not opened."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    if not stat.S_ISREG(facts.st_mode):
        return ""
    try:
        return _series_of(path, facts.st_size, facts.st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=1 << 16)
def _series_of(path: Path, _size: int, _changed_ns: int) -> str:
    """Series of a file of this size and time: each file of a folder is asked for each series."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(header.get("SeriesInstanceUID", ""))
    except OSError:
        raise  # not kept: the share may be back at the next look
    except Exception:  # noqa: BLE001  damaged headers make pydicom raise errors of any type
        return ""
