"""Tiles of a slide in the order of their brown, for proposals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, TileGrid
from appliance.slides.annotated import CalibratedSlide

BLUE, PALE, BROWN, GLASS = (150, 140, 200), (205, 180, 160), (110, 70, 40), (250, 250, 250)


@dataclass
class Facts:
    width_px: int
    height_px: int
    mpp: float


class Reader:
    """Reader of a slide of one row of fields, a tile each; the last one is cut a little short."""

    def __init__(self, colors: list[tuple[int, int, int]]) -> None:
        self._colors = colors
        width_px = int((len(colors) * TILE_UM - 2) / 0.25)
        self.facts = Facts(width_px=width_px, height_px=573, mpp=0.25)
        self.properties: dict[str, str] = {}
        self.grid = TileGrid.of(width_px * 0.25, 573 * 0.25)

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        rows, columns = (round(n * 0.25 / mpp) for n in (self.facts.height_px, self.facts.width_px))
        at = ((np.arange(columns) + 0.5) * mpp / TILE_UM).astype(int)
        line = np.array(self._colors, dtype=np.uint8)[at]
        return np.repeat(line[None], rows, axis=0)


def test_whole_tiles_with_tissue_from_the_palest_to_the_brownest() -> None:
    reader: Any = Reader([BROWN, GLASS, PALE, GLASS, BLUE, GLASS, BROWN])
    found = CalibratedSlide(reader).tiles_by_brown()
    # Of a field of glass at most the rim is tissue. The last tile reaches over the edge by 8 px.
    assert [place for place in found if place[0] % 2 == 0] == [(4, 0), (2, 0), (0, 0)]
