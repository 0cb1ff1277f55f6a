"""Nuclei that show that a slide of ER was stained: in the tumor, beside it, in both together."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.receptors import nuclear_outputs, register_receptors

from appliance.settings.settings import Settings


@pytest.mark.parametrize(
    ("nuclei", "outside", "score", "reasons"),
    [
        # Of a biopsy: neither place has five of them by itself.
        ((296, 4, 0, 0), (196, 4, 0, 0), "low positive", {"internal-control-missing"}),
        ((146, 0, 0, 4), (97, 0, 0, 3), "low positive", {"internal-control-missing"}),
        # Beside a large negative tumor: five of 2,500 may be pigment, of 40 they are not.
        ((60_000, 0, 0, 0), (2495, 5, 0, 0), "negative", {"internal-control-missing"}),
        ((450, 0, 0, 0), (1995, 5, 0, 0), "negative", {"internal-control-missing"}),
        ((60_000, 0, 0, 0), (35, 5, 0, 0), "negative", set()),
        ((60_000, 0, 0, 0), (2480, 20, 0, 0), "negative", set()),
        # Of both together they are more than 0.2 %.
        ((0, 2000, 0, 0), (2495, 5, 0, 0), "positive", set()),
        ((1990, 5, 5, 0), (495, 5, 0, 0), "negative", set()),
        ((298, 2, 0, 0), (198, 2, 0, 0), None, {"stain-not-proven"}),
    ],
)
def test_nuclei_that_show_the_stain(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    nuclei: tuple[int, ...],
    outside: tuple[int, ...],
    score: str | None,
    reasons: set[str],
) -> None:
    er, _ = register_receptors(monkeypatch)
    outputs, settings = nuclear_outputs(tmp_path, nuclei, outside=outside), Settings()
    found = er.decide(outputs, settings)
    told = {reason.code for reason in er.review(outputs, found, settings)}
    assert (found.score, told - {"near-threshold"}) == (score, reasons)


@pytest.mark.parametrize(
    ("nuclei", "outside", "pigment", "score", "reasons"),
    [
        # An unstained run may be told as a result, and never without a reason.
        (
            (960, 40, 0, 0),
            (200, 0, 0, 0),
            (30, 0, 0),
            "low positive",
            {"pigment", "internal-control-missing"},
        ),
        ((990, 0, 0, 0), (190, 10, 0, 0), (0, 5, 0), "negative", {"pigment"}),
        # Half of ten are left.
        ((990, 0, 0, 0), (185, 15, 0, 0), (0, 5, 0), "negative", set()),
        ((700, 300, 0, 0), (200, 0, 0, 0), (200, 0, 0), "positive", {"pigment"}),
        ((990, 0, 0, 0), (150, 50, 0, 0), (0, 40, 0), "negative", {"pigment"}),
    ],
)
def test_pigment_that_may_show_the_stain_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    nuclei: tuple[int, ...],
    outside: tuple[int, ...],
    pigment: tuple[int, int, int],
    score: str | None,
    reasons: set[str],
) -> None:
    er, _ = register_receptors(monkeypatch)
    outputs = nuclear_outputs(tmp_path, nuclei, outside=outside, pigment=pigment)
    found = er.decide(outputs, Settings())
    told = {reason.code for reason in er.review(outputs, found, Settings())}
    assert (found.score, told) == (score, reasons)
