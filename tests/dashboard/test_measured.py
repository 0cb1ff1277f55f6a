"""Measurements of a case on its page: those of a case without a score are withheld."""

from __future__ import annotations

from dataclasses import replace

from fixtures.findings import some_findings

from dashboard.views import measured


def test_numbers_of_a_case_without_a_score_are_withheld() -> None:
    found = some_findings()
    assert "background" in measured.percent(found) and "–" not in measured.percent(found)
    zero = dict.fromkeys(found.percent, 0.0)
    none = replace(found, score=None, percent=zero, h_score=0.0, wsi_percent=0.0)
    for markup in (measured.percent(none), measured.facts(none)):
        assert "–" in markup and "0.0 %" not in markup
    assert "Tumor cells counted" in measured.facts(found)
    assert "Tumor cells counted" not in measured.facts(none)
