"""Reasons why a slide does not open, for a person; OpenSlide reports only that it failed."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from tifffile import TiffFileError

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.dicom_header import (
    has_places,
    header_of,
    is_deflated,
    is_dicom,
    reaches_end,
)
from appliance.slides.files import SHORT, may_be_dicom, slide_files
from appliance.slides.tiff_index import TILE_WIDTH, NoTiffError, TiffIndex, TiffIndexError
from appliance.slides.untouched import open_untouched

TIFF_ERRORS = (TiffFileError, OSError, ValueError, IndexError, KeyError, struct.error)
"""Errors that tifffile raises on bytes that are no TIFF, or only a part of one."""
_INCOMPLETE = re.compile(r"(Expected \d+|only one|Missing) SOP instances?\b.* in concatenation")
_UNSUPPORTED = re.compile(r"Unsupported|value \S+ != ")
_LAYOUT = re.compile(r"TIFFRGBAImageOK|too many frames in PixelData")
"""OpenSlide's words for an incomplete series, for px that it cannot read, and for tiles that lie in
a legal way that it does not know: samples of 32 bits, or frames in several fragments unlisted."""


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
    except OSError as err:
        raise_if_short(err)
        return QuarantineReason.UNREADABLE


def why_not_open(path: Path, text: str) -> tuple[QuarantineReason, str]:
    """Reason for a file whose format OpenSlide knows and which it cannot open; it said `text`.

    With a text of what the file holds where that is the reason; else with an empty one.
    """
    held = ""
    try:
        if _is_deflated(path):
            return QuarantineReason.UNSUPPORTED, "its data set is deflated"
        with open_untouched(path) as stream:
            if is_dicom(stream):
                if _is_damaged_dicom(path):
                    return QuarantineReason.DAMAGED, ""
                if several := _several_pictures(path):
                    held = f"its series has several {several}"
                reason = QuarantineReason.UNSUPPORTED if several else _why_no_series(path, text)
            else:
                stream.seek(0)
                size = path.stat().st_size
                cut = any(end > size for end in TiffIndex(stream, size).ends())
                reason = QuarantineReason.DAMAGED if cut else QuarantineReason.UNSUPPORTED
    except FileNotFoundError:
        reason = QuarantineReason.VANISHED
    except (NoTiffError, OSError) as err:
        raise_if_short(err)
        reason = QuarantineReason.UNREADABLE
    except TiffIndexError:
        reason = QuarantineReason.DAMAGED
    return reason, held


def why_not_read(text: str) -> QuarantineReason:
    """Reason for a place of an open slide that cannot be read; OpenSlide said `text`."""
    return QuarantineReason.UNSUPPORTED if _LAYOUT.search(text) else QuarantineReason.DAMAGED


def _is_deflated(path: Path) -> bool:
    with open_untouched(path) as stream:
        return is_deflated(stream, path.stat().st_size)


def _why_no_series(path: Path, text: str) -> QuarantineReason:
    """Reason for a DICOM series that is not damaged, by what OpenSlide said of it."""
    at = path.stat()
    header = header_of(path, at.st_size, at.st_mtime_ns)
    if _INCOMPLETE.search(text) and header is not None and header.parts != 1:
        return QuarantineReason.NEVER_FINISHED
    # What OpenSlide misses first in a gray picture is an attribute of colored ones.
    is_gray = header is not None and header.samples == 1
    if is_gray or _UNSUPPORTED.search(text):
        return QuarantineReason.UNSUPPORTED
    return QuarantineReason.MISSING_TAGS


def require_places(path: Path) -> None:
    """Raise SlideError MISSING_TAGS where a file of a DICOM series does not place its frames.

    OpenSlide ends the process when it reads such a file.
    """
    for file in slide_files(path) if may_be_dicom(path.name) else ():
        at = file.stat()
        header = header_of(file, at.st_size, at.st_mtime_ns)
        if header is None or header.organization != "TILED_SPARSE":
            continue
        with open_untouched(file) as stream:
            if not has_places(stream, at.st_size):
                detail = "frames are TILED_SPARSE and have no positions"
                raise SlideError(QuarantineReason.MISSING_TAGS, detail)


def _several_pictures(path: Path) -> str:
    """Return what a DICOM series has several of, of which OpenSlide reads one; else empty.

    Raises
    ------
    OSError
        If a file of it cannot be read.
    """
    found = (header_of(f, (at := f.stat()).st_size, at.st_mtime_ns) for f in slide_files(path))
    volumes = [header for header in found if header is not None and header.is_volume]
    if any(header.focal_planes > 1 for header in volumes):
        return "focal planes"
    if any(header.optical_paths > 1 for header in volumes):
        return "optical paths"
    whole = [each for each in volumes if each.is_base and each.part <= 1]  # parts are read as one
    sizes = [(each.matrix_columns, each.matrix_rows) for each in whole]
    return "scans of regions of one size" if len(set(sizes)) < len(sizes) else ""


def _is_damaged_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM and does not go on as such to its end."""
    with open_untouched(path) as stream:
        if not is_dicom(stream):
            return False
        stream.seek(0)
        return not reaches_end(stream, path.stat().st_size)


def raise_if_short(err: Exception) -> None:
    """Raise the OSError of a machine that lacks memory or open files, whatever says so.

    No slide is to blame for it. OpenSlide has the system's words in its own.
    """
    for number in SHORT:
        if isinstance(err, OSError) and err.errno == number:
            raise err
        if os.strerror(number) in str(err):
            raise OSError(number, os.strerror(number)) from err


def without_path(err: Exception, path: Path) -> str:
    """Text of an error without the slide's name: details go to logs, and names hold accessions."""
    return str(err).replace(str(path), "the file").replace(path.name, "the file")
