"""The ledger of a trial, read beside the daemon and never written."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import OperationalError

from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, DeliveryRow, EventRow, SlideRow

ON_ITS_WAY = frozenset({"arriving", "arrived", "identified", "inspected"})
"""States of slides that something still has to be done with."""
CASE_AT_WORK = frozenset({"ready", "aligned", "scored", "written"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All rows of a ledger at one moment."""

    slides: Sequence[SlideRow] = ()
    cases: Sequence[CaseRow] = ()
    deliveries: Sequence[DeliveryRow] = ()

    @property
    def rows(self) -> tuple[SlideRow | CaseRow, ...]:
        """Slides, then cases."""
        return (*self.slides, *self.cases)

    @property
    def at_work(self) -> int:
        """Number of slides and cases that are not at an end."""
        return sum(row.state in ON_ITS_WAY for row in self.slides) + sum(
            row.state in CASE_AT_WORK for row in self.cases
        )

    @property
    def claims(self) -> frozenset[str]:
        """Tokens of the claims of all steps that run."""
        return frozenset(row.claim_token for row in self.rows if row.claim_token)

    @property
    def states(self) -> tuple[tuple[str, str], ...]:
        """The state of every subject."""
        return tuple((row.subject, row.state) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Head:
    """Last event of a ledger at one moment: its id and its hash."""

    event: int
    hash: str


class TrialLedger:
    """Reads of a state folder's ledger; one that is not there yet is empty."""

    def __init__(self, state: Path) -> None:
        self._file = state / "ledger.sqlite"

    def head(self) -> Head | None:
        """Return the last event that is committed; None where there is none yet."""
        if not self._file.exists():
            return None
        with closing(self._reading()) as connection:
            query = "SELECT id, hash FROM event ORDER BY id DESC LIMIT 1"
            row = connection.execute(query).fetchone()
        return Head(*row) if row else None

    def lost(self, heads: Sequence[Head]) -> list[str]:
        """Judge that the ledger still holds events that were committed."""
        with closing(self._reading()) as connection:
            query = "SELECT 1 FROM event WHERE id = ? AND hash = ?"
            gone = [h for h in heads if not connection.execute(query, (h.event, h.hash)).fetchone()]
        return [f"event {head.event} was committed and is lost" for head in gone]

    def _reading(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._file.as_uri()}?mode=ro", uri=True, timeout=30)

    def snapshot(self) -> Snapshot:
        """Return all slides, cases and deliveries; empty where there is no ledger yet."""
        reader = LedgerReader(f"sqlite:///{self._file}")
        try:
            if not reader.ready:
                return Snapshot()
            with reader.reading() as tx:
                cases = tx.cases()
                return Snapshot(slides=tx.slides(), cases=cases, deliveries=tx.deliveries())
        except OperationalError:  # locked by a fault of the trial: the next look tells
            return Snapshot()
        finally:
            reader.close()

    def events(self, subjects: Sequence[str]) -> list[EventRow]:
        """Return the events of these slides and cases, oldest first."""
        reader = LedgerReader(f"sqlite:///{self._file}")
        try:
            with reader.reading() as tx:
                found = [event for subject in subjects for event in tx.events(subject)]
        finally:
            reader.close()
        return sorted(found, key=lambda event: event.id or 0)
