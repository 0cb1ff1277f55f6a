"""Waits of rows (`not_before`), read and kept so that a wrong clock does not lengthen them.

`not_before` is wall time, because it outlasts a restart. Two rules make an interval of it: while
the daemon runs, waits move with the wall clock when it is set (`WallClock`); and a wait that lies
further ahead than any wait is booked was booked under a wrong clock, so the row is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import Mapped

LONGEST_WAIT_S = 3600.0
"""Longest wait that the line books. That of a delivery follows from its settings."""
LEAST_JUMP_S = 2.0
"""Least jump of the wall clock that moves waits; NTP's slewing stays below it."""

FAR_JUMP_S = 3600.0
"""Jump of the wall clock from which on nothing is removed or canceled as old for `DOUBT_S`."""
DOUBT_S = 86400.0


def due(
    not_before: Mapped[float], now: float, longest_wait_s: float = LONGEST_WAIT_S
) -> ColumnElement[bool]:
    """Return the condition for rows that are due; no wait is longer than `longest_wait_s`."""
    return or_(not_before <= now, not_before > now + longest_wait_s)


def wait_until(now: float, wait_s: float) -> float:
    """Return `not_before` of a row that waits; no wait is longer than `LONGEST_WAIT_S`."""
    return now + min(wait_s, LONGEST_WAIT_S)


class WallClock:
    """Comparison of the wall clock with the monotonic one, which nobody sets."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def jump(self) -> float:
        """Return the seconds that the wall clock was set forward (back: negative).

        A difference below `LEAST_JUMP_S` is 0.0; it counts when others have added to it.
        """
        moved = self._wall() - self._monotonic() - self._offset
        return 0.0 if abs(moved) < LEAST_JUMP_S else moved

    def settle(self, jump: float) -> None:
        """Count a jump as followed."""
        self._offset += jump
