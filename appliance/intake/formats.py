"""Formats of slides that cannot be read here: known by their suffix, counted, and left alone."""

from __future__ import annotations

import html
import re

from appliance.intake.identity.sidecar import decoded
from appliance.intake.path_names import name_of
from appliance.slides.untouched import open_untouched

UNREADABLE_SUFFIXES = frozenset(
    {
        ".7z",  # packed slides
        ".afi",  # Leica, fluorescence: a set of SVS files
        ".bigtiff",
        ".btf",
        ".bz2",
        ".czi",  # Zeiss
        ".ets",  # Olympus: pixels of a VSI
        ".gz",
        ".i2syntax",  # Philips
        ".isyntax",
        ".j2k",  # JPEG 2000
        ".jp2",
        ".jpx",
        ".kfb",  # KFBIO
        ".lif",  # Leica confocal
        ".lsm",  # Zeiss confocal
        ".mds",  # Motic
        ".mdsx",
        ".nd2",  # Nikon
        ".ndpis",  # Hamamatsu, fluorescence: a set of NDPI files
        ".oir",  # Olympus confocal
        ".qptiff",  # Akoya
        ".rar",
        ".sdpc",  # TEKSQRAY
        ".szi",  # Smart In Media
        ".tar",
        ".tf2",  # OME
        ".tf8",
        ".tgz",
        ".tmap",  # UNIC
        ".tron",  # InteMedic
        ".vms",  # Hamamatsu, several JPEG files
        ".vmu",
        ".vsi",  # Olympus
        ".xz",
        ".zarr",  # OME-NGFF, a folder
        ".zip",
        ".zvi",  # Zeiss
    }
)
"""Suffixes, in lower case."""
UNREADABLE_FOLDERS = frozenset({".zarr"})
"""Suffixes, in lower case, of formats that are folders. Others are names that a person gave."""
SETS = frozenset({".afi", ".ndpis"})
"""Suffixes, in lower case, of files that name the channels of a slide of fluorescence."""
OTHER = "other"
"""Key of the count of files that are of no known format: their suffix may be part of a name."""
MOST_SET_BYTES = 65536
"""Most bytes of a file of `SETS` that are looked at."""
_IMAGE = re.compile(r"image[0-9]+", re.IGNORECASE)
"""Keys of an NDPIS file that name a channel."""


def channels_of(path: str) -> set[str]:
    """Names of the files of a set (NDPIS, AFI), casefolded; empty where it cannot be read.

    The channels of fluorescence are no slides of their own. Windows, under which sets are written,
    does not heed the case of a name.
    """
    try:
        with open_untouched(path) as stream:
            data = stream.read(MOST_SET_BYTES)
    except OSError:
        return set()
    try:
        names = _names(path, decoded(data))
    except ValueError:
        names = set()
    # Of other code pages the names in ASCII are read, and a lone NUL is no UTF-16.
    return names or _names(path, data.replace(b"\0", b"").decode("utf-8", "replace"))


def _names(path: str, text: str) -> set[str]:
    if path.lower().endswith(".afi"):
        names = [html.unescape(name) for name in re.findall(r"(?i)<Path>([^<]*)</Path>", text)]
    else:
        lines = [line.partition("=") for line in text.splitlines()]
        names = [name for key, _, name in lines if _IMAGE.fullmatch(key.strip())]
    return {name_of(name.strip().replace("\\", "/")).casefold() for name in names} - {""}
