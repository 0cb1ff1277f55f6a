"""Wholeness of an MRXS slide (3DHISTECH): index file, Slidedat.ini, Index.dat and data files."""

from __future__ import annotations

import configparser
import io
import struct
from pathlib import Path

import numpy as np

from appliance.slides.untouched import open_untouched

MOST_INI_BYTES = 1 << 20
"""Most bytes of Slidedat.ini: OpenSlide's reader takes no larger one."""
MOST_INDEX_BYTES = 64 << 20
"""Most bytes of Index.dat."""
MOST_DATA_FILES, MOST_LEVELS = 10_000, 64
"""Most data files and most zoom levels of a slide."""
ZOOM_LEVELS = "Slide zoom level"
"""Name of the hierarchy that holds the tiles."""


class _CutIndexError(Exception):
    """Index.dat points beyond its end."""


def mrxs_is_whole(path: Path) -> bool:
    """Return whether Slidedat.ini parses, and its data files hold all tiles of Index.dat.

    Raises
    ------
    OSError
        If a file is missing or cannot be read.
    """
    folder = path.with_suffix("")
    slidedat = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        text = _read(folder / "Slidedat.ini", MOST_INI_BYTES).decode("utf-8-sig", "replace")
        slidedat.read_file(io.StringIO(text))
        count = slidedat.getint("DATAFILE", "FILE_COUNT")
        if not 0 < count <= MOST_DATA_FILES:
            return False
        names = [slidedat.get("DATAFILE", f"FILE_{i}") for i in range(count)]
        sizes = [(folder / name).stat().st_size for name in names]
        needed = _bytes_needed(folder, slidedat)
    except (configparser.Error, ValueError, _CutIndexError):
        return False
    return all(
        size >= max(1, needed.get(number, 1)) for number, size in enumerate(sizes)
    ) and not any(number >= count for number in needed)


def _read(path: Path, most_bytes: int) -> bytes:
    with open_untouched(path) as stream:
        data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError("larger than any index")
    return data


def _bytes_needed(folder: Path, slidedat: configparser.ConfigParser) -> dict[int, int]:
    """Return the least size in bytes of each data file, by its number, as Index.dat tells it.

    Empty where Slidedat.ini names no Index.dat, or it is laid out otherwise than OpenSlide's
    reader (openslide-vendor-mirax.c) knows.
    """
    name = slidedat.get("HIERARCHICAL", "INDEXFILE", fallback="")
    if not name:
        return {}
    index = _read(folder / name, MOST_INDEX_BYTES)
    if not index[:5].startswith(b"01."):
        if not index:
            raise _CutIndexError
        return {}
    # Its head: version (5 bytes), the slide's id, then the offset of the hierarchies.
    slide_id = slidedat.get("GENERAL", "SLIDE_ID", fallback="")
    root = _integer(index, 5 + len(slide_id))
    first = 0
    for number in range(min(slidedat.getint("HIERARCHICAL", "HIER_COUNT", fallback=0), 16)):
        levels = slidedat.getint("HIERARCHICAL", f"HIER_{number}_COUNT", fallback=0)
        if slidedat.get("HIERARCHICAL", f"HIER_{number}_NAME", fallback="") == ZOOM_LEVELS:
            needed: dict[int, int] = {}
            for level in range(min(levels, MOST_LEVELS)):
                _add_level(index, root + 4 * (first + level), needed)
            return needed
        first += levels
    return {}


def _add_level(index: bytes, record: int, needed: dict[int, int]) -> None:
    """Raise `needed` to what the tiles of one level need; the level is a list of pages."""
    at = _integer(index, _integer(index, record) + 4)
    seen = set[int]()
    while at and at not in seen:
        seen.add(at)
        count, following = _integer(index, at), _integer(index, at + 4)
        start = at + 8
        if count < 0 or start + 16 * count > len(index):
            raise _CutIndexError
        items = np.frombuffer(index, "<i4", 4 * count, start).reshape(-1, 4).astype(np.int64)
        for file in np.unique(items[:, 3]):
            mine = items[items[:, 3] == file]
            end = int((mine[:, 1] + mine[:, 2]).max())
            needed[int(file)] = max(end, needed.get(int(file), 0))
        at = following


def _integer(index: bytes, at: int) -> int:
    if at < 0 or at + 4 > len(index):
        raise _CutIndexError
    return int(struct.unpack_from("<i", index, at)[0])
