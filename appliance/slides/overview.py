"""Overview of a slide: the resolution at which it is inspected."""

from __future__ import annotations

LONGEST_PX = 1500
"""Target length of an overview's longest side."""
OVERVIEW_MPP_RANGE = (1.0, 25.0)
"""Finest and coarsest resolution of an overview, µm per px."""


def thumbnail_mpp(width_um: float, height_um: float) -> float:
    """Resolution at which a slide of that size is inspected, µm per px."""
    low, high = OVERVIEW_MPP_RANGE
    return min(max(max(width_um, height_um) / LONGEST_PX, low), high)
