"""Formats of slides that cannot be read here: known by their suffix, counted, and left alone."""

from __future__ import annotations

import configparser
import html
import re

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


def channels_of(path: str) -> set[str]:
    """Names of the files of a set (NDPIS, AFI); empty where it cannot be read.

    The channels of fluorescence are no slides of their own.
    """
    try:
        with open_untouched(path) as stream:
            text = stream.read(MOST_SET_BYTES).decode("utf-8", "replace")
    except OSError:
        return set()
    if path.lower().endswith(".afi"):
        names = re.findall(r"(?i)<Path>\s*([^<]+?)\s*</Path>", text)
        return {html.unescape(name).replace("\\", "/").rpartition("/")[2] for name in names}
    found = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        found.read_string(text)
    except configparser.Error:
        return set(re.findall(r"(?im)^image\d+\s*=\s*(.+?\.ndpi)\s*$", text))
    return {
        value.strip().replace("\\", "/").rpartition("/")[2]
        for section in found.sections()
        for key, value in found.items(section)
        if re.fullmatch(r"image\d+", key)
    }
