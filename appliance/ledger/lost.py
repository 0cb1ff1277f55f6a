"""Signs that a ledger was lost, emptied or exchanged: a new one must not begin in its place.

Beginning anew would forget the corrections of people, and take every slide in again.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from appliance.ledger.backups import Backup, goes_on_from, newest_good
from appliance.ledger.schema import columns_there
from appliance.ledger.trouble import damaged

_ARTIFACTS = "artifacts"


def check_not_lost(file: Path) -> None:
    """Check that a file that is missing or empty was never a ledger.

    Raises
    ------
    LedgerError
        If there are backups of it, or an empty file lies beside results.
    """
    size = file.stat().st_size if file.is_file() else None
    if size is None and (goes_on_from(file) or newest_good(file, alone=True)):
        raise damaged(file, "the ledger is gone, and there are backups of it.")
    if size == 0 and (has_results(file) or newest_good(file, alone=True)):
        raise damaged(file, "the ledger was emptied: the file has no bytes.")


def check_not_emptied(file: Path, connection: Connection, last: Backup | None) -> None:
    """Check that a ledger has the rows that it had.

    `last` is the backup that it goes on from, read before the transaction of `connection` began:
    the daemon may make another one meanwhile.

    Raises
    ------
    LedgerError
        If it has no events beside results, or does not go on from its last backup.
    """
    if last is not None and last.event and not _goes_on(connection, last):
        raise damaged(
            file,
            f"the ledger does not go on from its last backup, {last.name} ({last.made}): it was "
            "emptied or exchanged.",
        )
    empty = connection.exec_driver_sql("SELECT 1 FROM event LIMIT 1").first() is None
    if empty and has_results(file):
        raise damaged(file, "the ledger was emptied: it has no events, and there are results.")


def _goes_on(connection: Connection, last: Backup) -> bool:
    at_least = {"slide": last.slides, "case": last.cases}
    columns = columns_there(connection)
    if last.schema == _number(connection) and columns.get("event"):
        found = connection.exec_driver_sql("SELECT hash FROM event WHERE id = ?", (last.event,))
        if found.scalar() != last.head:
            return False
    return all(
        int(connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one()) >= rows  # noqa: S608
        for table, rows in at_least.items()
    )


def _number(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def has_results(file: Path) -> bool:
    """Return whether something was made beside the ledger's file."""
    folder = file.parent / _ARTIFACTS
    return folder.is_dir() and any(folder.iterdir())
