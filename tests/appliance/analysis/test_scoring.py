"""Scores against the printed rules."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.analysis.findings import TileFinding
from appliance.analysis.scoring import (
    h_score,
    paper_score,
    percent_of_tumor,
    tile_grade,
    tile_label,
    wsi_percent,
)
from appliance.domain import Her2Score


def percent(zero: float, one: float, two: float, three: float) -> dict[str, float]:
    return {"0": zero, "1+": one, "2+": two, "3+": three}


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
