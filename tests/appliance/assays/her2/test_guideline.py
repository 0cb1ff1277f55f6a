"""Each guideline at each of its printed limits; expected values written by hand from the print."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.assays.her2.guideline import Guideline, all_guidelines, load_guideline
from appliance.domain import Her2Score, ResultCategory
from appliance.errors import SettingsError
from appliance.findings.classes import percent_of_tumor

BREAST = load_guideline("breast-asco-cap-2018")
RESECTION = load_guideline("gastric-resection-2014")
BIOPSY = load_guideline("gastric-biopsy-2014")
COLORECTAL = load_guideline("colorectal-heracles-2015")
ENDOMETRIAL = load_guideline("endometrial-trial")

NEGATIVE = "negative"
EQUIVOCAL = "equivocal"
AFTER = "positive after retest and ISH"
POSITIVE = "positive"


def percent(one: float, two: float, three: float) -> dict[str, float]:
    """Return shares of 1+, 2+ and 3+; the remainder is 0."""
    return {"0": 100 - one - two - three, "1+": one, "2+": two, "3+": three}


@pytest.mark.parametrize(
    ("one", "two", "three", "score"),
    [
        # 3+: intense in > 10 %
        (0, 80, 9.99, "2+"),
        (0, 80, 10, "2+"),
        (0, 80, 10.01, "3+"),
        (0, 0, 9.99, "2+"),
        (0, 0, 10, "2+"),
        (0, 0, 10.01, "3+"),
        # 2+: weak to moderate in > 10 %; intense area counts too
        (40, 9.99, 0, "1+"),
        (40, 10, 0, "1+"),
        (40, 10.01, 0, "2+"),
        (40, 8, 2, "1+"),
        (40, 8.01, 2, "2+"),
        # 2+: intense in <= 10 %, from the detection limit of 3 % on
        (0, 0, 2.99, "0"),
        (0, 0, 3, "2+"),
        (0, 0, 3.01, "2+"),
        # 1+: faint in > 10 %
        (9.99, 0, 0, "0"),
        (10, 0, 0, "0"),
        (10.01, 0, 0, "1+"),
        # 0
        (0, 0, 0, "0"),
        (0, 10, 0, "0"),
    ],
)
def test_breast(one: float, two: float, three: float, score: str) -> None:
    assert BREAST.score(percent(one, two, three)) == score


@pytest.mark.parametrize(
    ("one", "two", "three", "score"),
    [
        # 3+: strong in >= 10 %
        (0, 80, 9.99, "2+"),
        (0, 80, 10, "3+"),
        (0, 80, 10.01, "3+"),
        # 2+: weak to moderate in >= 10 %
        (80, 9.99, 0, "1+"),
        (80, 10, 0, "2+"),
        (80, 10.01, 0, "2+"),
        (80, 0, 9.99, "1+"),
        (80, 0.01, 9.99, "2+"),
        # 1+: faint in >= 10 %
        (9.99, 0, 0, "0"),
        (10, 0, 0, "1+"),
        (10.01, 0, 0, "1+"),
        # 0: none, or < 10 %
        (0, 0, 9.99, "0"),
        (0, 0, 0, "0"),
    ],
)
def test_gastric_resection(one: float, two: float, three: float, score: str) -> None:
    assert RESECTION.score(percent(one, two, three)) == score


@pytest.mark.parametrize(
    ("cells", "score"),
    [
        # cells of the largest cluster stained at least 1+, 2+, 3+
        ((50, 50, 4), "2+"),
        ((50, 50, 5), "3+"),
        ((50, 50, 6), "3+"),
        ((50, 4, 0), "1+"),
        ((50, 5, 0), "2+"),
        ((50, 6, 0), "2+"),
        ((4, 0, 0), "0"),
        ((5, 0, 0), "1+"),
        ((6, 0, 0), "1+"),
        ((0, 0, 0), "0"),
    ],
)
@pytest.mark.parametrize("shares", [percent(0, 0, 0.01), percent(0, 0, 99), percent(30, 30, 30)])
def test_gastric_biopsy_by_clusters_at_any_percentage(
    cells: tuple[int, int, int], score: str, shares: dict[str, float]
) -> None:
    counted = dict(zip(("1+", "2+", "3+"), cells, strict=True))
    assert BIOPSY.score(shares, counted) == score


@pytest.mark.parametrize(
    ("one", "two", "three", "score"),
    [
        # area replaces the cluster from 3 % on
        (50, 40, 2.99, "2+"),
        (50, 40, 3, "3+"),
        (50, 40, 3.01, "3+"),
        (50, 2.99, 0, "1+"),
        (50, 3, 0, "2+"),
        (50, 3.01, 0, "2+"),
        (50, 2, 1, "2+"),
        (2.99, 0, 0, "0"),
        (3, 0, 0, "1+"),
        (3.01, 0, 0, "1+"),
    ],
)
def test_gastric_biopsy_by_area(one: float, two: float, three: float, score: str) -> None:
    assert BIOPSY.score(percent(one, two, three)) == score


@pytest.mark.parametrize(
    ("one", "two", "three", "score", "category"),
    [
        # 3+ in >= 50 % positive
        (0, 0, 49.99, "3+", AFTER),
        (0, 0, 50, "3+", POSITIVE),
        (0, 0, 50.01, "3+", POSITIVE),
        # 3+ in > 10 % and < 50 % positive after retest and ISH, however much is 2+
        (0, 80, 10.01, "3+", AFTER),
        (0, 0, 10.01, "3+", AFTER),
        # 3+ in <= 10 % negative
        (0, 0, 10, "3+", NEGATIVE),
        (0, 0, 9.99, "3+", NEGATIVE),
        (0, 0, 3, "3+", NEGATIVE),
        # 2+ in >= 50 % equivocal, 2+ in < 50 % negative
        (0, 49.99, 0, "2+", NEGATIVE),
        (0, 50, 0, "2+", EQUIVOCAL),
        (0, 50.01, 0, "2+", EQUIVOCAL),
        # a few strong cells do not hide an equivocal tumor
        (0, 44.99, 5, "3+", NEGATIVE),
        (0, 45, 5, "2+", EQUIVOCAL),
        # 1+ and 0 negative; less than 3 % is below the detection limit
        (0, 3, 0, "2+", NEGATIVE),
        (0, 2, 1, "2+", NEGATIVE),
        (97.01, 2.99, 0, "1+", NEGATIVE),
        (97.01, 0, 2.99, "1+", NEGATIVE),
        (3, 0, 0, "1+", NEGATIVE),
        (2.99, 0, 0, "0", NEGATIVE),
        (0, 0, 0, "0", NEGATIVE),
    ],
)
def test_colorectal(one: float, two: float, three: float, score: str, category: str) -> None:
    rule = COLORECTAL.decide(percent(one, two, three))
    assert (rule.score, rule.category) == (score, category)


@pytest.mark.parametrize(
    ("one", "two", "three", "score"),
    [
        # 3+: strong in > 30 %
        (0, 60, 29.99, "2+"),
        (0, 60, 30, "2+"),
        (0, 60, 30.01, "3+"),
        # 2+: strong in <= 30 %, from the detection limit of 3 % on
        (0, 0, 30, "2+"),
        (0, 0, 3, "2+"),
        (97.01, 0, 2.99, "1+"),
        # 2+: weak to moderate in >= 10 %
        (0, 9.99, 0, "1+"),
        (0, 10, 0, "2+"),
        (0, 10.01, 0, "2+"),
        (0, 8, 2, "2+"),
        # 1+: faint in any, from 3 % on
        (2.99, 0, 0, "0"),
        (3, 0, 0, "1+"),
        (3.01, 0, 0, "1+"),
        (100, 0, 0, "1+"),
        # 1+: weak in < 10 %
        (0, 3, 0, "1+"),
        (0, 2.99, 0, "0"),
        # 0: none
        (0, 0, 0, "0"),
    ],
)
def test_endometrial(one: float, two: float, three: float, score: str) -> None:
    assert ENDOMETRIAL.score(percent(one, two, three)) == score


@pytest.mark.parametrize(
    ("guideline", "counts", "clusters", "score", "category", "distance"),
    [
        (BREAST, (10_000, 13_000, 6_800, 200), None, "2+", None, 9.33),
        (RESECTION, (20_000, 5_000, 2_000, 3_000), None, "3+", None, 0),
        (BREAST, (20_000, 5_000, 2_000, 3_000), None, "2+", None, 0),
        (BIOPSY, (9_000, 600, 300, 100), None, "2+", None, 1),
        (BIOPSY, (9_000, 600, 300, 100), (40, 22, 6), "3+", None, 100),
        (COLORECTAL, (4_000, 2_500, 2_300, 1_200), None, "3+", AFTER, 2),
        (ENDOMETRIAL, (3_000, 3_000, 1_500, 2_500), None, "2+", None, 5),
        (RESECTION, (3_000, 3_000, 1_500, 2_500), None, "3+", None, 15),
    ],
)
def test_the_examples_of_the_docs(
    guideline: Guideline,
    counts: tuple[int, ...],
    clusters: tuple[int, ...] | None,
    score: str,
    category: str | None,
    distance: float,
) -> None:
    """Examples of docs/scoring.md: tumor px per class to score, category and nearest limit."""
    shares = percent_of_tumor(np.array([0, *counts]))
    cells = None if clusters is None else dict(zip(("1+", "2+", "3+"), clusters, strict=True))
    rule = guideline.decide(shares, cells)
    assert (rule.score, rule.category) == (score, category)
    assert guideline.distance(shares, cells) == pytest.approx(distance, abs=0.005)


def test_the_rule_that_decided_is_the_printed_one() -> None:
    weak = ENDOMETRIAL.decide(percent(0, 9.99, 0))
    assert weak.text == "weak complete membrane staining in < 10 % of tumor cells"
    assert ENDOMETRIAL.decide(percent(0, 2, 1)).text == weak.text
    assert ENDOMETRIAL.decide(percent(0.01, 2, 0.99)).text != weak.text
    faint = ENDOMETRIAL.decide(percent(9.99, 0, 0))
    assert faint.text == "faint incomplete membrane staining in any tumor cells"
    retest = COLORECTAL.decide(percent(0, 0, 20))
    assert retest.text == "3+ in > 10 % and < 50 % of tumor cells is positive after retest and ISH"


@pytest.mark.parametrize("guideline", all_guidelines(), ids=lambda g: g.name)
def test_limits_in_the_text_are_those_of_the_data(guideline: Guideline) -> None:
    for rule in guideline.rules:
        for sign, limit in (
            (">", rule.over),
            (">=", rule.from_),
            ("<", rule.below),
            ("<=", rule.up_to),
        ):
            if limit:
                assert f" {sign} {limit:g} %" in rule.text
    assert guideline.rules[-1].score is Her2Score.ZERO
    assert guideline.source


def test_which_schemes_there_are() -> None:
    found = [
        ((guideline.organ, specimen), (guideline.name, guideline.status))
        for guideline in all_guidelines()
        for specimen in guideline.specimens
    ]
    assert len(found) == len(dict(found))  # one for each rule
    assert dict(found) == {
        ("breast", "resection"): ("breast-asco-cap-2018", "published"),
        ("breast", "biopsy"): ("breast-asco-cap-2018", "published"),
        ("gastric", "resection"): ("gastric-resection-2014", "published"),
        ("gastric", "biopsy"): ("gastric-biopsy-2014", "published"),
        ("colorectal", "resection"): ("colorectal-heracles-2015", "published"),
        ("colorectal", "biopsy"): ("colorectal-heracles-2015", "published"),
        ("endometrial", "resection"): ("endometrial-trial", "unverified"),
        ("endometrial", "biopsy"): ("endometrial-trial", "unverified"),
    }


SHARES = st.lists(st.floats(0, 100), min_size=4, max_size=4).filter(lambda v: sum(v) > 1)


def seriousness(guideline: Guideline, shares: list[float]) -> int:
    """Return the rank of the outcome, from harmless to serious."""
    outcome = guideline.decide(dict(zip(("0", "1+", "2+", "3+"), shares, strict=True))).outcome
    if isinstance(outcome, ResultCategory):
        return [NEGATIVE, EQUIVOCAL, AFTER, POSITIVE].index(outcome)
    return outcome.grade


@pytest.mark.parametrize("guideline", all_guidelines(), ids=lambda g: g.name)
@given(values=SHARES)
def test_more_intense_staining_never_means_less(guideline: Guideline, values: list[float]) -> None:
    shares = [100 * v / sum(values) for v in values]
    for lower in range(3):
        moved = list(shares)
        moved[lower + 1] += moved[lower] / 2
        moved[lower] /= 2
        assert seriousness(guideline, moved) >= seriousness(guideline, shares)


def test_shares_that_make_up_a_limit_reach_it() -> None:
    one, two, three = 5.1, 3.3, 1.6
    assert one + two + three < 10  # as floats
    assert RESECTION.score(percent(one, two, three)) is Her2Score.ONE


def test_distance_to_the_nearest_limit() -> None:
    assert BREAST.distance(percent(0, 88, 12)) == pytest.approx(2)
    assert BREAST.distance(percent(12, 0, 0)) == pytest.approx(2)
    assert BREAST.distance(percent(20, 70, 0)) == pytest.approx(10)  # to 3+
    assert BREAST.distance(percent(0, 0, 6)) == pytest.approx(3)  # to the detection limit
    assert BREAST.distance(percent(0, 60, 10)) == 0
    assert ENDOMETRIAL.distance(percent(0, 0, 28)) == pytest.approx(2)


def test_distance_is_to_the_farther_limit_where_two_rules_give_the_score() -> None:
    # 2+ by its share with 3+ of 11.1 > 10, and by 3+ in 4.1 >= 3: 1.1 points less of both is 1+.
    shares = percent(48.9, 7, 4.1)
    assert BREAST.score(shares) is Her2Score.TWO
    assert BREAST.score(percent(50.2, 6.9, 2.9)) is Her2Score.ONE
    assert BREAST.distance(shares) == pytest.approx(1.1)
    assert BREAST.distance(percent(40, 4, 7.5)) == pytest.approx(2.5)  # to 3+ in 10
    assert BREAST.distance(percent(40, 9, 6)) == pytest.approx(4)
    assert ENDOMETRIAL.distance(percent(40, 6, 5.5)) == pytest.approx(2.5)


@pytest.mark.parametrize("guideline", all_guidelines(), ids=lambda g: g.name)
@given(values=SHARES, others=SHARES, step=st.floats(0, 0.2))
def test_no_mix_that_is_nearer_has_another_outcome(
    guideline: Guideline, values: list[float], others: list[float], step: float
) -> None:
    names = ("0", "1+", "2+", "3+")
    here = {name: 100 * v / sum(values) for name, v in zip(names, values, strict=True)}
    other = {
        name: (1 - step) * here[name] + step * 100 * v / sum(others)
        for name, v in zip(names, others, strict=True)
    }
    far = max(
        abs(sum(here[name] - other[name] for name in rule.classes)) for rule in guideline.rules
    )
    if far < guideline.distance(here) - 1e-5:
        assert guideline.decide(other).outcome == guideline.decide(here).outcome


def test_distance_is_to_another_category_where_there_are_some() -> None:
    # 0 and 1+ are the same result; the next different one is 3+ in more than 10 %.
    assert COLORECTAL.distance(percent(3, 0, 0)) == pytest.approx(10)
    assert COLORECTAL.distance(percent(0, 48, 0)) == pytest.approx(2)
    assert COLORECTAL.distance(percent(0, 0, 48)) == pytest.approx(2)


def test_where_clusters_were_counted_no_percentage_is_near() -> None:
    shares = percent(0, 0, 2.9)
    assert BIOPSY.distance(shares) == pytest.approx(0.1)
    assert BIOPSY.distance(shares, {"1+": 9, "2+": 9, "3+": 9}) == 100


def test_low_ultralow_and_null_are_comments_of_breast() -> None:
    cases = [
        (Her2Score.ONE, percent(50, 0, 0), "HER2-low (1+)"),
        (Her2Score.ZERO, percent(10, 0, 0), "ultralow"),
        (Her2Score.ZERO, percent(1, 0, 0), "ultralow"),
        (Her2Score.ZERO, percent(0.4, 0.6, 0), "ultralow"),
        (Her2Score.ZERO, percent(0.99, 0, 0), "null"),
        (Her2Score.ZERO, percent(0, 0, 0), "null"),
        (Her2Score.TWO, percent(0, 100, 0), "2+ needs ISH"),
    ]
    for score, shares, word in cases:
        assert word in BREAST.comment(score, shares)
        assert BREAST.score(shares) is score
    assert BREAST.comment(Her2Score.THREE, percent(0, 0, 100)) == ""
    assert "HER2-low (1+)" not in BREAST.comment(Her2Score.TWO, percent(0, 100, 0))
    for other in (RESECTION, BIOPSY, COLORECTAL, ENDOMETRIAL):
        assert other.comment(Her2Score.ONE, percent(50, 0, 0)) == ""


def test_unknown_guideline_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="breast-asco-cap-2018"):
        load_guideline("breast")
