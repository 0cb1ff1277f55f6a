"""Facts of a slide from its header: size, resolution, levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import openslide

from appliance.domain import SlideFacts
from appliance.slides.resolution import check_range, stated_mpp

MOST_SKEW = 0.02
"""Largest relative difference of the two axes' factors; levels drop or round px at the edge."""
BOUNDED = frozenset({"leica", "mirax", "ventana", "zeiss"})
"""Formats whose files may state bounds: the scanned area, without margins that were left out."""


def bounds_offset(properties: Mapping[str, str]) -> tuple[int, int]:
    """Return the first px (x, y) within the bounds that a file states; (0, 0) without bounds.

    QuPath shows such a file cropped to its bounds, and counts from there.
    """
    names = openslide.PROPERTY_NAME_BOUNDS_X, openslide.PROPERTY_NAME_BOUNDS_Y
    x, y = (properties.get(name, "") for name in names)
    return (int(x), int(y)) if x.isdecimal() and y.isdecimal() else (0, 0)


def read_facts(path: Path, handle: openslide.OpenSlide, mpp: float | None) -> SlideFacts:
    """Facts of an open slide, without fingerprint; `mpp` (µm per level-0 px) overrides the header.

    Raises
    ------
    SlideError
        NO_MPP, IMPLAUSIBLE_MPP, ANISOTROPIC.
    """
    properties = handle.properties
    if mpp is None:
        mpp = stated_mpp(properties, handle.dimensions)
    check_range(mpp)
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
    width, height = handle.dimensions
    return SlideFacts(
        path=str(path),
        fingerprint="",
        format=vendor,
        width_px=width,
        height_px=height,
        mpp=mpp,
        level_count=handle.level_count,
        is_dicom=vendor == "dicom",
    )


def true_downsample(base: tuple[int, int], level: tuple[int, int]) -> float:
    """Level-0 px per level px, from the sizes (width, height) of level 0 and of the level.

    OpenSlide divides the sizes. Scanners shrink by a whole number, and drop or round up the rest at
    the edge. On a section 25 mm wide OpenSlide's quotient is off by several µm.
    """
    quotient = (base[0] / level[0] + base[1] / level[1]) / 2
    whole = max(1, round(quotient))
    exact = all(abs(b / whole - n) < 1 for b, n in zip(base, level, strict=True))
    return float(whole) if exact else quotient


def shows_the_same(base: tuple[int, int], level: tuple[int, int]) -> bool:
    """Return whether a level may show what level 0 shows: by the ratios of both sizes."""
    across, down = base[0] / level[0], base[1] / level[1]
    rounding = max(1 / level[0], 1 / level[1])
    return abs(across - down) <= (MOST_SKEW + rounding) * min(across, down)
