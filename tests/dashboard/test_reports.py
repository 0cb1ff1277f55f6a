"""Report pages beside Streamlit's: damaged ones are told, and not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.damage import flip

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.objects import PAGE_NAME
from appliance.settings.settings import Settings
from dashboard.answers import NotShownError
from dashboard.reports import Reports


def test_a_damaged_page_is_told_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path)
    store, key = ArtifactStore(settings.artifacts_dir), ArtifactKey.of("objects", case=1)
    with store.writing(key) as folder:
        (folder / PAGE_NAME).write_bytes(b"%PDF-1.7 a page")
    page = store.path(key) / PAGE_NAME
    reports = Reports(settings)
    monkeypatch.setattr(reports._door, "case", lambda _: type("Row", (), {"objects_key": str(key)}))
    assert reports.pdf(1, "").status_code == 200
    flip(page)
    for shown in (reports.pdf, reports.picture):
        with pytest.raises(NotShownError, match=r"damaged .* tandem rerun case-1"):
            shown(1, "")
