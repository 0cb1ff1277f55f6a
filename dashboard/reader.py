"""The ledger as pages read it: never written, and beside the daemon that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from appliance.domain import QuarantineReason
from appliance.ledger.tables import CaseRow, EventRow, SlideRow, Transaction

LIMIT = 100
"""Most rows of one table on a page."""


class LedgerReader:
    """The ledger, opened so that it cannot be written; safe to use from several threads.

    `Ledger.transaction` takes SQLite's write lock at once, which is right for the daemon and would
    make every open browser tab stand in its way. Here reads run beside the writer (WAL).
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._engine: Engine = create_engine(url)
        self._ready = False
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _forbid_writes)
            event.listen(self._engine, "begin", _begin)

    @property
    def ready(self) -> bool:
        """Whether the daemon has made the ledger yet."""
        if not self._ready:
            # SQLite would make the file by looking.
            there = self._file is None or self._file.is_file()
            self._ready = there and inspect(self._engine).has_table(EventRow.__tablename__)
        return self._ready

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent view of the ledger."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield Transaction(session)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _forbid_writes(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # BEGIN is ours, see _begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()


def _begin(connection: Connection) -> None:
    # Python's sqlite3 would begin no transaction for a SELECT: two reads, two truths.
    connection.exec_driver_sql("BEGIN")


def row_id(row: SlideRow | CaseRow) -> int:
    """Its number; a row that came from the ledger has one."""
    if row.id is None:
        raise ValueError("a row that came from the ledger has an id")
    return row.id


def known_reason(code: str) -> QuarantineReason | None:
    """The reason of a code, if this dashboard knows it."""
    # A newer daemon may know reasons that this dashboard does not.
    return next((reason for reason in QuarantineReason if reason.code == code), None)
