"""Schedule: the disk check warns below the setting's limit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from appliance.ledger.ledger import Ledger
from appliance.line.schedule import build_schedule
from appliance.settings.settings import Settings


@pytest.mark.parametrize(("limit_gib", "warnings"), [(0.0, 0), (1e9, 1)])
def test_the_disk_check_warns_below_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limit_gib: float, warnings: int
) -> None:
    settings = Settings(state_dir=tmp_path, low_disk_gib=limit_gib)
    ledger = Ledger(settings.ledger_url)
    check = build_schedule(settings, ledger, ()).get_job("disk")
    with caplog.at_level(logging.WARNING):
        check.func()
    ledger.close()
    assert sum("GiB free" in record.message for record in caplog.records) == warnings
