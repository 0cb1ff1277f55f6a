"""The ledger as readers open it: never written, and beside the daemon that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from appliance.ledger.queries import Queries
from appliance.ledger.schema import is_there


class LedgerReader:
    """The ledger, opened so that it cannot be written; safe to use from several threads.

    `Ledger.transaction` takes SQLite's write lock at once, which is right for the daemon; a page
    or ``tandem status`` would hold it up. Reads here run beside the writer (WAL).
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///"))
        self._engine: Engine = create_engine(url, hide_parameters=True)
        self._ready = False
        event.listen(self._engine, "connect", _forbid_writes)
        event.listen(self._engine, "begin", _begin)

    @property
    def ready(self) -> bool:
        """True once the daemon has made the ledger.

        Raises
        ------
        SettingsError
            If another build made it.
        """
        # SQLite would create the file on opening it.
        if not self._ready and self._file.is_file():
            with self._engine.connect() as connection:
                self._ready = is_there(connection)
        return self._ready

    @contextmanager
    def reading(self) -> Iterator[Queries]:
        """Open one consistent view of the ledger."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield Queries(session)

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
    # Python's sqlite3 begins no transaction for a SELECT: two reads would be two states.
    connection.exec_driver_sql("BEGIN")
