"""Formats of slides that cannot be read here: known by their suffix, counted, and left alone."""

from __future__ import annotations

import configparser
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
OTHER = "other"
"""Key of the count of files that are of no known format: their suffix may be part of a name."""
MOST_SET_BYTES = 65536
"""Most bytes of an NDPIS file that are looked at."""


def channels_of(path: str) -> set[str]:
    """Names of the NDPI files of an NDPIS set; empty where it cannot be read.

    The channels of fluorescence are no slides of their own.
    """
    try:
        with open_untouched(path) as stream:
            text = stream.read(MOST_SET_BYTES).decode("utf-8", "replace")
    except OSError:
        return set()
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
