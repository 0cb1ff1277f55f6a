"""Tile and slide scores compared with the printed equations (arXiv 2512.22335, Eq. 5-9)."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.assays.her2.paper import (
    PaperScore,
    binary_by_pixels,
    paper_score,
    tile_grade,
    tile_label,
    wsi_percent,
    wsi_percent_of_slide,
)
from appliance.domain import Her2Score
from appliance.findings.classes import count_classes, h_score, percent_of_tumor
from appliance.findings.measured import TileFinding
from appliance.geometry import TILE_UM


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


ZERO, ONE, TWO, THREE = Her2Score


def tile(*shares: float, column: int = 0, row: int = 0) -> TileFinding:
    """Tile with these shares (0-100) of its px in 0, 1+, 2+ and 3+."""
    zero, one, two, three = shares
    grade = tile_grade(np.array([0, zero, one, two, three]))
    return TileFinding(
        column=column,
        row=row,
        he_column=0,
        he_row=0,
        tumor_probability=1.0,
        intensity=grade,
        intensity_probability=1.0,
        percent=(zero, one, two, three),
        grade=grade,
        label="",
    )


def both(highest_class: Her2Score, largest_count: Her2Score, *, fallback: bool) -> PaperScore:
    return PaperScore(highest_class=highest_class, largest_count=largest_count, fallback=fallback)


EMPTY = tile(0, 0, 0, 0)
# The slide of docs/scoring.md, 6 x 5 tiles, one of them without tumor.
F = tile(5, 20, 55, 0, column=1, row=1)
G = tile(10, 10, 5, 30, column=2, row=1)
H = tile(90, 5, 0, 0, column=3, row=1)
SLIDE = [F, G, H, EMPTY]
SLIDE_UM = (6 * TILE_UM, 5 * TILE_UM)


def test_the_two_readings_of_eq_8_differ_where_a_weak_tile_has_more_px() -> None:
    # F: 2+ with 55 %, G: 3+ with 30 %. H has the largest count of all, 90 %, and is not of {3, 4}.
    assert [t.grade for t in SLIDE] == [2, 3, 0, 0]
    assert paper_score(SLIDE) == both(THREE, TWO, fallback=False)


def test_one_stray_tile_decides_by_the_highest_class() -> None:
    stray = tile(0, 0, 0, 10)
    assert paper_score([tile(90, 0, 0, 0)] * 99 + [stray]) == both(THREE, THREE, fallback=False)
    assert paper_score([tile(0, 0, 60, 0)] * 99 + [stray]) == both(THREE, TWO, fallback=False)
    assert wsi_percent([tile(90, 0, 0, 0)] * 99 + [stray]) == pytest.approx(1.0)


def test_equal_counts_go_to_the_higher_class() -> None:
    assert paper_score([tile(0, 0, 40, 0), tile(0, 0, 0, 40)]) == both(THREE, THREE, fallback=False)


def test_without_2_plus_and_3_plus_all_tiles_are_the_fallback_for_the_empty_set() -> None:
    assert paper_score([H, tile(10, 30, 0, 0)]) == both(ONE, ZERO, fallback=True)
    assert paper_score([H]) == both(ZERO, ZERO, fallback=True)
    assert paper_score([]) is None
    assert paper_score([EMPTY]) is None  # annotated, not scored


def test_eq_9_over_the_scored_tumor_and_over_the_slide() -> None:
    # F and G of the three scored tiles; F and G of the 30 tiles of the slide.
    assert wsi_percent(SLIDE) == pytest.approx(100 * 2 / 3)
    assert wsi_percent_of_slide(SLIDE, SLIDE_UM) == pytest.approx(100 * 2 / 30)


@pytest.mark.parametrize("tiles", [[], [EMPTY], [H]])
def test_eq_9_of_no_tile_of_2_plus_or_3_plus_is_0(tiles: list[TileFinding]) -> None:
    assert wsi_percent(tiles) == 0
    assert wsi_percent_of_slide(tiles, SLIDE_UM) == 0


def test_padding_of_a_border_tile_is_no_area_of_the_slide() -> None:
    # One and a half tiles wide, one and a quarter high: the corner tile covers an eighth of a tile.
    corner = tile(0, 0, 0, 60, column=1, row=1)
    size = (1.5 * TILE_UM, 1.25 * TILE_UM)
    assert wsi_percent_of_slide([corner], size) == pytest.approx(100 * 0.125 / 1.875)
    whole = [tile(0, 0, 0, 60, column=c, row=r) for c in (0, 1) for r in (0, 1)]
    assert wsi_percent_of_slide(whole, size) == pytest.approx(100)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ([500, 40, 90, 90, 30], "negative"),  # 1+ and 2+ are not in {1, 4}
        ([500, 30, 90, 90, 40], "positive"),
        ([500, 0, 0, 0, 1], "positive"),
        ([0, 30, 0, 0, 30], "equivocal"),
        ([500, 0, 90, 90, 0], None),
        ([500, 0, 0, 0, 0], None),
    ],
)
def test_binary_status_by_px_compares_classes_1_and_4(
    counts: list[int], status: str | None
) -> None:
    assert binary_by_pixels(np.array(counts)) == status


def test_percent_and_h_score() -> None:
    shares = percent_of_tumor(np.array([500, 10, 20, 30, 40]))
    assert shares == pytest.approx(percent(10, 20, 30, 40))
    assert h_score(shares) == pytest.approx(20 + 60 + 120)
    assert sum(percent_of_tumor(np.array([500, 0, 0, 0, 0])).values()) == 0
