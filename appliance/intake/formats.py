"""Formats of slides that cannot be read here: known by their suffix, counted, and left alone."""

from __future__ import annotations

import configparser
import re

from appliance.slides.untouched import open_untouched

UNREADABLE_SUFFIXES = frozenset(
    {
        ".czi",  # Zeiss
        ".i2syntax",  # Philips
        ".isyntax",
        ".j2k",  # JPEG 2000
        ".jp2",
        ".jpx",
        ".kfb",  # KFBIO
        ".lif",  # Leica confocal
        ".lsm",  # Zeiss confocal
        ".mdsx",  # Motic
        ".nd2",  # Nikon
        ".ndpis",  # Hamamatsu, fluorescence: a set of NDPI files
        ".oir",  # Olympus confocal
        ".qptiff",  # Akoya
        ".sdpc",  # TEKSQRAY
        ".tmap",  # UNIC
        ".vms",  # Hamamatsu, several JPEG files
        ".vmu",
        ".vsi",  # Olympus
        ".zarr",  # OME-NGFF, a folder
        ".zvi",  # Zeiss
    }
)
"""Suffixes, in lower case."""
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
