"""Answers of the ledger that all sessions share, read again only where the ledger has changed.

An answer is best the markup itself: times in it are written by the browser, so it stays the same.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from appliance.ledger.reader import LedgerReader

LONGEST_SECONDS = 10.0
"""Age from which an answer is read again even so: it also tells of files beside the ledger."""
MOVING_SECONDS = 1.0
"""The same for an answer with steps under way, whose progress stands in files."""
MOST = 64
"""Most answers that are kept; the one that was asked for least lately goes."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Kept:
    """An answer, the version of the ledger that it is of, and when it was read (monotonic, s)."""

    lock: Lock = field(default_factory=Lock)
    version: Hashable = None
    at: float = 0.0
    moving: bool = False
    answer: Any = None


class Snapshots:
    """Shared answers, by key; safe to use from several threads.

    Ten idle pages cost one look at the version of the ledger each, not ten times the queries. Of
    sessions that ask for the same at once, one reads and the others wait.
    """

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._lock = Lock()

    def of(
        self,
        key: Hashable,
        read: Callable[[], Answer],
        moving: Callable[[Answer], bool] = lambda _: False,
    ) -> Answer:
        """Return the answer of a key, by `read` where the kept one is not today's.

        `moving` says of an answer whether steps are under way in it.

        Raises
        ------
        LedgerError
            If the ledger is damaged or locked.
        """
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        with kept.lock:
            version, now = self._reader.version(), time.monotonic()
            longest = MOVING_SECONDS if kept.moving else LONGEST_SECONDS
            if kept.version != version or now - kept.at > longest:
                # The version is of before the read: a commit meanwhile is seen at the next look.
                answer = read()
                kept.answer, kept.moving = answer, moving(answer)
                kept.version, kept.at = version, now
            found: Answer = kept.answer
            return found
