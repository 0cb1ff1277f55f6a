"""The ledger as readers open it: never written, and beside the daemon that writes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from appliance.ledger.backups import goes_on_from
from appliance.ledger.lost import check_not_emptied, check_not_lost
from appliance.ledger.queries import Queries
from appliance.ledger.schema import is_there
from appliance.ledger.trouble import told


class LedgerReader:
    """The ledger, opened so that it cannot be written; safe to use from several threads.

    `Ledger.transaction` takes SQLite's write lock at once, which is right for the daemon; a page
    or ``tandem status`` would hold it up. Reads here run beside the writer (WAL).
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///"))
        self._engine: Engine = create_engine(url, hide_parameters=True)
        self._known: tuple[int, int] | None = None  # the file that was found to be usable
        self._watch: PoolProxiedConnection | None = None  # that tells of commits by others
        self._watching = threading.Lock()
        event.listen(self._engine, "connect", forbid_writes)
        event.listen(self._engine, "begin", _begin)

    @property
    def ready(self) -> bool:
        """True once the daemon has made the ledger.

        Raises
        ------
        LedgerError
            If another build made it, or it is damaged, emptied or locked.
        """
        check_not_lost(self._file)
        # SQLite would create the file on opening it.
        if not self._file.is_file() or not (found := self._file.stat()).st_size:
            return False
        if (found.st_dev, found.st_ino) == self._known:
            return True
        self.close()  # of another file: a backup may have been restored
        last = goes_on_from(self._file)
        with told(self._file, writing=False), self._engine.connect() as connection:
            if not is_there(connection):
                return False
            check_not_emptied(self._file, connection, last)
        self._known = (found.st_dev, found.st_ino)
        return True

    @contextmanager
    def reading(self) -> Iterator[Queries]:
        """Open one consistent view of the ledger.

        Raises
        ------
        LedgerError
            If it is damaged or locked.
        """
        with (
            told(self._file, writing=False),
            Session(self._engine, expire_on_commit=False) as session,
        ):
            yield Queries(session)

    def version(self) -> tuple[int, int, int]:
        """Return what changes with each commit to the ledger, and with another file in its place.

        It is SQLite's ``PRAGMA data_version`` of a connection that is kept, and costs some µs.

        Raises
        ------
        LedgerError
            If it is damaged or locked.
        """
        with told(self._file, writing=False), self._watching:
            if self._watch is None:
                self._watch = self._engine.raw_connection()
            cursor = self._watch.cursor()
            try:
                number = cursor.execute("PRAGMA data_version").fetchone()[0]
            finally:
                cursor.close()
        return (*(self._known or (0, 0)), number)

    def close(self) -> None:
        """Close the connections."""
        with self._watching:
            if self._watch is not None:
                self._watch.invalidate()
                self._watch = None
        self._engine.dispose()


def forbid_writes(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """Configure a new connection so that it cannot write."""
    # BEGIN is ours, see _begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()


def _begin(connection: Connection) -> None:
    # Python's sqlite3 begins no transaction for a SELECT: two reads would be two states.
    connection.exec_driver_sql("BEGIN")
