"""Periodic jobs of the daemon: partner timeout, check of disk space, backup, retention.

Periods follow the monotonic clock: a wall clock that is set back stops none of them. (APScheduler
counts by the wall clock.)
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.domain import Pairing
from appliance.errors import StoppedError
from appliance.intake.pair import expire_waiting
from appliance.ledger.daily import CHECK_SECONDS, FIRST_CHECK_SECONDS, backup_if_due
from appliance.ledger.ledger import Ledger
from appliance.ledger.queries import CLOCK_DOUBTED, LEDGER
from appliance.ledger.tables import params_of
from appliance.ledger.waits import DOUBT_S
from appliance.line.pulse import Turns
from appliance.line.whose import let_merged_go
from appliance.operations.disk import take_sample
from appliance.operations.retention import retain_if_due
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

PARTNER_CHECK_SECONDS = 60.0
DISK_CHECK_SECONDS = 300.0
RETENTION_CHECK_SECONDS = 600.0
SLOW_JOB_SECONDS = 1800.0
"""Time after which a job counts as held up: a disk of backups that hangs stops all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job: its period, and the time from the start to its first run, in seconds."""

    name: str
    run: Callable[[], None]
    period_s: float
    first_s: float


class Schedule(threading.Thread):
    """Thread that runs jobs one after the other, each when it is due, until `stop` is set."""

    def __init__(self, jobs: Sequence[Job], stop: threading.Event) -> None:
        super().__init__(name="schedule", daemon=True)
        self._stop_event = stop
        self.turns = Turns("a job (backup, retention) takes very long", SLOW_JOB_SECONDS)
        self._jobs = list(jobs)

    def run(self) -> None:
        """Run the jobs."""
        start = time.monotonic()
        due = {job.name: start + job.first_s for job in self._jobs}
        while not self._stop_event.wait(max(0.0, min(due.values()) - time.monotonic())):
            for job in self._jobs:
                if time.monotonic() < due[job.name] or self._stop_event.is_set():
                    continue
                try:
                    with self.turns:
                        job.run()
                except StoppedError:
                    return
                except Exception as err:  # boundary of the job: the schedule goes on
                    log.error("the job %s failed: %s; it runs again", job.name, type(err).__name__)
                    log.debug("details", exc_info=err)
                due[job.name] = time.monotonic() + job.period_s


def jobs_of(settings: Settings, ledger: Ledger, pairings: Sequence[Pairing]) -> tuple[Job, ...]:
    """Return the periodic jobs of a daemon."""

    def expire() -> None:
        with ledger.transaction() as tx:
            # Nothing is overdue by a clock that may be years ahead, nor by a night's sleep.
            expire_waiting(tx, pairings, settings.pair, time.time() - ledger.ahead_s)
            let_merged_go(tx, settings, time.time())

    _doubt_clock(ledger, time.time())

    def retain() -> None:
        short = shutil.disk_usage(settings.state_dir).free < settings.retention.free_gib * 2**30
        if short or not ledger.doubts_clock:
            retain_if_due(settings, ledger)

    def disk() -> None:
        take_sample(settings, time.time())
        free = shutil.disk_usage(settings.state_dir).free / 2**30
        if free < settings.low_disk_gib:
            log.warning("only %.1f GiB free for results; make room or move state_dir", free)

    partner_s = min(PARTNER_CHECK_SECONDS, settings.pair.partner_timeout_hours * 3600)
    backup_s = min(CHECK_SECONDS, 3600 * settings.ledger.backup_hours)
    return (
        Job(name="expire", run=expire, period_s=partner_s, first_s=partner_s),
        Job(name="disk", run=disk, period_s=DISK_CHECK_SECONDS, first_s=0.0),
        Job(
            name="backup",
            run=lambda: backup_if_due(settings),
            period_s=backup_s,
            first_s=FIRST_CHECK_SECONDS,
        ),
        Job(
            name="retention",
            run=retain,
            period_s=RETENTION_CHECK_SECONDS,
            first_s=RETENTION_CHECK_SECONDS,
        ),
    )


def _doubt_clock(ledger: Ledger, now: float) -> None:
    """Doubt the wall clock where it is far from the last event, or was doubted less than a day ago.

    The machine was off for long, or its clock is wrong. A note keeps that for later starts: events
    of this one bear the doubted time.
    """
    with ledger.transaction() as tx:
        if off_s := tx.clock_off_s(now):
            tx.note(LEDGER, CLOCK_DOUBTED, now, params={"ahead_s": off_s})
        notes = [each for each in tx.events(LEDGER) if each.code == CLOCK_DOUBTED]
    if notes and abs(now - notes[-1].at) < DOUBT_S:
        ledger.doubt_clock(params_of(notes[-1])["ahead_s"])
