"""Resolutions and size of patches (arXiv 2503.22069, section 2.3 and Table 5)."""

from __future__ import annotations

from models.spec import TILE_MPP, TILE_PX

PATCH_PX = 224
"""Edge of a patch in px, at each resolution. The paper prints it for multiple instances; its patch
classifier has the input of its networks for whole slides, of which this is the smaller."""
SLIDE_PX = {"low": (1648, 1471), "moderate": (4549, 4017), "high": (23218, 20529)}
"""Average columns and rows of a slide at each resolution, as the paper prints them."""
_HIGH_MPP = TILE_MPP * TILE_PX / PATCH_PX
RESOLUTIONS: dict[str, float] = {
    name: round(_HIGH_MPP * SLIDE_PX["high"][0] / columns, 4)
    for name, (columns, _) in SLIDE_PX.items()
}
"""µm per px by name, coarsest first.

The paper prints no µm per px. Here a patch of high resolution is the appliance's tile of 143 µm at
0.6384 µm/px: the paper's average slide is then 14.8 x 13.1 mm, as large as a section is. The other
two follow from the sizes that are printed: 3.26 and 8.99 µm/px.
"""
