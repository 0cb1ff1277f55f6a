"""The write lock of the ledger, and the wait for another process that holds it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from appliance.errors import StoppedError
from appliance.ledger.trouble import is_locked, locked

log = logging.getLogger(__name__)

LOCK_SLICE_MS = 1000
"""Time that SQLite waits for another process before it is asked whether to wait on."""
LONGEST_LOCK_S = 30.0
"""Longest wait of a command; transactions last milliseconds."""


class WriteLock:
    """The lock as one process takes it.

    With `stop`, which is the daemon's, it is waited for until it is free or `stop` is set; without,
    for `LONGEST_LOCK_S`.
    """

    def __init__(self, file: Path, stop: threading.Event | None) -> None:
        self._file = file
        self._stop = stop
        self._told = threading.Event()

    @property
    def is_waiting(self) -> bool:
        """Return whether another process holds the lock now."""
        return self._told.is_set()

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that may write.

        Raises
        ------
        StoppedError
            If the daemon was stopped meanwhile.
        LedgerError
            If a command waited for too long.
        """
        # A deferred BEGIN lets two readers that turn writers dead-lock.
        self.patiently(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    def patiently(self, action: Callable[[], object]) -> None:
        """Call `action` until no lock of another process is in its way; raises as `begin`."""
        began = time.monotonic()
        while True:
            try:
                action()
                break
            except DBAPIError as err:
                if not is_locked(err):
                    raise
                self._wait_on(time.monotonic() - began)
        if self._told.is_set():
            self._told.clear()
            log.info("the ledger is free again after %.0f s", time.monotonic() - began)

    def _wait_on(self, waited_s: float) -> None:
        if self._stop is None and waited_s >= LONGEST_LOCK_S:
            raise locked(self._file)
        if self._stop is not None and self._stop.is_set():
            raise StoppedError("stopped while another process held the ledger locked")
        if not self._told.is_set():
            self._told.set()
            log.warning("the ledger is locked by another process; waiting")
