"""OME-XML of a TIFF's description: resolution and objective (OME Data Model 2016-06).

The document is searched for the attributes of single elements and not parsed as a whole: headers
of damaged and of unknown files are no input for an XML parser.
"""

from __future__ import annotations

import html
import math
import re

MOST_CHARACTERS = 1 << 20
"""Most characters of a document that are searched; the header of a slide has some thousands."""
UNITS_UM = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "μm": 1.0,
    "um": 1.0,
    "\N{REPLACEMENT CHARACTER}m": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25400.0,
}
"""µm of the units of length that an OME document may name. The µ of a document that is no UTF-8
arrives as a replacement character."""
COARSER = 1.9
"""Factor of the finest resolution from which on an image is a level, an overview or a label."""
_MICRO_SIGN, _MU = "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"
_ELEMENT = r"<(?:\w+:)?{}\b([^<>]*)>"
_IMAGE = re.compile(_ELEMENT.format("Image"))
_BESIDE = re.compile(r"(?<![a-z])(label|macro|thumbnail|overview)(?![a-z])", re.IGNORECASE)
"""Word in the name of an image that is no picture of the section."""
_PIXELS = re.compile(_ELEMENT.format("Pixels"))
_OBJECTIVE = re.compile(_ELEMENT.format("Objective"))
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_ROOT = re.compile(r"<(?:\w+:)?OME\b")


def is_ome(text: str) -> bool:
    """Return whether a TIFF's description is an OME document."""
    return _ROOT.search(text[:4096]) is not None


def ome_resolution_um(text: str, size_px: tuple[int, int]) -> tuple[float, float] | None:
    """Return µm per px in x and y of the image of `size_px` (width, height).

    A document with one image needs no size. None where it does not say, or in no unit of length.
    """
    images = _images(text)
    width, height = (str(edge) for edge in size_px)
    fit = [a for a in images if (a.get("SizeX"), a.get("SizeY")) == (width, height)]
    for image in fit or (images if len(images) == 1 else []):
        x, y = _length_um(image, "PhysicalSizeX"), _length_um(image, "PhysicalSizeY")
        if x is not None and y is not None:
            return x, y
    return None


def ome_size_px(text: str) -> tuple[int, int] | None:
    """Return the size (width, height) of the only image of a document; None where there are more,
    or it does not say."""
    images = _images(text)
    try:
        (image,) = images
        return int(image["SizeX"]), int(image["SizeY"])
    except (KeyError, ValueError):
        return None


def ome_pictures(text: str) -> int:
    """Return how many pictures of the section a document has: scenes, focal planes and times.

    Label and overview are none, and neither are coarser levels, which some programs list.
    """
    parts = _IMAGE.split(text[:MOST_CHARACTERS])
    found: list[tuple[int, float, int]] = []
    # Parts alternate: attributes of an image, and what follows up to the next one.
    for attributes, rest in zip(parts[1::2], parts[2::2], strict=True):
        pixels = _images(rest)[:1]
        if pixels and not _BESIDE.search(_attributes(attributes).get("Name", "")):
            planes = _number(pixels[0], "SizeZ") * _number(pixels[0], "SizeT")
            um = _length_um(pixels[0], "PhysicalSizeX") or 0.0
            found.append((planes, um, _number(pixels[0], "SizeX")))
    finest = min((um for _, um, _ in found if um > 0), default=0.0)
    widest = max((width for _, _, width in found), default=0)
    return sum(
        planes
        for planes, um, width in found
        if (um < COARSER * finest if um > 0 else COARSER * width > widest)
    )


def ome_power(text: str) -> str:
    """Return the power of the objective; empty where none is stated, or several."""
    found = {
        power
        for element in _OBJECTIVE.findall(text[:MOST_CHARACTERS])
        if (power := _attributes(element).get("NominalMagnification"))
    }
    return found.pop() if len(found) == 1 else ""


def _images(text: str) -> list[dict[str, str]]:
    return [_attributes(found) for found in _PIXELS.findall(text[:MOST_CHARACTERS])]


def _number(attributes: dict[str, str], name: str) -> int:
    """Return a count; 1 where none is stated."""
    stated = attributes.get(name, "")
    return max(1, int(stated)) if stated.isdecimal() else 1


def _attributes(element: str) -> dict[str, str]:
    return {
        name: html.unescape(double or single)
        for name, double, single in _ATTRIBUTE.findall(element)
    }


def _length_um(attributes: dict[str, str], name: str) -> float | None:
    """Return a length in µm, which is the unit where none is stated."""
    unit = attributes.get(f"{name}Unit", "um").strip().replace(_MICRO_SIGN, _MU)
    scale = UNITS_UM.get(unit)
    try:
        length = float(attributes[name]) * (scale or math.nan)
    except (KeyError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None
