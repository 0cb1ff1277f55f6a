"""Objects of a former edition state Allred's score as it was told then: their UID hangs on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.receptors import nuclear_outputs, register_receptors

from appliance.settings.settings import Settings
from dicom import codes


@pytest.mark.parametrize(
    ("nuclei", "today", "former"),
    [
        ((100, 200, 0, 0), (4, 1), (5, 1)),  # exactly 2/3
        ((400, 60, 60, 0), (3, 2), (3, 1)),  # a mean of exactly 1.5
        ((100, 0, 100, 100), (4, 3), (5, 2)),
        ((200, 100, 60, 40), (4, 2), (4, 2)),
    ],
)
def test_allred_of_a_former_edition(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    nuclei: tuple[int, ...],
    today: tuple[int, int],
    former: tuple[int, int],
) -> None:
    er, _ = register_receptors(monkeypatch)
    found = er.decide(nuclear_outputs(tmp_path, nuclei), Settings())
    for findings, parts in ((found, today), (replace(found, as_before=True), former)):
        told = {name: value for name, value, _ in er.objects.report(findings).measurements}
        assert (told[codes.ALLRED_PROPORTION], told[codes.ALLRED_INTENSITY]) == parts
        assert told[codes.ALLRED] == sum(parts)
        words = f"{sum(parts)} (proportion {parts[0]}, intensity {parts[1]})"
        assert dict(er.objects.page.measure_rows(findings))["Allred score (0-8)"] == words
