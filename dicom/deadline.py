"""Time limit of a whole exchange with another system.

A timeout of each answer does not end an exchange whose other side sends one byte, or one answer, a
second.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

TIMEOUTS = 4
"""Whole exchange in timeouts of one answer: connecting, negotiating, answering, closing."""
SLOWEST_MIB_S = 1 / 16
"""Rate in MiB/s below which the sending of an object counts as held up."""


def limit_s(timeout_s: float, size_bytes: int = 0, mib_s: float | None = None) -> float:
    """Return the longest time of an exchange that sends `size_bytes`, at most at `mib_s` MiB/s."""
    slowest = SLOWEST_MIB_S if mib_s is None else min(SLOWEST_MIB_S, mib_s / 2)
    return TIMEOUTS * timeout_s + size_bytes / 2**20 / slowest


class Deadline:
    """Shuts a connection when the time is over, so that whoever waits for it goes on with an error.

    Not thread-safe. `is_over` says whether a limit has been passed.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._line: Callable[[], socket.socket | None] = lambda: None
        self._done = threading.Event()

    def watch(self, line: Callable[[], socket.socket | None]) -> None:
        """Name the connection that is shut; `line` returns None as long as there is none."""
        self._line = line

    def start(self, seconds: float) -> None:
        """Begin an exchange; the one before has ended."""
        self.stop()
        self._done = threading.Event()
        threading.Thread(
            target=self._wait, args=(self._done, seconds), name="deadline", daemon=True
        ).start()

    def stop(self) -> None:
        """End the exchange."""
        self._done.set()

    def _wait(self, done: threading.Event, seconds: float) -> None:
        # Again each second: the connection may be opened, or wrapped by TLS, in between.
        while not done.wait(seconds):
            self.is_over = True
            if (line := self._line()) is not None:
                with suppress(OSError):  # it is shut already
                    # The plain socket's: TLS would first take leave of the other side.
                    socket.socket.shutdown(line, socket.SHUT_RDWR)
            seconds = 1.0
