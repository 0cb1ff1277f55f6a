"""The backup that the daemon makes by itself, and those that are kept."""

from __future__ import annotations

import logging
import time

from appliance.errors import TandemError
from appliance.ledger.backups import Backup, backups_of, make_backup, prune
from appliance.ledger.trouble import damaged, told
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS = 3600.0
"""Period at which the daemon looks whether a backup is due."""
FIRST_CHECK_SECONDS = 60.0


def backup_ledger(settings: Settings) -> Backup:
    """Make a backup now and remove those that are too many.

    Raises
    ------
    LedgerError
        If the ledger is damaged, or locked by another process; no backup is removed then.
    DiskFullError, LedgerUnwritableError
        If there is no room for it, or it cannot be written.
    """
    file = settings.ledger_file
    with told(file, writing=True):
        backup = make_backup(file)
    if not backup.whole:
        raise damaged(file, "the ledger is damaged, as its backup shows.")
    prune(file, settings.ledger.keep_backups)
    log.info("the ledger was backed up; its last event has the hash %s", backup.head)
    return backup


def backup_if_due(settings: Settings) -> None:
    """Make a backup where the newest is older than ``ledger.backup_hours``; log what hinders it."""
    now = time.time()
    newest = next(iter(backups_of(settings.ledger_file)), None)
    # One of the future was made under a wrong clock.
    if newest is not None and 0 <= now - newest.made_at < 3600 * settings.ledger.backup_hours:
        return
    try:
        backup_ledger(settings)
    except (TandemError, OSError) as err:
        log.error("the ledger could not be backed up: %s; it is tried again", type(err).__name__)
        log.debug("details", exc_info=err)
