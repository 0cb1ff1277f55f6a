"""The ledger of a trial, read beside the daemon and never written."""

from __future__ import annotations

from collections.abc import Sequence
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
    def at_work(self) -> int:
        """Number of slides and cases that are not at an end."""
        return sum(row.state in ON_ITS_WAY for row in self.slides) + sum(
            row.state in CASE_AT_WORK for row in self.cases
        )

    @property
    def claims(self) -> frozenset[str]:
        """Tokens of the claims of all steps that run."""
        rows = (*self.slides, *self.cases)
        return frozenset(row.claim_token for row in rows if row.claim_token)

    @property
    def states(self) -> tuple[tuple[str, str], ...]:
        """The state of every subject."""
        return tuple((row.subject, row.state) for row in (*self.slides, *self.cases))


class TrialLedger:
    """Reads of a state folder's ledger; one that is not there yet is empty."""

    def __init__(self, state: Path) -> None:
        self._file = state / "ledger.sqlite"

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
