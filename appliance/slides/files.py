"""Files of a slide, and their fingerprint."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from appliance.slides.dicom_header import header_of
from appliance.slides.junk import is_junk
from appliance.slides.untouched import open_untouched

TIFF_SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".bif", ".scn"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
SAKURA_SUFFIX = ".svslide"
"""Suffix, in lower case, of Sakura's slides: a database of SQLite."""
SLIDE_SUFFIXES = TIFF_SUFFIXES | DICOM_SUFFIXES | {".mrxs", SAKURA_SUFFIX}
"""Suffixes, in lower case, of files that stand for a slide."""
_BESIDE = """
.json .xml .txt .csv .tsv .toml .yaml .yml .ini .cfg .conf .log .md .htm .html .pdf .rtf .doc .docx
.xls .xlsx .jpg .jpeg .png .gif .bmp .webp .geojson .annotations .ndpa .xmp .md5 .sha1 .sha256 .crc
.db .sqlite .dat .lock .lnk .url .hl7 .py .sh .bat .exe .dll .bak .old .orig .swp
.tmp .temp .part .partial .filepart .crdownload .download
"""
BESIDE_SUFFIXES = frozenset(_BESIDE.split())
"""Suffixes, in lower case, of files that lie beside slides, and of copies: never a slide."""
NEVER_DICOM = BESIDE_SUFFIXES | (SLIDE_SUFFIXES - DICOM_SUFFIXES)
"""Suffixes, in lower case, of files whose first bytes are not looked at."""
DICOM_DIRECTORY = "dicomdir"
"""Name, in lower case, of the index of a DICOM file set (PS3.10 section 8.6): no slide."""


SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of a machine that lacks memory or open files for a while."""
_AWAY = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN})
"""Errors of a share that is away for a while."""


LATEST_NS = (1 << 63) - 1
"""Latest time, in ns, that the ledger holds, of the year 2262; the earliest is as far from 1970."""


def modified_ns(facts: os.stat_result) -> int:
    """Return the time of a file's last change in ns, as far from 1970 as the ledger holds.

    Servers tell 1601 for a time that they do not know.
    """
    return max(-LATEST_NS, min(facts.st_mtime_ns, LATEST_NS))


def may_be_dicom(name: str) -> bool:
    """Return whether a file of this name may be a DICOM file; its first bytes decide.

    Exports name files by UIDs, without a suffix, or with points in what follows: ``1.2.3.4_L0``.
    """
    lower = name.lower()
    if lower.startswith((".", "~")):  # hidden, or a copy under way
        return False
    _, dot, suffix = lower.rpartition(".")
    if not dot:
        return lower != DICOM_DIRECTORY
    return f".{suffix}" not in NEVER_DICOM


def is_dicom_slide(path: Path) -> bool:
    """Return whether a slide is of DICOM files: by its suffix, or by its first bytes."""
    return path.suffix.lower() in DICOM_SUFFIXES or (
        may_be_dicom(path.name) and series_of(path) is not None
    )


def slide_files(path: Path) -> list[Path]:
    """All files of the slide that `path` stands for, sorted.

    For most formats that is one file. For MRXS it is the index and its folder; for DICOM all files
    of the same series in the folder.
    """
    if path.suffix.lower() == ".mrxs":
        return [path, *data_of_mrxs(path)]
    if may_be_dicom(path.name):
        series = series_of(path)
        if series:
            names = sorted(name for name in os.listdir(path.parent) if may_be_dicom(name))  # noqa: PTH208  only names
            files = [path.parent / name for name in names]
            return [file for file in files if file == path or series_of(file) == series]
    return [path]


def data_of_mrxs(path: Path, *, junk: bool = False) -> list[Path]:
    """Files of the folder of an MRXS slide, sorted; those that servers leave only with `junk`.

    Raises
    ------
    OSError
        If the folder is missing, or it or a part of the slide in it cannot be looked at.
    """
    folder = path.with_suffix("")

    def refuse(err: OSError) -> None:
        if not any(map(is_junk, Path(err.filename or folder).relative_to(folder).parts)):
            raise err

    found = list[Path]()
    for place, below, names in os.walk(folder, onerror=refuse):
        if not junk:
            below[:] = [name for name in below if not is_junk(name)]
        found += [Path(place, name) for name in names if junk or not is_junk(name)]
    return [file for file in sorted(found) if file.is_file()]


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the bytes of all files of a slide.

    Files of a DICOM series count in order of their own digests, and equal ones once: exports write
    the same series again under other names.
    """
    return fingerprints(path)[0]


def fingerprints(path: Path) -> tuple[str, str]:
    """Return the fingerprint of a slide, and that of former editions.

    These took all files in order of their names, and what servers leave in an MRXS folder, too.
    """
    digests = {file: _digest(file) for file in slide_files(path)}
    if path.suffix.lower() != ".mrxs":
        return _over(sorted(set(digests.values()))), _over(digests.values())
    now = former = _over(digests.values())
    with suppress(OSError):
        every = [path, *data_of_mrxs(path, junk=True)]
        former = _over(digests.get(file) or _digest(file) for file in every)
    return now, former


def _digest(file: Path) -> bytes:
    with open_untouched(file) as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _over(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def series_of(path: Path) -> str | None:
    """Series of a DICOM file; empty where its header does not say, None for any other file.

    None for a file that cannot be read. Raises OSError where that is the trouble of the machine or
    of a share, as the file may be of a series whose other files were read.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return None
        header = header_of(path, facts.st_size, facts.st_mtime_ns)
    except OSError as err:
        if err.errno in SHORT | _AWAY:
            raise
        return None
    return None if header is None else header.series_uid
