"""Schedule: jobs run at their periods whatever the wall clock; the disk check warns."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
from fixtures.lab import Lab
from fixtures.pairings import HER2_PAIR

from appliance.ledger.heartbeat import read_sign
from appliance.ledger.ledger import Ledger
from appliance.ledger.waits import WallClock
from appliance.line import schedule
from appliance.line.daemon import Daemon
from appliance.line.schedule import Job, Schedule, jobs_of
from appliance.operations.disk import read_samples, set_retained
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
    end = time.monotonic() + 600
    while (ran.count("fails") < 3 or "late" not in ran) and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    schedule.join()
    assert ran[:2] == ["sets the clock", "fails"]
    assert ran.count("sets the clock") >= 3
    assert ran.count("late") == 1


@pytest.mark.parametrize("jump_s", [0.0, 2e7, -2e7])
def test_a_clock_that_was_set_far_removes_nothing_as_old_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    settings = Settings(state_dir=tmp_path, retention={"free_gib": 0.0})
    real, start = time.time, time.monotonic()
    ledger = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    settings.artifacts_dir.mkdir()
    (retain,) = [job for job in jobs_of(settings, ledger, ()) if job.name == "retention"]
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    for _ in range(2):  # the jump is followed after the first time
        retain.run()
        assert (read_samples(settings).retained_at > 0) == (not jump_s)
        with ledger.transaction() as tx:
            tx.note("ledger", "retry", time.time())
    monkeypatch.setattr(ledger, "_clock", WallClock(lambda: time.time()))
    monkeypatch.setattr(time, "monotonic", lambda: start + 90000)
    retain.run()
    assert read_samples(settings).retained_at > 0
    ledger.close()


def test_no_case_is_overdue_by_a_clock_that_was_set_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, real, start = Lab(tmp_path), time.time, time.monotonic()
    lab.arrive("S26-1_A1_HER2")
    ledger = Ledger(lab.settings.ledger_url, clock=WallClock(lambda: time.time()))
    (expire,) = [j for j in jobs_of(lab.settings, ledger, (HER2_PAIR,)) if j.name == "expire"]
    monkeypatch.setattr(time, "time", lambda: real() + 2e8)
    for _ in range(2):  # the jump is followed after the first time
        expire.run()
        assert lab.case().state == "waiting"
    monkeypatch.setattr(ledger, "_clock", WallClock(lambda: time.time()))
    monkeypatch.setattr(time, "monotonic", lambda: start + 90000)
    expire.run()
    assert (lab.case().state, lab.case().reason) == ("partnerless", "stain-missing")
    ledger.close()
    lab.close()


def test_a_machine_that_sleeps_each_night_misses_a_partner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, real, start = Lab(tmp_path), time.time, time.monotonic()
    lab.arrive("S26-1_A1_HER2")
    clock = WallClock(lambda: time.time(), lambda: time.monotonic())
    ledger = Ledger(lab.settings.ledger_url, clock=clock)
    (expire,) = [j for j in jobs_of(lab.settings, ledger, (HER2_PAIR,)) if j.name == "expire"]
    for day in range(1, 15):  # twelve hours of each: the clock goes on, the monotonic one does not
        monkeypatch.setattr(time, "time", lambda day=day: real() + 86400 * day)
        monkeypatch.setattr(time, "monotonic", lambda day=day: start + 43200 * day)
        expire.run()
    assert (lab.case().state, lab.case().reason) == ("partnerless", "stain-missing")
    ledger.close()
    lab.close()


@pytest.mark.parametrize("age_s", [3600.0, 1e7])
def test_a_start_long_after_the_last_event_removes_nothing_as_old_at_once(
    tmp_path: Path, age_s: float
) -> None:
    settings = Settings(state_dir=tmp_path, retention={"free_gib": 0.0})
    ledger = Ledger(settings.ledger_url)
    settings.artifacts_dir.mkdir()
    with ledger.transaction() as tx:
        tx.note("ledger", "retry", time.time() - age_s)
    (retain,) = [job for job in jobs_of(settings, ledger, ()) if job.name == "retention"]
    retain.run()
    ledger.close()
    assert (read_samples(settings).retained_at > 0) == (age_s == 3600.0)


def test_a_clock_that_was_set_far_makes_nothing_old_where_room_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path, retention={"free_gib": 1e9})
    real = time.time
    ledger = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    with ledger.transaction() as tx:
        tx.note("ledger", "retry", time.time())
    seen = settings.artifacts_dir / "seen"
    for name, age_s in (("new", 10.0), ("old", 3 * 86400.0)):
        (seen / name).mkdir(parents=True)
        os.utime(seen / name, (real() - age_s,) * 2)
    (retain,) = [job for job in jobs_of(settings, ledger, ()) if job.name == "retention"]
    monkeypatch.setattr(time, "time", lambda: real() + 2e7)
    retain.run()
    assert [path.name for path in seen.iterdir()] == ["new"]
    ledger.close()
    again = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    (retain,) = [job for job in jobs_of(settings, again, ()) if job.name == "retention"]
    set_retained(settings, 0.0)  # room was made less than an hour ago
    retain.run()
    assert read_samples(settings).retained_at > 0
    again.close()
    assert [path.name for path in seen.iterdir()] == ["new"]


def test_a_clock_that_was_behind_and_is_set_right_is_not_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a clock of its own starts years back; its full disk can be cleared then."""
    settings, real = Settings(state_dir=tmp_path), time.time
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.note("ledger", "retry", time.time())
    ledger.close()
    monkeypatch.setattr(time, "time", lambda: real() - 8e8)
    ledger = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    jobs_of(settings, ledger, ())
    assert ledger.doubts_clock and ledger.ahead_s == 0
    for set_s, ahead_s in ((0.0, 0.0), (9e6, 9e6), (0.0, 0.0)):
        monkeypatch.setattr(time, "time", lambda set_s=set_s: real() + set_s)
        with ledger.transaction() as tx:
            tx.note("ledger", "retry", time.time())
        assert ledger.doubts_clock and ledger.ahead_s == pytest.approx(ahead_s, abs=60)
    ledger.close()


