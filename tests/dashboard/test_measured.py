"""Measurements of a case on its page: those of a case without a score are withheld."""

from __future__ import annotations

from dataclasses import replace

from fixtures.findings import some_findings

from appliance.findings.findings import Correction
from dashboard.views import measured
from dashboard.views.case import _score_markup as score_markup


def test_numbers_of_a_case_without_a_score_are_withheld() -> None:
    found = some_findings()
    assert "background" in measured.percent(found) and "–" not in measured.percent(found)
    zero = dict.fromkeys(found.percent, 0.0)
    none = replace(found, score=None, percent=zero, h_score=0.0, wsi_percent=0.0)
    for markup in (measured.percent(none), measured.facts(none)):
        assert "–" in markup and "0.0 %" not in markup
    assert "Tumor cells counted" in measured.facts(found)
    assert "Tumor cells counted" not in measured.facts(none)


def test_a_persons_score_says_that_the_appliance_gave_no_numbers() -> None:
    word = Correction(by="Meyer^Anna", why="by eye", was=None, corrects="findings/0")
    given = replace(some_findings(), correction=word)
    assert "–" in measured.facts(given)
    text = score_markup(given)
    told = "had said no score; it gave no result, so shares and numbers are left out.<"
    assert told in text and "are the appliance's" not in text
    scored = score_markup(replace(given, correction=replace(word, was="3+")))
    assert "on this page are the appliance's.<" in scored and "left out" not in scored
    torn = replace(given, score=None, paper_score="3+", correction=replace(word, was="3+"))
    none = score_markup(torn)
    assert "had said 3+; the case cannot be scored, so shares and numbers are left out.<" in none
    assert "Paper score (Algorithm 1): none<" in none
    assert f"{torn.percent['3+']:.1f} %" not in measured.percent(torn)
