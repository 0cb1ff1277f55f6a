"""The grid of a slide-wide raster, and the place of a tile on it."""

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

    Viewers need that: the spacing of a segmentation must be that of a level, or a multiple of the
    base's.
    """

    rows: int
    columns: int
    mpp: float

    @classmethod
    def of(cls, facts: SlideFacts, wanted_um: float) -> RasterGrid:
        """The raster over a slide with the mpp nearest to `wanted_um`."""
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
        """Rows and columns of a tile, and its label map resampled to them.

        `labels` covers the tile, at any size.
        """
        rows = self._span(index.row, self.rows)
        columns = self._span(index.column, self.columns)
        # Nearest label to the center of each raster px.
        r = (np.arange(rows.start, rows.stop) + 0.5) * self.mpp / TILE_UM - index.row
        c = (np.arange(columns.start, columns.stop) + 0.5) * self.mpp / TILE_UM - index.column
        height, width = labels.shape
        return rows, columns, labels[np.ix_((r * height).astype(int), (c * width).astype(int))]

    def _span(self, tile: int, length: int) -> slice:
        first = int(np.ceil(tile * TILE_UM / self.mpp - 0.5))
        last = int(np.ceil((tile + 1) * TILE_UM / self.mpp - 0.5))
        return slice(max(0, first), max(0, first, min(length, last)))

    def expand(self, tiles: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Raster of 0 and 1 of a mask over the tile grid (rows, columns)."""
        return TileMask(self, tiles)[:, :]

    def sampled(self, tiles: NDArray[T], place: tuple[slice, slice] = WHOLE) -> NDArray[T]:
        """Values over the tile grid (rows, columns) at the centers of the raster's px."""
        # The center of the last px may lie outside the slide, and so outside the last tile.
        r, c = (
            np.minimum(((np.arange(px)[part] + 0.5) * self.mpp / TILE_UM).astype(int), count - 1)
            for px, part, count in zip(self.shape, place, tiles.shape, strict=True)
        )
        # Select columns first, so that rows are copied whole.
        values: NDArray[T] = tiles[:, c][r]
        return values


@dataclass(frozen=True, slots=True)
class TileMask:
    """Raster of 0 and 1 of a mask over the tile grid (rows, columns), computed when it is read."""

    grid: RasterGrid
    tiles: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.grid.shape

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[np.uint8]:
        return self.grid.sampled(self.tiles, place).view(np.uint8)
