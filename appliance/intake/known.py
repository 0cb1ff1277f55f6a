"""Slides that the ledger knows, as a scan needs them: read beside the writer, never locking it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlmodel import Session, col

from appliance.domain import QuarantineReason
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import SlideRow

MOST_NAMED = 500
"""Most paths of one query; SQLite allows some thousand parameters."""
ALL_FROM = 20_000
"""Number of paths from which on all slides are read."""


class Known(NamedTuple):
    """Row of a slide; `gone`: it was set aside because its file had gone; `unfinished`: as one that
    never became whole."""

    size_bytes: int
    modified_ns: int
    state: str
    gone: bool
    unfinished: bool = False


class KnownSlides:
    """Reads of the slides' rows."""

    def __init__(self, url: str) -> None:
        self._reader = LedgerReader(url)

    def all(self) -> dict[str, Known]:
        """Return all slides by path."""
        with self._reader.reading() as queries:
            return _read(queries.session)

    def of(self, paths: Sequence[str]) -> dict[str, Known]:
        """Return the slides of these paths."""
        if len(paths) >= ALL_FROM:
            return self.all()
        found: dict[str, Known] = {}
        with self._reader.reading() as queries:
            for first in range(0, len(paths), MOST_NAMED):
                found |= _read(queries.session, paths[first : first + MOST_NAMED])
        return found

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()


def _read(session: Session, paths: Sequence[str] | None = None) -> dict[str, Known]:
    query = select(
        col(SlideRow.path),
        col(SlideRow.size_bytes),
        col(SlideRow.modified_ns),
        col(SlideRow.state),
        col(SlideRow.reason),
    )
    if paths is not None:
        query = query.where(col(SlideRow.path).in_(paths))
    rows = session.connection().execute(query.execution_options(yield_per=2000))
    return {
        path: Known(
            size,
            modified,
            sys.intern(state),
            state == SlideState.QUARANTINED and reason == QuarantineReason.VANISHED,
            state == SlideState.QUARANTINED and reason == QuarantineReason.NEVER_FINISHED,
        )
        for path, size, modified, state, reason in rows
    }
