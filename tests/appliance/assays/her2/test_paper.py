"""Tile and slide scores compared with the printed equations (arXiv 2512.22335, Eq. 5-9)."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.assays.her2.paper import paper_score, tile_grade, tile_label, wsi_percent
from appliance.domain import Her2Score
from appliance.findings.classes import count_classes, h_score, percent_of_tumor
from appliance.findings.measured import TileFinding


def percent(zero: float, one: float, two: float, three: float) -> dict[str, float]:
    return {"0": zero, "1+": one, "2+": two, "3+": three}


def test_pixels_per_class_are_counted_as_in_eq_5_and_6() -> None:
    label_map = np.array([[0, 0, 1, 2], [2, 3, 4, 4]], dtype=np.uint8)
    assert count_classes(label_map).tolist() == [2, 1, 2, 1, 2]
    assert count_classes(np.zeros((2, 2), np.uint8)).tolist() == [4, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("counts", "grade"),
    [
        ([900, 40, 60, 0, 0], 1),  # background is never the tile's class
        ([0, 10, 20, 31, 30], 2),
        ([0, 60, 5, 5, 30], 0),  # the class with most px, not the most intense one
        ([9, 5, 5, 0, 0], 1),  # a tie goes up
        ([9, 0, 0, 0, 0], 0),
    ],
)
def test_a_tiles_grade_is_the_class_with_most_px(counts: list[int], grade: int) -> None:
    assert tile_grade(np.array(counts)) == grade


@pytest.mark.parametrize(
    ("counts", "intensity", "label"),
    [
        ([100, 40, 60, 0, 0], 1, "NF/1+"),  # both labels are in the paper's Figure 10
        ([100, 40, 60, 0, 0], 2, "NFW/1+"),
        ([100, 40, 55, 5, 0], 1, "NFW/1+"),  # 5 % of the tumor counts as seen
        ([100, 401, 550, 49, 0], 1, "NF/1+"),
        ([0, 0, 0, 10, 90], 3, "WS/3+"),
        ([4_384, 7_000, 5_000, 0, 0], 1, "NF/0"),  # docs/scoring.md: A, B, C
        ([6_384, 2_000, 7_000, 1_000, 0], 1, "NFW/1+"),
        ([8_384, 1_000, 1_000, 5_800, 200], 2, "NFW/2+"),
        ([100, 0, 0, 0, 0], 0, "N"),  # no tumor: annotated, not scored
        ([100, 0, 0, 0, 0], 1, "N"),  # whatever L says
        ([100, 0, 0, 0, 0], 3, "N"),
    ],
)
def test_tile_label_as_in_the_paper(counts: list[int], intensity: int, label: str) -> None:
    assert tile_label(np.array(counts), intensity) == label


def tile(grade: int, *, tumor: bool = True) -> TileFinding:
    shares = [0.0, 0.0, 0.0, 0.0]
    shares[grade] = 60.0 if tumor else 0.0
    return TileFinding(
        column=0,
        row=0,
        he_column=0,
        he_row=0,
        tumor_probability=1.0,
        intensity=grade,
        intensity_probability=1.0,
        percent=(shares[0], shares[1], shares[2], shares[3]),
        grade=grade,
        label="",
    )


def test_algorithm_1_as_printed_lets_one_stray_tile_decide() -> None:
    tiles = [tile(0)] * 99 + [tile(3)]
    assert paper_score(tiles) is Her2Score.THREE
    assert wsi_percent(tiles) == pytest.approx(1.0)
    assert paper_score([tile(0)] * 99 + [tile(2)]) is Her2Score.TWO
    assert paper_score([tile(0), tile(1)]) is Her2Score.ONE
    assert paper_score([tile(0)]) is Her2Score.ZERO
    assert paper_score([]) is None


def test_eq_9_is_the_share_of_tiles_of_2_plus_and_3_plus() -> None:
    assert wsi_percent([tile(0), tile(1), tile(2), tile(3)]) == pytest.approx(50)
    assert wsi_percent([tile(1)]) == 0
    assert wsi_percent([]) == 0


def test_a_tile_without_tumor_px_is_not_scored() -> None:
    empty = tile(0, tumor=False)
    assert paper_score([empty]) is None
    assert wsi_percent([empty]) == 0
    assert wsi_percent([empty, empty, tile(2), tile(1)]) == pytest.approx(50)


def test_percent_and_h_score() -> None:
    shares = percent_of_tumor(np.array([500, 10, 20, 30, 40]))
    assert shares == pytest.approx(percent(10, 20, 30, 40))
    assert h_score(shares) == pytest.approx(20 + 60 + 120)
    assert sum(percent_of_tumor(np.array([500, 0, 0, 0, 0])).values()) == 0
