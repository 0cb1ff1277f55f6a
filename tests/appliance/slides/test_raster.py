"""Rasters of masks over tiles, read whole and in pieces."""

from __future__ import annotations

import numpy as np

from appliance.geometry import TILE_UM
from appliance.slides.raster import RasterGrid, TileMask


def test_a_mask_read_in_pieces_is_the_expanded_one() -> None:
    grid = RasterGrid(rows=300, columns=200, mpp=1.1)
    tiles = np.random.default_rng(1).random((3, 2)) < 0.5
    mask, whole = TileMask(grid, tiles), grid.expand(tiles)
    assert mask.shape == whole.shape == (300, 200)
    assert set(np.unique(whole)) == {0, 1}
    pieces = [mask[top : top + 64, 0:200] for top in range(0, 300, 64)]
    assert np.array_equal(np.vstack(pieces), whole)
    assert whole[129, 131] == tiles[0, 1]
    assert whole[130, 129] == tiles[1, 0]


def test_a_last_px_with_its_center_beyond_the_slide_belongs_to_the_last_tile() -> None:
    """The slide ends with its last tile, and a raster px reaches over its edge."""
    tiles = np.array([[False, True]])
    grid = RasterGrid(rows=10, columns=int(2 * TILE_UM / 5) + 1, mpp=5.0)
    assert (grid.columns - 0.5) * 5.0 > 2 * TILE_UM
    assert grid.expand(tiles)[0, -1] == 1
