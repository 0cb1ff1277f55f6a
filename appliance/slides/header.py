"""Facts of a slide from its header: size, resolution, levels."""

from __future__ import annotations

from pathlib import Path

import openslide

from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import SlideError

MPP_RANGE = (0.1, 1.1)
"""Plausible µm per px of level 0: 100x oil to 10x."""


def read_facts(path: Path, handle: openslide.OpenSlide, mpp: float | None) -> SlideFacts:
    """Facts of an open slide, without fingerprint; `mpp` (µm per level-0 px) overrides the header.

    Raises
    ------
    SlideError
        NO_MPP, IMPLAUSIBLE_MPP.
    """
    properties = handle.properties
    if mpp is None:
        try:
            x = float(properties[openslide.PROPERTY_NAME_MPP_X])
            y = float(properties[openslide.PROPERTY_NAME_MPP_Y])
        except (KeyError, ValueError) as err:
            raise SlideError(QuarantineReason.NO_MPP) from err
        mpp = (x + y) / 2
    if not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, f"{mpp:g} µm per px")
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
