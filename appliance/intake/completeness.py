"""Completeness of a slide: its files have not changed for a while, and they are whole.

Scanners do not signal the end of a file, and a copy over a network can pause. `PendingSlides`
measures the time without change; `is_whole` compares files with their own index. A half-copied TIFF
does not change during a stall, but its last tiles lie beyond its end. All of it is bounded: the
thread that scans the scanner's folder calls it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.intake.mrxs import mrxs_is_whole
from appliance.intake.series import part_of, series_is_whole
from appliance.slides.dicom_header import reaches_end
from appliance.slides.files import SAKURA_SUFFIX, TIFF_SUFFIXES, may_be_dicom
from appliance.slides.tiff_index import TiffIndexError, tiff_reaches_end
from appliance.slides.untouched import open_untouched

MOUNTS_DIFFER_NS = 2_000_000_000
"""Most by which two mounts of a share round the time of a file differently: 2 s, of FAT."""

_STEPS_NS = (100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, MOUNTS_DIFFER_NS)
"""Steps in which file systems count: SMB 100 ns, others µs, ms, 10 ms or s, FAT 2 s."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Size in bytes and time of last change in ns, over all the files of a slide."""

    size_bytes: int
    modified_ns: int


def is_rounded(one_ns: int, other_ns: int) -> bool:
    """Return whether two times of change are one time, which two mounts may tell so.

    One of them is a multiple of a mount's step, and no farther away than that.
    """
    apart_ns = abs(one_ns - other_ns)
    return apart_ns == 0 or any(
        apart_ns <= step_ns and 0 in (one_ns % step_ns, other_ns % step_ns) for step_ns in _STEPS_NS
    )


UNTIL_PATIENCE = frozenset({SAKURA_SUFFIX})
"""Suffixes, in lower case, of slides that may be whole after each write, and grow on."""


def is_whole(path: Path, files: list[Path]) -> bool:
    """Return whether the files hold all that their index lists.

    `files` are those of `slide_files(path)`. A file that cannot be read is not whole.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF_SUFFIXES:
            return _tiff_is_whole(path)
        if suffix == ".mrxs":
            return mrxs_is_whole(path)
        if suffix == SAKURA_SUFFIX:
            return _sqlite_is_whole(path)
        if may_be_dicom(path.name):
            parts = [part_of(file) for file in files]
            return all(_dicom_is_whole(file) for file in files) and series_is_whole(parts)
    except OSError:
        return False
    return True


def _tiff_is_whole(path: Path) -> bool:
    try:
        with open_untouched(path) as stream:
            return tiff_reaches_end(stream, path.stat().st_size)
    except TiffIndexError:
        return False


def _sqlite_is_whole(path: Path) -> bool:
    """Return whether a database has all pages that its head counts (sqlite.org/fileformat.html).

    While it is written, a journal lies beside it.
    """
    journals = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal"))
    if any(journal.exists() and journal.stat().st_size for journal in journals):
        return False
    with open_untouched(path) as stream:
        head = stream.read(100)
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        return False
    page_bytes, pages = int.from_bytes(head[16:18]), int.from_bytes(head[28:32])
    counted = head[24:28] == head[92:96]  # the count is of the last change
    return not counted or path.stat().st_size >= pages * (65536 if page_bytes == 1 else page_bytes)


def _dicom_is_whole(path: Path) -> bool:
    with open_untouched(path) as stream:
        return reaches_end(stream, path.stat().st_size)
