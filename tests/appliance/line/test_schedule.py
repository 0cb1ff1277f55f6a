"""Schedule: jobs run at their periods whatever the wall clock; the disk check warns."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from appliance.ledger.ledger import Ledger
from appliance.line.schedule import Job, Schedule, jobs_of
from appliance.settings.settings import Settings


@pytest.mark.parametrize(("limit_gib", "warnings"), [(0.0, 0), (1e9, 1)])
def test_the_disk_check_warns_below_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limit_gib: float, warnings: int
) -> None:
    settings = Settings(state_dir=tmp_path, low_disk_gib=limit_gib)
    ledger = Ledger(settings.ledger_url)
    (disk,) = [job for job in jobs_of(settings, ledger, ()) if job.name == "disk"]
    with caplog.at_level(logging.WARNING):
        disk.run()
    ledger.close()
    assert sum("GiB free" in record.message for record in caplog.records) == warnings


def test_a_clock_that_is_set_back_and_a_job_that_fails_stop_no_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, ran = threading.Event(), list[str]()
    real = time.time

    def set_back() -> None:
        ran.append("sets the clock")
        monkeypatch.setattr(time, "time", lambda: real() - 86400)

    def fail() -> None:
        ran.append("fails")
        raise ValueError

    def late() -> None:
        ran.append("late")

    jobs = (
        Job(name="sets", run=set_back, period_s=0.05, first_s=0.0),
        Job(name="fails", run=fail, period_s=0.05, first_s=0.0),
        Job(name="late", run=late, period_s=1000.0, first_s=0.3),
    )
    schedule = Schedule(jobs, stop)
    schedule.start()
    end = time.monotonic() + 60
    while (ran.count("fails") < 3 or "late" not in ran) and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    schedule.join()
    assert ran[:2] == ["sets the clock", "fails"]
    assert ran.count("sets the clock") >= 3
    assert ran.count("late") == 1
