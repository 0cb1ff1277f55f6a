"""The grid of a slide-wide raster, and where a tile lies on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.domain import SlideFacts
from appliance.geometry import TILE_UM, TileIndex

T = TypeVar("T", bound=np.generic)
WHOLE = (slice(None), slice(None))


@dataclass(frozen=True, slots=True)
class RasterGrid:
    """A slide-wide raster whose px is a whole multiple of the slide's base px.

    Viewers need that: a segmentation's spacing must equal a level's or a multiple of the base.
    """

    rows: int
    columns: int
    mpp: float

    @classmethod
    def of(cls, facts: SlideFacts, wanted_um: float) -> RasterGrid:
        """The raster over a slide whose mpp is nearest `wanted_um`."""
        factor = max(1, round(wanted_um / facts.mpp))
        return cls(
            rows=-(-facts.height_px // factor),
            columns=-(-facts.width_px // factor),
            mpp=facts.mpp * factor,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return (self.rows, self.columns)

    def resampled(
        self, index: TileIndex, labels: NDArray[np.uint8]
    ) -> tuple[slice, slice, NDArray[np.uint8]]:
        """Rows and columns of a tile, and its label map (any size, covering the tile) there."""
        rows = self._span(index.row, self.rows)
        columns = self._span(index.column, self.columns)
        # Nearest label of each raster px's center.
        r = (np.arange(rows.start, rows.stop) + 0.5) * self.mpp / TILE_UM - index.row
        c = (np.arange(columns.start, columns.stop) + 0.5) * self.mpp / TILE_UM - index.column
        height, width = labels.shape
        return rows, columns, labels[np.ix_((r * height).astype(int), (c * width).astype(int))]

    def _span(self, tile: int, length: int) -> slice:
        first = int(np.ceil(tile * TILE_UM / self.mpp - 0.5))
        last = int(np.ceil((tile + 1) * TILE_UM / self.mpp - 0.5))
        return slice(max(0, first), max(0, first, min(length, last)))

    def expand(self, tiles: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """A mask over the tile grid (rows, columns) as a raster of 0 and 1."""
        return TileMask(self, tiles)[:, :]

    def sampled(self, tiles: NDArray[T], place: tuple[slice, slice] = WHOLE) -> NDArray[T]:
        """Values over the tile grid (rows, columns) at the centers of the raster's px."""
        # The last px may have its center beyond the slide, and so beyond the last tile.
        r, c = (
            np.minimum(((np.arange(px)[part] + 0.5) * self.mpp / TILE_UM).astype(int), count - 1)
            for px, part, count in zip(self.shape, place, tiles.shape, strict=True)
        )
        # Columns first: rows are then copied whole.
        values: NDArray[T] = tiles[:, c][r]
        return values


@dataclass(frozen=True, slots=True)
class TileMask:
    """A mask over the tile grid (rows, columns) as a raster of 0 and 1, made where it is read."""

    grid: RasterGrid
    tiles: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.grid.shape

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[np.uint8]:
        return self.grid.sampled(self.tiles, place).view(np.uint8)
