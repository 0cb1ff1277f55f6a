"""Blocks of tiles that decided a score, compared with blocks laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.assays.her2.rois import DECIDING_SHARE, FINE, MOST, deciding_rois
from appliance.domain import Her2Score
from appliance.findings.measured import TileFinding
from appliance.geometry import TILE_UM


def tile(
    column: int, row: int, *percent: float, intensity: int = 0, grade: int | None = None
) -> TileFinding:
    shares = (percent[0], percent[1], percent[2], percent[3])
    return TileFinding(
        column=column,
        row=row,
        he_column=column,
        he_row=row,
        tumor_probability=1.0,
        intensity=intensity,
        intensity_probability=1.0,
        percent=shares,
        grade=int(np.argmax(shares)) if grade is None else grade,
        label="",
    )


def area(outline: tuple[tuple[float, float], ...]) -> float:
    x, y = np.array(outline).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def inside(outline: NDArray[np.float64], x: float, y: float) -> bool:
    """Return whether a point lies in a polygon, by ray casting."""
    crossed = False
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, 1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            crossed = not crossed
    return crossed


def test_two_blocks_of_strong_tiles() -> None:
    tiles = [
        tile(2, 1, 0, 0, 0, 80, intensity=3),
        tile(3, 1, 0, 0, 20, 20, intensity=2, grade=2),
        tile(3, 2, 0, 10, 0, 50, intensity=3),
        tile(9, 9, 0, 0, 0, 40, intensity=3),
        tile(5, 5, 60, 0, 0, 0),  # 0: no part in a 3+
    ]
    first, second = deciding_rois(tiles, Her2Score.THREE)
    assert (first.name, first.tiles, second.name, second.tiles) == ("R1", 3, "R2", 1)
    assert first.grades == {"0": 0, "1+": 0, "2+": 1, "3+": 2}
    assert first.intensities == {"0": 0, "1+": 0, "2+": 1, "3+": 2}
    # By hand: 80 + 40 + 60 = 180 % of a tile is tumor: 150 % 3+, 20 % 2+, 10 % 1+.
    assert first.tumor_area_mm2 == pytest.approx(1.8 * TILE_UM**2 / 1e6)
    assert first.percent == pytest.approx(
        {"0": 0, "1+": 1000 / 180, "2+": 2000 / 180, "3+": 15000 / 180}
    )
    outline = np.array(first.outline_um)
    for column, row in ((2, 1), (3, 1), (3, 2)):
        assert inside(outline, (column + 0.5) * TILE_UM, (row + 0.5) * TILE_UM)
    assert not inside(outline, 2.5 * TILE_UM, 2.5 * TILE_UM)
    assert 0.85 * 3 < area(first.outline_um) / TILE_UM**2 < 3
    inset = 1 / (2 * FINE)
    assert outline.min(axis=0) == pytest.approx([(2 + inset) * TILE_UM, (1 + inset) * TILE_UM])


def test_tiles_that_touch_at_a_corner_are_two_blocks() -> None:
    rois = deciding_rois([tile(0, 0, 0, 9, 0, 0), tile(1, 1, 0, 9, 0, 0)], Her2Score.ONE)
    assert [roi.tiles for roi in rois] == [1, 1]


def test_a_ring_that_meets_itself_at_a_corner_is_a_simple_polygon() -> None:
    ring = [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 2), (2, 1)]
    (roi,) = deciding_rois([tile(c, r, 0, 9, 0, 0) for c, r in ring], Her2Score.ONE)
    assert roi.tiles == len(ring)
    assert len(set(roi.outline_um)) == len(roi.outline_um)


def test_a_score_of_thin_staining_has_its_regions_too() -> None:
    """1+ by 20 % faint on every tile: no tile reaches the usual share."""
    tiles = [tile(k, 0, 80, 20, 0, 0) for k in range(4)] + [tile(9, 9, 98, 2, 0, 0)]
    (roi,) = deciding_rois(tiles, Her2Score.ONE)
    assert roi.tiles == 4


def test_a_few_strong_cells_decide_a_two() -> None:
    share = 100 * DECIDING_SHARE
    tiles = [tile(0, 0, 0, 100 - share, 0, share), tile(4, 0, 0, 100, 0, 0)]
    (roi,) = deciding_rois(tiles, Her2Score.TWO)
    assert roi.tiles == 1 and roi.grades["1+"] == 1


def test_all_tumor_decides_a_zero_and_none_decides_nothing() -> None:
    tiles = [tile(0, 0, 50, 0, 0, 0), tile(1, 0, 40, 5, 0, 0), tile(5, 5, 0, 0, 0, 0)]
    (roi,) = deciding_rois(tiles, Her2Score.ZERO)
    assert roi.tiles == 2  # a tile without tumor decides nothing
    assert deciding_rois(tiles, None) == ()
    assert deciding_rois([], Her2Score.ZERO) == ()


def test_the_largest_blocks_come_first_and_there_is_an_end() -> None:
    tiles = [tile(3 * k, 0, 0, 0, 0, 9) for k in range(MOST + 5)]
    tiles += [tile(0, 5, 0, 0, 0, 9), tile(1, 5, 0, 0, 0, 9)]
    rois = deciding_rois(tiles, Her2Score.THREE)
    assert len(rois) == MOST
    assert [roi.tiles for roi in rois[:2]] == [2, 1]
