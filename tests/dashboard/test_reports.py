"""Report pages beside Streamlit's: damaged and former ones are told, and not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.damage import flip
from fixtures.kept_report import keep_report

from appliance.artifacts import ArtifactStore
from appliance.delivery.index import INDEX_NAME
from appliance.delivery.objects import PAGE_NAME
from appliance.ledger.tables import CaseRow
from appliance.settings.settings import Settings
from dashboard.answers import NotShownError
from dashboard.reports import Reports


@pytest.fixture
def case() -> CaseRow:
    """Return a case with a result."""
    return CaseRow(
        id=1,
        accession="S26-1",
        block="A1",
        assay="her2",
        anatomy="HE",
        target="HER2",
        state="delivered",
        findings_key="findings/1",
        created_at=1.0,
        changed_at=1.0,
    )


@pytest.fixture
def reports(tmp_path: Path, case: CaseRow, monkeypatch: pytest.MonkeyPatch) -> Reports:
    """Return the routes of the case's report page, which is of its result."""
    settings = Settings(state_dir=tmp_path)
    case.objects_key = keep_report(settings, case.findings_key)
    made = Reports(settings)
    monkeypatch.setattr(made._door, "case", lambda _: case)
    return made


@pytest.mark.parametrize("name", [PAGE_NAME, INDEX_NAME])
def test_a_damaged_page_is_told_not_shown(reports: Reports, name: str, tmp_path: Path) -> None:
    assert reports.pdf(1, "").status_code == 200
    (damaged,) = ArtifactStore(Settings(state_dir=tmp_path).artifacts_dir).root.rglob(name)
    flip(damaged)
    for shown in (reports.pdf, reports.picture):
        with pytest.raises(NotShownError, match=r"damaged .* tandem rerun case-1"):
            shown(1, "")


@pytest.mark.parametrize("findings_key", ["", "findings/2"])
def test_the_page_of_a_former_result_is_not_shown(
    reports: Reports, case: CaseRow, findings_key: str
) -> None:
    """A case that is reopened, held or run again has no findings, or others, and keeps objects."""
    case.findings_key = findings_key
    for shown in (reports.pdf, reports.picture):
        with pytest.raises(NotShownError, match="of a former result, which is not in force"):
            shown(1, "")
