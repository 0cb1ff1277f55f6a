"""Reasons why a slide does not open, for a person; OpenSlide reports only that it failed."""

from __future__ import annotations

import struct
from pathlib import Path

from tifffile import TiffFileError

from appliance.domain import QuarantineReason
from appliance.slides.dicom_header import is_dicom, reaches_end
from appliance.slides.tiff_index import TILE_WIDTH, NoTiffError, TiffIndex, TiffIndexError
from appliance.slides.untouched import open_untouched

TIFF_ERRORS = (TiffFileError, OSError, ValueError, IndexError, KeyError, struct.error)
"""Errors that tifffile raises on bytes that are no TIFF, or only a part of one."""


def why_no_format(path: Path) -> QuarantineReason:
    """Reason for a file whose format OpenSlide does not know.

    VANISHED where it has gone, DAMAGED for a part of a TIFF or a broken DICOM file, NOT_PYRAMIDAL
    for a TIFF without tiles, UNSUPPORTED for one with tiles after its first directory, else
    UNREADABLE.
    """
    try:
        if _is_damaged_dicom(path):
            return QuarantineReason.DAMAGED
        with open_untouched(path) as stream:
            index = TiffIndex(stream, path.stat().st_size)
            if any(end > path.stat().st_size for end in index.ends()):
                return QuarantineReason.DAMAGED
            first, *others = (TILE_WIDTH in directory for directory in index.directories())
            if first:
                return QuarantineReason.UNREADABLE
            return QuarantineReason.UNSUPPORTED if any(others) else QuarantineReason.NOT_PYRAMIDAL
    except FileNotFoundError:
        return QuarantineReason.VANISHED
    except NoTiffError:
        return QuarantineReason.UNREADABLE
    except TiffIndexError:
        return QuarantineReason.DAMAGED
    except OSError:
        return QuarantineReason.UNREADABLE


def why_not_open(path: Path) -> QuarantineReason:
    """Reason for a file whose format OpenSlide knows and which it cannot open."""
    try:
        with open_untouched(path) as stream:
            if is_dicom(stream):
                cut = _is_damaged_dicom(path)
                return QuarantineReason.DAMAGED if cut else QuarantineReason.MISSING_TAGS
            stream.seek(0)
            size = path.stat().st_size
            cut = any(end > size for end in TiffIndex(stream, size).ends())
            return QuarantineReason.DAMAGED if cut else QuarantineReason.UNSUPPORTED
    except FileNotFoundError:
        return QuarantineReason.VANISHED
    except NoTiffError:
        return QuarantineReason.UNREADABLE
    except TiffIndexError:
        return QuarantineReason.DAMAGED
    except OSError:
        return QuarantineReason.UNREADABLE


def _is_damaged_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM and does not go on as such to its end."""
    with open_untouched(path) as stream:
        if not is_dicom(stream):
            return False
        stream.seek(0)
        return not reaches_end(stream, path.stat().st_size)


def without_path(err: Exception, path: Path) -> str:
    """Text of an error without the slide's name: details go to logs, and names hold accessions."""
    return str(err).replace(str(path), "the file").replace(path.name, "the file")
