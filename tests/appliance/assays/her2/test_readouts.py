"""Read-outs of a score in two, three and four classes, written out by hand."""

from __future__ import annotations

import pytest

from appliance.assays.her2.readouts import Ish, read_outs
from appliance.domain import Her2Score, ResultCategory


@pytest.mark.parametrize(
    ("score", "ish", "binary", "three_way"),
    [
        ("0", None, "negative", "0"),
        ("1+", None, "negative", "low"),
        ("2+", None, "equivocal", "pending ISH"),
        ("2+", Ish.NEGATIVE, "negative", "low"),
        ("2+", Ish.POSITIVE, "positive", "high"),
        ("3+", None, "positive", "high"),
        # ISH settles 2+ only
        ("0", Ish.POSITIVE, "negative", "0"),
        ("1+", Ish.POSITIVE, "negative", "low"),
        ("3+", Ish.NEGATIVE, "positive", "high"),
    ],
)
def test_breast(score: str, ish: Ish | None, binary: str, three_way: str) -> None:
    outs = read_outs(Her2Score(score), organ="breast", ish=ish)
    assert (outs.binary, outs.three_way, outs.four_way) == (binary, three_way, score)


@pytest.mark.parametrize(
    ("score", "category", "binary"),
    [
        ("3+", "positive", "positive"),
        ("3+", "positive after retest and ISH", "equivocal"),
        ("3+", "negative", "negative"),
        ("2+", "equivocal", "equivocal"),
        ("2+", "negative", "negative"),
        ("0", "negative", "negative"),
    ],
)
def test_a_category_is_stronger_than_the_score(score: str, category: str, binary: str) -> None:
    for ish in (None, Ish.NEGATIVE, Ish.POSITIVE):
        outs = read_outs(
            Her2Score(score), organ="colorectal", category=ResultCategory(category), ish=ish
        )
        assert (outs.binary, outs.three_way, outs.four_way) == (binary, None, score)


def test_low_is_a_breast_idea() -> None:
    for organ in ("gastric", "endometrial"):
        outs = read_outs(Her2Score.ONE, organ=organ)
        assert (outs.binary, outs.three_way) == ("negative", None)
