"""Periodic jobs, run by APScheduler: partner timeout, check of disk space, backup."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence

from apscheduler.schedulers.background import BackgroundScheduler

from appliance.domain import Pairing
from appliance.intake.pair import expire_waiting
from appliance.ledger.daily import add_backups
from appliance.ledger.ledger import Ledger
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

PARTNER_CHECK_SECONDS = 60.0
DISK_CHECK_SECONDS = 300.0


def build_schedule(
    settings: Settings, ledger: Ledger, pairings: Sequence[Pairing]
) -> BackgroundScheduler:
    """Return the scheduler with its jobs, not yet started."""

    def expire() -> None:
        with ledger.transaction() as tx:
            timeout_s = settings.pair.partner_timeout_hours * 3600
            expire_waiting(tx, pairings, timeout_s, time.time())

    def disk() -> None:
        free = shutil.disk_usage(settings.state_dir).free / 2**30
        if free < settings.low_disk_gib:
            log.warning("only %.1f GiB free for results; make room or move state_dir", free)

    scheduler = BackgroundScheduler(job_defaults={"coalesce": True, "max_instances": 1})
    for job, seconds in (
        (expire, min(PARTNER_CHECK_SECONDS, settings.pair.partner_timeout_hours * 3600)),
        (disk, DISK_CHECK_SECONDS),
    ):
        scheduler.add_job(job, "interval", seconds=seconds, id=job.__name__)
    add_backups(scheduler, settings)
    return scheduler
