"""Allred score, H-score and the limits of ASCO/CAP, worked by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.assays.nuclear.guideline import load_guideline
from appliance.assays.nuclear.scores import (
    Allred,
    allred,
    average_intensity,
    h_score,
    positive_percent,
)
from appliance.errors import SettingsError


@pytest.mark.parametrize(
    ("percent", "proportion", "intensity"),
    [
        ((100, 0, 0, 0), 0, 0),
        ((99.5, 0.5, 0, 0), 1, 1),  # below 1/100
        ((99, 1, 0, 0), 2, 1),  # 1/100
        ((90, 10, 0, 0), 2, 1),  # 1/10
        ((89.9, 0, 10.1, 0), 3, 2),
        ((66.7, 0, 33.3, 0), 3, 2),  # up to 1/3
        ((66, 0, 0, 34), 4, 3),
        ((33.4, 0, 0, 66.6), 4, 3),  # up to 2/3
        ((33, 0, 0, 67), 5, 3),
        ((0, 50, 50, 0), 5, 2),  # a mean of 1.5 is intermediate
        ((0, 51, 49, 0), 5, 1),
        ((0, 0, 40, 60), 5, 3),
    ],
)
def test_allred_by_the_table(percent: tuple[float, ...], proportion: int, intensity: int) -> None:
    found = allred(percent)
    assert found == Allred(proportion=proportion, intensity=intensity)
    assert found.total == proportion + intensity


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(lambda counts: any(counts[1:])),
    st.integers(1, 50),
)
@example([100, 200, 0, 0], 1)  # exactly 2/3
@example([100, 0, 200, 0], 1)
@example([2, 1, 0, 0], 7)  # exactly 1/3
@example([700, 150, 150, 0], 1)  # a mean of exactly 1.5
@example([200, 50, 50, 0], 1)
@example([996, 0, 0, 1], 1)
def test_allred_of_counted_nuclei_is_exact(parts: list[int], times: int) -> None:
    counts = [part * times for part in parts]
    stained, total = sum(counts[1:]), sum(counts)
    share, mean = Fraction(stained, total), Fraction(sum(k * counts[k] for k in (1, 2, 3)), stained)
    limits = (Fraction(1, 10), Fraction(1, 3), Fraction(2, 3))
    proportion = 1 if share < Fraction(1, 100) else 2 + sum(share > limit for limit in limits)
    found = allred([100 * count / total for count in counts])
    assert found == Allred(proportion=proportion, intensity=int(mean + Fraction(1, 2)))


def test_h_score_and_intensity_by_hand() -> None:
    percent = (40.0, 30.0, 20.0, 10.0)
    assert h_score(percent) == 30 + 2 * 20 + 3 * 10
    assert average_intensity(percent) == pytest.approx(100 / 60)
    assert average_intensity((100.0, 0.0, 0.0, 0.0)) is None
    assert h_score((0.0, 0.0, 0.0, 100.0)) == 300


@pytest.mark.parametrize(
    ("percent", "er", "pr"),
    [
        (0.0, "negative", "negative"),
        (0.999, "negative", "negative"),
        (1.0, "low positive", "positive"),
        (10.0, "low positive", "positive"),
        (10.001, "positive", "positive"),
        (100.0, "positive", "positive"),
    ],
)
def test_asco_cap_2020_at_its_limits(percent: float, er: str, pr: str) -> None:
    rules = [load_guideline(f"{name}-asco-cap-2020").decide(percent) for name in ("er", "pr")]
    assert [rule.score for rule in rules] == [er, pr]
    assert {rule.binary for rule in rules} == {"negative" if percent < 1 else "positive"}


def test_guidelines_name_source_and_limits() -> None:
    er, pr = (load_guideline(f"{name}-asco-cap-2020") for name in ("er", "pr"))
    assert (er.limits, pr.limits) == ((1.0, 10.0), (1.0,))
    assert er.least_nuclei == pr.least_nuclei == 100
    assert "2020" in er.source and er.status == pr.status == "published"
    with pytest.raises(SettingsError, match=r"'ki67'.*er-asco-cap-2020, pr-asco-cap-2020"):
        load_guideline("ki67")


@settings(max_examples=60)
@given(st.lists(st.integers(0, 5000), min_size=4, max_size=4).filter(any))
def test_scores_of_any_counts_fit_each_other(counts: list[int]) -> None:
    percent = [100 * count / sum(counts) for count in counts]
    positive, score = positive_percent(percent), allred(percent)
    assert positive == pytest.approx(100 - percent[0], abs=1e-6)
    assert (score.total == 0) == (positive == 0) and score.total != 1
    assert positive - 1e-6 <= h_score(percent) <= 3 * positive + 1e-6
    mean = average_intensity(percent)
    assert mean is None or 1 - 1e-6 <= mean <= 3 + 1e-6
    # Staining one more nucleus never lowers a score.
    if counts[0]:
        more = [counts[0] - 1, *counts[1:3], counts[3] + 1]
        higher = [100 * count / sum(counts) for count in more]
        assert allred(higher).proportion >= score.proportion
        assert h_score(higher) > h_score(percent)
