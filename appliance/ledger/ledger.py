"""The ledger as its writer opens it: the only truth about state.

One SQLite database in WAL mode with one writing daemon; the SQL is SQLite's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from appliance.ledger import events
from appliance.ledger.schema import create_or_check
from appliance.ledger.transaction import Transaction

BUSY_TIMEOUT_MS = 30_000
"""Longest wait for another writer; transactions last milliseconds."""


class Ledger:
    """The database; safe to use from several threads and processes.

    `url` is SQLite's, such as ``sqlite:///state/ledger.sqlite``. Opening it creates the tables.

    Raises
    ------
    SettingsError
        If another build made the ledger.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.url = url
        # Parameters are accessions, and errors go to the log.
        self._engine: Engine = create_engine(url, hide_parameters=True)
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin_immediate)
        with self._engine.begin() as connection:
            create_or_check(connection)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction: committed when the block ends well, rolled back otherwise.

        Rows that were read stay readable after it.
        """
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield Transaction(session)

    def verify_events(self) -> int | None:
        """Return the id of the first event whose hash does not fit, or None for a whole chain."""
        with self.transaction() as tx:
            return events.first_broken(tx.session)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _begin_immediate(connection: Connection) -> None:
    # A deferred BEGIN lets two readers that turn writers dead-lock.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # BEGIN is ours, see _begin_immediate.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
