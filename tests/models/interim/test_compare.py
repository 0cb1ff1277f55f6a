"""Figures of the interim reader's variants."""

from __future__ import annotations

import numpy as np
import pytest

from models.interim.compare import COLUMNS, Judged, figures, interval, mean_figures, paired


def judged(seed: int, sure: float) -> Judged:
    """Answers for 80 cases of four classes; `sure` is added to the right class's logit."""
    rng = np.random.default_rng(seed)
    label = np.arange(80) % 4
    logits = rng.normal(0, 1, (80, 4))
    logits[np.arange(80), label] += sure
    odds = np.exp(logits)
    return Judged(label, odds / odds.sum(axis=1, keepdims=True))


def test_columns_are_those_of_the_paper() -> None:
    label = np.array([0, 1, 2, 3, 3])
    perfect = figures(Judged(label, np.eye(4)[label]))
    assert tuple(perfect) == COLUMNS
    assert set(perfect.values()) == {1.0}
    # By hand: three of five right; F1 is 2/3, 0, 1, 2/3 for support 1, 1, 1, 2.
    by_hand = figures(Judged(label, np.eye(4)[[0, 0, 2, 3, 1]]))
    assert by_hand["ACC"] == pytest.approx(3 / 5)
    assert by_hand["M-F1"] == pytest.approx((2 / 3 + 0 + 1 + 2 / 3) / 4)
    assert by_hand["W-F1"] == pytest.approx((2 / 3 + 0 + 1 + 2 * 2 / 3) / 5)


def test_a_better_variant_has_an_interval_above_zero_and_an_equal_one_has_zero() -> None:
    one, better = judged(0, 0.5), judged(0, 2.5)
    assert paired([one], [better], resamples=100)["W-AUC"][0] > 0
    assert paired([one], [one], resamples=100)["W-F1"] == [0.0, 0.0]
    with pytest.raises(ValueError, match="different cases"):
        paired([one], [Judged(one.label[::-1].copy(), one.probabilities)])


def test_trainings_by_other_seeds_count_by_their_mean() -> None:
    good, bad = judged(0, 2.5), judged(1, 0.0)
    both = mean_figures([good, bad])["W-AUC"]
    assert both == pytest.approx((figures(good)["W-AUC"] + figures(bad)["W-AUC"]) / 2)
    # The mean of both against the better one: as far below zero in each resample.
    low, high = paired([good, good], [good, bad], resamples=100)["W-AUC"]
    assert low < high < 0


def test_answers_by_chance_have_half_in_their_interval_and_good_ones_do_not() -> None:
    low, high = interval([judged(0, 0.0)], resamples=100)["W-AUC"]
    assert low < 0.5 < high
    assert interval([judged(0, 2.5)], resamples=100)["W-AUC"][0] > 0.5