@pytest.mark.parametrize("first", ["jump", "start"])
def test_the_doubt_of_a_clock_outlasts_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    settings = Settings(state_dir=tmp_path, retention={"free_gib": 0.0})
    settings.artifacts_dir.mkdir()
    real = time.time
    ledger = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    with ledger.transaction() as tx:
        tx.note("ledger", "retry", time.time())
    if first == "start":
        ledger.close()
    monkeypatch.setattr(time, "time", lambda: real() + 2e7)
    if first == "start":
        ledger = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    for _ in range(2):
        if first == "start":
            jobs_of(settings, ledger, ())
        with ledger.transaction() as tx:  # an event that bears the doubted time
            tx.note("ledger", "retry", time.time())
        ledger.close()
        first = "start"
        ledger = Ledger(settings.ledger_url, clock=WallClock(lambda: time.time()))
    (retain,) = [job for job in jobs_of(settings, ledger, ()) if job.name == "retention"]
    retain.run()
    ledger.close()
    assert read_samples(settings).retained_at == 0


def test_a_backup_that_hangs_is_told_by_the_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, free = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        hangs.set()
        free.wait(1200)

    monkeypatch.setattr(schedule, "FIRST_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(schedule, "SLOW_JOB_SECONDS", 0.5)
    monkeypatch.setattr(schedule, "backup_if_due", hang)
    (tmp_path / "scans").mkdir()
    settings = Settings(state_dir=tmp_path / "state", watch={"folder": str(tmp_path / "scans")})
    daemon = Daemon(settings)
    running = threading.Thread(target=daemon.run)
    running.start()
    try:
        assert hangs.wait(600)
        until, trouble = time.monotonic() + 600, ""
        while not trouble and time.monotonic() < until:
            sign = read_sign(settings)
            lane = sign.lanes.get("schedule") if sign else None
            trouble = lane.trouble if lane else ""
            time.sleep(0.1)
        assert trouble == "a job (backup, retention) takes very long"
    finally:
        free.set()
        daemon.stop()
        running.join(600)
