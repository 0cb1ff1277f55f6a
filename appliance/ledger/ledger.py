"""The ledger as its writer opens it: the only truth about state.

One SQLite database in WAL mode with one writing daemon; the SQL is SQLite's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from appliance.ledger.lock import LOCK_SLICE_MS, WriteLock
from appliance.ledger.queries import BEGUN_ANEW, CLOCK_DOUBTED, LEDGER
from appliance.ledger.schema import create_or_check
from appliance.ledger.transaction import Transaction
from appliance.ledger.trouble import told
from appliance.ledger.waits import DOUBT_S, FAR_JUMP_S, WallClock

log = logging.getLogger(__name__)


class Ledger:
    """The database; safe to use from several threads and processes.

    `url` is SQLite's, such as ``sqlite:///state/ledger.sqlite``. Opening it creates the tables.
    With `stop` (the daemon's), a transaction waits for a lock until it is free or `stop` is set.

    Raises
    ------
    LedgerError
        If another build made the ledger, or it is damaged or locked.
    """

    def __init__(
        self,
        url: str,
        stop: threading.Event | None = None,
        clock: WallClock | None = None,
        *,
        begins_anew: bool = False,
    ) -> None:
        self.file = Path(url.removeprefix("sqlite:///"))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock or WallClock()
        self._clock_lock = threading.Lock()
        self._doubt_until = 0.0
        self._ahead_s = 0.0
        self.url = url
        # Parameters are accessions, and errors go to the log.
        # A lane each may need a connection; a ledger in memory has one, which is its data.
        pool: dict[str, Any] = {} if url == "sqlite://" else {"max_overflow": -1}
        self._engine: Engine = create_engine(url, hide_parameters=True, **pool)
        event.listen(self._engine, "connect", _configure)
        self._lock = WriteLock(self.file, stop)
        event.listen(self._engine, "begin", self._lock.begin)
        with told(self.file, writing=True), self._engine.begin() as connection:
            create_or_check(connection)
            if begins_anew:  # with the tables: one without any event beside results was emptied
                with Session(connection) as session:
                    Transaction(session).note(LEDGER, BEGUN_ANEW, time.time())
                    session.flush()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction: committed when the block ends well, rolled back otherwise.

        Rows that were read stay readable after it.

        Raises
        ------
        StoppedError
            If the daemon was stopped while another process held the lock.
        LedgerError
            If the ledger is damaged, or a command waited for too long for the lock.
        DiskFullError, LedgerUnwritableError
            If it cannot be written now; nothing was changed, and a later attempt may succeed.
        """
        with told(self.file, writing=True):
            if self._clock.jump():
                self._follow_clock()
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                session.connection()  # takes the lock now, and not at the first statement
                yield Transaction(session)

    def _follow_clock(self) -> None:
        """Move all waits with the wall clock, once for each time that it is set."""
        with self._clock_lock:
            jump = self._clock.jump()
            if not jump:
                return
            is_far, ahead_s = abs(jump) > FAR_JUMP_S, self._off_s
            with Session(self._engine) as session, session.begin():
                tx = Transaction(session)
                tx.move_waits(jump)
                if is_far:  # a start after this one doubts it, too
                    tx.note(LEDGER, CLOCK_DOUBTED, time.time(), params={"ahead_s": ahead_s})
            self._clock.settle(jump)
            if is_far:
                self.doubt_clock(ahead_s)
        log.warning("the clock was set by %+.0f s; the waits of retries were moved with it", jump)

    def doubt_clock(self, ahead_s: float = 0.0) -> None:
        """Doubt the wall clock for a day of the monotonic one, which nobody sets.

        It may be `ahead_s` ahead of the clock under which data were written; below 0, behind it.
        """
        self._doubt_until, self._ahead_s = time.monotonic() + DOUBT_S, ahead_s

    @property
    def ahead_s(self) -> float:
        """Return the most seconds by which data may be younger than the wall clock has them.

        A clock that was set and set back again, either way, is not ahead.
        """
        return max(0.0, self._off_s) if self.doubts_clock else 0.0

    @property
    def _off_s(self) -> float:
        former = self._ahead_s if time.monotonic() < self._doubt_until else 0.0
        return former + self._clock.jump()

    @property
    def doubts_clock(self) -> bool:
        """Return whether what is old by the wall clock may not be: it was set far, or is odd."""
        return abs(self._clock.jump()) > FAR_JUMP_S or time.monotonic() < self._doubt_until

    @property
    def is_locked(self) -> bool:
        """Return whether a transaction waits for another process."""
        return self._lock.is_waiting

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # BEGIN is ours: WriteLock.begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {LOCK_SLICE_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
