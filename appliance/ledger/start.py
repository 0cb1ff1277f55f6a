"""The ledger at the start of the daemon: looked over, migrated, opened for writing."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine, event

from appliance.ledger import events
from appliance.ledger.backups import (
    Backup,
    backups_of,
    goes_on_from,
    is_as_described,
    make_backup,
    set_goes_on_from,
    set_to_take_up,
    to_take_up,
)
from appliance.ledger.ledger import Ledger
from appliance.ledger.lock import LOCK_SLICE_MS, WriteLock
from appliance.ledger.lost import check_not_emptied, check_not_lost, has_results
from appliance.ledger.reader import forbid_writes
from appliance.ledger.schema import has_tables, is_older
from appliance.ledger.trouble import damaged, told

log = logging.getLogger(__name__)


def open_at_start(url: str, stop: threading.Event) -> Ledger:
    """Open the ledger for the daemon, which holds the lock of the state folder.

    A ledger of an earlier build is migrated, after a backup; one that was restored is taken up as
    such then. Another process that holds the ledger
    locked is waited for, until `stop` is set.

    Raises
    ------
    LedgerError
        If the ledger is damaged, was emptied or exchanged, or is of a newer build.
    StoppedError
        If `stop` was set while the ledger was locked.
    """
    file = Path(url.removeprefix("sqlite:///"))
    restored: Backup | None = None
    check_not_lost(file)
    begins_anew = has_results(file)
    if begins_anew and not file.is_file():
        log.warning("results are there, and no ledger: a new one begins")
    if file.is_file():
        lock = WriteLock(file, stop)
        with told(file, writing=True):
            lock.patiently(lambda: _open(file))
            restored = _restored(file)
            begins_anew = begins_anew and not _has_tables(file)
            if _look_over(file):
                _migrate(file, lock, restored)
    ledger = Ledger(url, stop, begins_anew=begins_anew)
    with ledger.transaction() as tx:
        if restored is not None:
            tx.take_up(restored.name, time.time())
        head = events.head(tx.session)
    if restored is not None:
        set_to_take_up(file, None)
    if head:
        log.info("the ledger's last event has the hash %s", head)
    return ledger


def _open(file: Path) -> None:
    """Read something: a process in SQLite's exclusive mode keeps readers out, too."""
    with _reader(file).connect() as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_SLICE_MS}")
        has_tables(connection)


def _has_tables(file: Path) -> bool:
    """Return whether the file is a ledger: a start that was cut off leaves one without tables."""
    with _reader(file).connect() as connection:
        return has_tables(connection)


def _restored(file: Path) -> Backup | None:
    """Return the backup that took the ledger's place and is not taken up yet, or None.

    A restore that failed named one, and left the ledger as it was: that is forgotten. An earlier
    edition may have gone on from the backup.
    """
    backup = to_take_up(file)
    if backup is None:
        return None
    with _reader(file).connect() as connection:
        last, goes_on = (0, ""), False
        if has_tables(connection):
            query = "SELECT id, hash FROM event WHERE id = ? OR id = (SELECT max(id) FROM event)"
            found = connection.exec_driver_sql(query, (backup.event,))
            hashes = {int(number): str(digest) for number, digest in found}
            last = max(hashes.items(), default=last)
            goes_on = is_older(connection) and hashes.get(backup.event) == backup.head
    # A start that ended after the migration had made a backup of the same events before.
    since = goes_on_from(file)
    known = (since.event, since.head) if since and since.name != backup.name else None
    if (backup.event, backup.head) in (last, known):
        return backup
    if goes_on:
        backup = replace(backup, event=last[0], head=last[1])
        set_to_take_up(file, backup)
        return backup
    log.warning("the restore of %s did not come to its end", backup.name)
    set_to_take_up(file, None)
    return None


def _look_over(file: Path) -> bool:
    """Check a ledger for damage; return whether it is to be migrated."""
    with _reader(file).connect() as connection:
        if not has_tables(connection):
            return False
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if found != "ok":
            raise damaged(file, "the ledger is damaged.")
        older = is_older(connection)
        check_not_emptied(file, connection, goes_on_from(file))
    return older


def _reader(file: Path) -> Engine:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "connect", forbid_writes)
    return engine


def _migrate(file: Path, lock: WriteLock, restored: Backup | None) -> None:
    from appliance.ledger.migrations.migrate import migrate  # Alembic, which few starts need

    backup = _backed_up(file, restored)
    began = time.monotonic()
    found = migrate(file, lock)
    log.warning(
        "the ledger was migrated from revision %s in %.1f s; backup before: %s",
        found,
        time.monotonic() - began,
        backup.name,
    )


def _backed_up(file: Path, restored: Backup | None) -> Backup:
    """Return a backup of the ledger as it is; one is made where there is none.

    A migration that fails is tried again and again: its backups must not fill the disk. A backup
    that was `restored` does not tell that the migration began. Each is read again first: a disk may
    have lost some of it since it was made.
    """
    with _reader(file).connect() as connection:
        query = "SELECT id, hash FROM event ORDER BY id DESC LIMIT 1"
        event, head = connection.exec_driver_sql(query).one_or_none() or (0, "")
        schema = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    for backup in backups_of(file):
        same = (backup.event, backup.head, backup.schema) == (event, head, schema)
        others = restored is None or backup.name != restored.name
        if same and others and is_as_described(file, backup):
            set_goes_on_from(file, backup)
            return backup
    return make_backup(file)
