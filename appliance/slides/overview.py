"""Overview of a slide: the resolution at which it is inspected, and its stored picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OVERVIEW_NAME = "thumbnail.png"
"""File of the overview in the artifact of an inspected slide."""
LONGEST_PX = 1500
"""Target length of an overview's longest side."""
OVERVIEW_MPP_RANGE = (1.0, 25.0)
"""Finest and coarsest resolution of an overview, µm per px."""


def thumbnail_mpp(width_um: float, height_um: float) -> float:
    """Resolution at which a slide of that size is inspected, µm per px."""
    low, high = OVERVIEW_MPP_RANGE
    return min(max(max(width_um, height_um) / LONGEST_PX, low), high)


def load_overview(path: Path, *, longest_px: int | None = None) -> NDArray[np.uint8]:
    """Read a stored overview: uint8 RGB (rows, columns, 3), in full size or within `longest_px`."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    if longest_px is not None:
        rgb.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return np.asarray(rgb)
