"""The backup that the daemon makes by itself, and those that are kept."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from appliance.errors import TandemError
from appliance.ledger.backups import (
    Backup,
    folder_of,
    make_backup,
    newest_good,
    prune,
)
from appliance.ledger.trouble import damaged, told
from appliance.settings.installation import SALT_NAME
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS = 600.0
"""Period at which the daemon looks whether a backup is due."""
FIRST_CHECK_SECONDS = 60.0
FAILED = "failed.json"
"""File beside the backups: time and cause of the last backup of the daemon, if it failed.

Where their folder cannot be written, ``backup-failed.json`` beside the ledger says it."""
LATE_HOURS = 24.0
"""Time after which a backup that is due counts as missing: a machine may be off for a night."""


def backup_ledger(settings: Settings) -> Backup:
    """Make a backup now and remove those that are too many.

    Raises
    ------
    LedgerError
        If the ledger is damaged, or locked by another process; no good backup is removed then.
    DiskFullError, LedgerUnwritableError
        If there is no room for it, or it cannot be written.
    """
    file = settings.ledger_file
    with told(file, writing=True):
        backup = make_backup(file)
    prune(file, settings.ledger.keep_backups)
    if not backup.whole:
        raise damaged(file, "the ledger is damaged, as its backup shows.")
    for path in _failed_files(file):
        path.unlink(missing_ok=True)
    log.info("the ledger was backed up; its last event has the hash %s", backup.head)
    return backup


def last_time_of(hour: int, now: float) -> float:
    """Return the last moment at which the machine's clock showed an hour of the day, 0 to 23."""
    today = datetime.fromtimestamp(now).replace(hour=hour, minute=0, second=0, microsecond=0)
    passed = today if today.timestamp() <= now else today - timedelta(days=1)
    return passed.timestamp()


def backup_if_due(settings: Settings) -> None:
    """Make a backup where one is due; log what hinders it, and keep it for `backup_trouble`.

    One is due where ``ledger.backup_hour`` has passed since the newest good one, or that is older
    than ``ledger.backup_hours``.
    """
    now = time.time()
    newest = newest_good(settings.ledger_file)
    # It is of the future where all of them were made under a wrong clock.
    if newest is not None and newest.made_at <= now:
        at_night = newest.made_at < last_time_of(settings.ledger.backup_hour, now)
        if not at_night and now - newest.made_at < 3600 * settings.ledger.backup_hours:
            return
    try:
        backup_ledger(settings)
    except (TandemError, OSError, sqlite3.Error) as err:
        log.error("the ledger could not be backed up: %s; it is tried again", type(err).__name__)
        log.debug("details", exc_info=err)
        for path in _failed_files(settings.ledger_file):
            with suppress(OSError):  # a full disk; the age of the newest backup tells it, too
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps({"at": now, "why": str(err).rstrip(".")}))
                break


def backup_trouble(settings: Settings, now: float) -> str:
    """Return the sentence that the ledger is not backed up as it should be; empty where it is.

    An installation that is younger than the time in which a backup is due needs none yet.
    """
    file = settings.ledger_file
    if (failed := _last_failure(file)) is not None:
        at, why = failed
        return (
            f"The backup of the ledger failed at {_when(at)}: {why}. It is "
            "tried again every ten minutes; to try now: tandem ledger backup."
        )
    newest, late_s = newest_good(file), 3600 * (settings.ledger.backup_hours + LATE_HOURS)
    since = _begun(file, now) if newest is None else newest.made_at
    if now - since <= late_s:
        return ""
    said = f"The newest good backup of the ledger is of {_when(since)}."
    if newest is None:
        said = f"There is no good backup of the ledger in {folder_of(file)}."
    return (
        f"{said} Does the daemon run, and is there room on the disk? To make one now: tandem "
        "ledger backup."
    )


def _failed_files(file: Path) -> tuple[Path, Path]:
    """Return the files that may hold the last failure, the one to be written first."""
    return folder_of(file) / FAILED, file.with_name(f"backup-{FAILED}")


def _last_failure(file: Path) -> tuple[float, str] | None:
    found = []
    for path in _failed_files(file):
        with suppress(OSError, ValueError, TypeError, KeyError):
            failed = json.loads(path.read_text())
            found.append((float(failed["at"]), str(failed["why"])))
    return max(found, default=None)


def _begun(file: Path, now: float) -> float:
    """Return when the daemon began here: the salt's file is written at its first start.

    Where there is no ledger yet, or no salt, it is now.
    """
    with suppress(OSError):
        if file.is_file():
            return file.with_name(SALT_NAME).stat().st_mtime
    return now


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
