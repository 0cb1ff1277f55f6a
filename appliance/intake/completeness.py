"""Completeness of a slide: its files have not changed for a while, and they are whole.

Scanners do not signal the end of a file, and a copy over a network can pause. `StabilityTracker`
measures the time without change; `is_whole` compares a file with its own index. A half-copied TIFF
does not change during a stall, but its last tiles lie beyond its end.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.uid import VLWholeSlideMicroscopyImageStorage
from tifffile import TiffFile

TIFF_SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".bif", ".scn", ".svslide"})
SLIDE_SUFFIXES = TIFF_SUFFIXES | {".mrxs", ".dcm"}
"""Suffixes of files that stand for a slide; all other files are left alone."""
UNDEFINED_LENGTH = 0xFFFFFFFF
"""Length of a DICOM element that ends with a delimiter (PS3.5 section 7.1)."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Size in bytes and time of last change in ns, over all the files of a slide."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class _Seen:
    signature: Signature
    since: float


class StabilityTracker:
    """Time since the last change of each slide; times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Seen] = {}

    def quiet_seconds(self, path: Path, signature: Signature, now: float) -> float:
        """Return for how long `path` has had this signature; 0 when it is new or has changed."""
        known = self._seen.get(path)
        if known is None or known.signature != signature:
            self._seen[path] = _Seen(signature, now)
            return 0.0
        return now - known.since

    def forget(self, path: Path) -> None:
        """Stop following a path."""
        self._seen.pop(path, None)

    def __len__(self) -> int:
        return len(self._seen)


def signature_of(files: list[Path]) -> Signature:
    """Signature of a slide's files; raises FileNotFoundError when a file has gone."""
    stats = [file.stat() for file in files]
    return Signature(sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats))


def is_whole(path: Path, files: list[Path]) -> bool:
    """Return whether the files hold all that their index lists; True for formats without index."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return _tiff_is_whole(path)
    if suffix == ".mrxs":
        return _mrxs_is_whole(path)
    if suffix == ".dcm":
        return all(_dicom_is_whole(file) for file in files)
    return True


def _tiff_is_whole(path: Path) -> bool:
    size = path.stat().st_size
    try:
        with TiffFile(path) as tiff:
            for page in tiff.pages:
                ends = zip(page.dataoffsets, page.databytecounts, strict=True)
                if any(offset + count > size for offset, count in ends):
                    return False
            return len(tiff.pages) > 0
    except Exception:  # noqa: BLE001  damaged tags make tifffile raise errors of any type
        return False


def _reaches_end(dataset: Dataset, size_bytes: int) -> bool:
    """Return whether the value of the last element lies within the file.

    An element of undefined length was found whole, with its delimiter, or was left out.
    """
    last = dataset.get_item(max(dataset.keys()), keep_deferred=True)
    if not isinstance(last, RawDataElement) or last.length == UNDEFINED_LENGTH:
        return True
    return bool(last.value_tell + last.length <= size_bytes)


def _mrxs_is_whole(path: Path) -> bool:
    folder = path.with_suffix("")
    if not (folder / "Slidedat.ini").is_file():  # opening a pipe can wait for ever
        return False
    index = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        index.read(folder / "Slidedat.ini", encoding="utf-8-sig")
        count = index.getint("DATAFILE", "FILE_COUNT")
        names = [index.get("DATAFILE", f"FILE_{i}") for i in range(count)]
    except (configparser.Error, OSError, ValueError):
        return False
    return all((folder / name).is_file() for name in names)


def _dicom_is_whole(path: Path) -> bool:
    """Return whether a file reaches to the end of its last element, and an image has its pixels.

    pydicom reads a cut file without an error: what is missing is left out, or comes short.
    """
    try:
        dataset = dcmread(path, defer_size=1024)
        if not dataset.get("SOPInstanceUID"):
            return False
        if dataset.file_meta.MediaStorageSOPClassUID == VLWholeSlideMicroscopyImageStorage:
            return "PixelData" in dataset and _reaches_end(dataset, path.stat().st_size)
        return True
    except Exception:  # noqa: BLE001  damaged headers make pydicom raise errors of any type
        return False
