"""Reasons for review: their order, and their sentences."""

from __future__ import annotations

import pytest

from appliance.findings.reasons import Reason, ReviewReason, in_order
from appliance.words.english.review import REVIEW


def test_every_code_has_words() -> None:
    assert set(REVIEW) == {code.value for code in Reason}


def test_words_are_made_of_the_parameters() -> None:
    reason = ReviewReason(code=Reason.NEAR_THRESHOLD, params={"band": 2.5})
    assert reason.sentence == (
        "A class lies within 2.5 points of a limit of the guideline: the neighboring result is "
        "almost as likely."
    )
    assert reason.as_json() == {
        "code": "near-threshold",
        "params": {"band": 2.5},
        "sentence": reason.sentence,
    }


@pytest.mark.parametrize(
    ("params", "sentence"),
    [({}, "too-blue"), ({"percent": 12.5, "stain": "HE"}, "too-blue (percent=12.5, stain=HE)")],
)
def test_a_code_without_words_shows_its_facts(params: dict[str, object], sentence: str) -> None:
    assert ReviewReason(code="too-blue", params=params).sentence == sentence


def test_the_most_serious_reason_comes_first_and_an_assays_own_last() -> None:
    codes = ("of-an-assay", Reason.NEAR_THRESHOLD, Reason.MISMATCH, "another", Reason.NO_TUMOR)
    ordered = in_order(tuple(ReviewReason(code=code) for code in codes))
    assert [reason.code for reason in ordered] == [
        Reason.MISMATCH,
        Reason.NO_TUMOR,
        Reason.NEAR_THRESHOLD,
        "of-an-assay",
        "another",
    ]
