"""Frames and maps, tested as properties."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.geometry import TILE_UM, Affine, TileGrid

angles = st.floats(-180, 180)
places = st.floats(-1e4, 1e4)


@given(angles, places, places, places, places)
def test_a_map_and_its_inverse_undo_each_other(
    degrees: float, cx: float, cy: float, x: float, y: float
) -> None:
    turn = Affine.rotation(degrees, (cx, cy))
    there_and_back = turn.inverse().apply(turn.apply(np.array([x, y])))
    np.testing.assert_allclose(there_and_back, [x, y], atol=1e-6)
    np.testing.assert_allclose(turn.apply(np.array([cx, cy])), [cx, cy], atol=1e-6)


@given(angles, st.floats(0.25, 16), st.floats(0.25, 16), places, places)
def test_raster_map_agrees_with_the_map_in_micrometers(
    degrees: float, source_mpp: float, target_mpp: float, column: float, row: float
) -> None:
    affine = Affine.rotation(degrees, (100.0, 50.0))
    m = affine.to_raster(source_mpp, target_mpp)
    mapped = m @ [column, row, 1]
    in_um = affine.apply(np.array([(column + 0.5) * source_mpp, (row + 0.5) * source_mpp]))
    np.testing.assert_allclose((mapped + 0.5) * target_mpp, in_um, atol=1e-5)


@given(st.integers(1, 60), st.integers(1, 60))
def test_whole_tiles_make_no_extra_column(columns: int, rows: int) -> None:
    assert TileGrid.of(columns * TILE_UM, rows * TILE_UM) == TileGrid(columns, rows)


def test_grid_rounds_up_and_centers_lie_in_their_tiles() -> None:
    grid = TileGrid.of(2.1 * TILE_UM, 0.3 * TILE_UM)
    assert (grid.columns, grid.rows) == (3, 1)
    np.testing.assert_allclose(grid.centers_um()[0, 2], [2.5 * TILE_UM, 0.5 * TILE_UM])
