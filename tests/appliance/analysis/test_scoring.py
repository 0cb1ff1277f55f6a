"""Scores against the printed rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.analysis.findings import TileFinding
from appliance.analysis.scoring import (
    h_score,
    load_guideline,
    paper_score,
    percent_of_tumor,
    tile_grade,
    tile_label,
    wsi_percent,
)
from appliance.domain import Her2Score
from appliance.errors import SettingsError

BREAST = load_guideline("breast-asco-cap-2018")


def percent(zero: float, one: float, two: float, three: float) -> dict[str, float]:
    return {"0": zero, "1+": one, "2+": two, "3+": three}


@pytest.mark.parametrize(
    ("shares", "score"),
    [
        (percent(100, 0, 0, 0), "0"),
        (percent(90, 10, 0, 0), "0"),  # <= 10 % faint
        (percent(89.9, 10.1, 0, 0), "1+"),  # > 10 % faint
        (percent(90, 0, 10, 0), "0"),
        (percent(60, 29.9, 10.1, 0), "2+"),
        (percent(50, 0, 40, 10), "2+"),  # intense in <= 10 % is 2+
        (percent(50, 0, 39.9, 10.1), "3+"),
        (percent(94, 0, 0, 6), "2+"),  # intense complete in <= 10 %
    ],
)
def test_breast_guideline_at_its_limits(shares: dict[str, float], score: str) -> None:
    assert BREAST.score(shares) == score


@given(st.lists(st.floats(0, 100), min_size=4, max_size=4).filter(lambda v: sum(v) > 1))
def test_more_intense_staining_never_lowers_the_score(values: list[float]) -> None:
    shares = [100 * v / sum(values) for v in values]
    for lower in range(3):
        moved = list(shares)
        moved[lower + 1] += moved[lower] / 2
        moved[lower] /= 2
        assert BREAST.score(percent(*moved)).grade >= BREAST.score(percent(*shares)).grade


def test_distance_to_the_nearest_limit() -> None:
    assert BREAST.distance(percent(0, 0, 88, 12)) == pytest.approx(2)
    assert BREAST.distance(percent(88, 12, 0, 0)) == pytest.approx(2)
    assert BREAST.distance(percent(10, 20, 70, 0)) == pytest.approx(10)  # to 3+


def test_low_and_ultralow_are_comments() -> None:
    assert "low" in BREAST.comment(Her2Score.ONE, percent(50, 50, 0, 0))
    assert "ultralow" in BREAST.comment(Her2Score.ZERO, percent(95, 5, 0, 0))
    assert "null" in BREAST.comment(Her2Score.ZERO, percent(100, 0, 0, 0))
    assert "ISH" in BREAST.comment(Her2Score.TWO, percent(0, 0, 100, 0))
    assert BREAST.comment(Her2Score.THREE, percent(0, 0, 0, 100)) == ""


def test_tile_label_and_grade_as_in_the_paper() -> None:
    counts = np.array([100, 40, 60, 0, 0])
    assert tile_grade(counts) == 1
    assert tile_label(counts, intensity=1) == "NF/1+"
    assert tile_label(counts, intensity=2) == "NFW/1+"
    assert tile_grade(np.array([9, 5, 5, 0, 0])) == 1  # a tie goes up
    assert tile_grade(np.array([9, 0, 0, 0, 0])) == 0


def tile(grade: int) -> TileFinding:
    return TileFinding(
        column=0,
        row=0,
        he_column=0,
        he_row=0,
        tumor_probability=1.0,
        intensity=grade,
        intensity_probability=1.0,
        percent=(0.0, 0.0, 0.0, 0.0),
        grade=grade,
        label="",
    )


def test_algorithm_1_as_printed_lets_one_stray_tile_decide() -> None:
    tiles = [tile(0)] * 99 + [tile(3)]
    assert paper_score(tiles) is Her2Score.THREE
    assert wsi_percent(tiles) == pytest.approx(1.0)
    assert paper_score([tile(0), tile(1)]) is Her2Score.ONE
    assert paper_score([]) is None
    assert wsi_percent([]) == 0.0


def test_percent_and_h_score() -> None:
    shares = percent_of_tumor(np.array([500, 10, 20, 30, 40]))
    assert shares == pytest.approx(percent(10, 20, 30, 40))
    assert h_score(shares) == pytest.approx(20 + 60 + 120)
    assert sum(percent_of_tumor(np.array([500, 0, 0, 0, 0])).values()) == 0


def test_unknown_guideline_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="breast-asco-cap-2018"):
        load_guideline("breast")
