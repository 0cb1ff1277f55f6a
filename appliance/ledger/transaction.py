"""Writes to the ledger: rows, states with their events, claims, the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from appliance.domain import Identity, Pairing
from appliance.ledger import events
from appliance.ledger.claims import ahead, claim, release
from appliance.ledger.events import Event
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState, State, advance
from appliance.ledger.queries import (
    LEDGER,
    NOT_WANTED,
    OBJECT_REPLACED,
    RESTORED,
    SLIDE_CHANGED,
    WITHDRAWN,
    Queries,
)
from appliance.ledger.tables import CaseDeliveryRow, CaseRow, DeliveryRow, SlideRow, set_reason

_WANTED_AGAIN = (WITHDRAWN, SLIDE_CHANGED, OBJECT_REPLACED, *NOT_WANTED)
"""Reasons of deliveries that are queued again where a case has their object once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """An object to be sent to a destination; fields as in `DeliveryRow`."""

    destination: str
    kind: str
    path: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


class Transaction(Queries):
    """An open write transaction; made by `Ledger.transaction`."""

    def append_event(self, event: Event) -> None:
        """Append an event whose hash covers the one before it."""
        events.append(self.session, event)

    def note(
        self,
        subject: str,
        code: str,
        now: float,
        *,
        reason: str = "",
        params: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> None:
        """Append a note: an event that changes no state; `by` is the person who caused it."""
        self.append_event(
            Event(
                at=now,
                subject=subject,
                kind="note",
                code=code,
                reason=reason,
                by=by,
                params=params or {},
            )
        )

    def take_up(self, backup: str, now: float) -> None:
        """Note that a backup took the ledger's place; objects may have been sent since it."""
        self.note(LEDGER, RESTORED, now, params={"backup": backup})
        # An object with attempts is looked for at its destination before it is sent.
        untried = update(DeliveryRow).where(col(DeliveryRow.attempts) < 1).values(attempts=1)
        self.session.connection().execute(untried)

    def advance(
        self,
        row: SlideRow | CaseRow | DeliveryRow,
        to: State,
        *,
        now: float,
        code: str = "advanced",
        reason: str = "",
        params: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> None:
        """Change a row's state and append the event: `lifecycle.advance`."""
        advance(self, row, to, now=now, code=code, reason=reason, params=params, by=by)
        self.session.add(row)
        self.session.flush()

    def _created(self, row: SlideRow | CaseRow | DeliveryRow) -> None:
        self.session.add(row)
        self.session.flush()
        self.append_event(
            Event(
                at=row.created_at,
                subject=row.subject,
                kind="state",
                code="created",
                to_state=row.state,
            )
        )

    def add_slide(self, path: str, now: float) -> SlideRow:
        """Add a slide that is seen for the first time, as `arriving`."""
        row = SlideRow(path=path, state=SlideState.ARRIVING, created_at=now, changed_at=now)
        self._created(row)
        return row

    def case_for(self, identity: Identity, now: float, pairing: Pairing) -> CaseRow:
        """Return the case of a pairing for an identity's block; add it if there is none."""
        row = self.session.exec(
            select(CaseRow).where(
                CaseRow.accession == identity.accession,
                CaseRow.block == identity.block,
                CaseRow.assay == pairing.assay,
            )
        ).first()
        if row is None:
            row = CaseRow(
                accession=identity.accession,
                block=identity.block,
                assay=pairing.assay,
                anatomy=pairing.anatomy,
                target=pairing.target,
                state=CaseState.WAITING,
                created_at=now,
                changed_at=now,
            )
            self._created(row)
        elif row.state in (CaseState.WAITING, CaseState.PARTNERLESS):
            # A new release of the assay may pair other stains.
            row.anatomy, row.target = pairing.anatomy, pairing.target
            self.session.add(row)
        return row

    def enqueue(self, case_id: int, new: NewDelivery, now: float) -> None:
        """Put an object of a case into the outbox.

        An object that is there already, as a slide that another case of the block shares, stays as
        it is and becomes the case's too; one that waits or was refused is that of today's file. One
        that was taken out before it was sent (`_WANTED_AGAIN`) is queued again. In a ledger that
        was restored each has an attempt, so that it is looked for at its destination first: it may
        have been sent since the backup.
        """
        known = self.session.exec(
            select(DeliveryRow).where(
                DeliveryRow.destination == new.destination,
                DeliveryRow.sop_instance_uid == new.sop_instance_uid,
            )
        ).first()
        row = known or DeliveryRow(
            case_id=case_id,
            state=DeliveryState.QUEUED,
            attempts=int(self.was_restored()),
            created_at=now,
            changed_at=now,
            **asdict(new),
        )
        again = row.state == DeliveryState.REFUSED and row.reason in _WANTED_AGAIN
        if known is None:
            self._created(row)
        elif known.state in (DeliveryState.QUEUED, DeliveryState.REFUSED):
            # Another file of the scanner, or of a result that came back, may hold the instance now.
            known.path, known.series_uid, known.study_uid = new.path, new.series_uid, new.study_uid
            self.session.add(known)
        if again:
            set_reason(row)
            self.advance(row, DeliveryState.QUEUED, now=now, code="retry")
        if self.session.get(CaseDeliveryRow, (case_id, row.id)) is None:
            self.session.add(CaseDeliveryRow(case_id=case_id, delivery_id=row.id or 0))
            self.session.flush()

    def ask_again(self, destinations: Iterable[str]) -> None:
        """Let destinations be asked now for what they could not say is kept."""
        unproven = col(DeliveryRow.state) == DeliveryState.UNPROVEN
        theirs = unproven & col(DeliveryRow.destination).in_(list(destinations))
        self.session.connection().execute(update(DeliveryRow).where(theirs).values(not_before=0.0))

    def unlink(self, case_id: int, row: DeliveryRow) -> None:
        """Leave an object that several cases share to the others."""
        self.session.delete(self.session.get_one(CaseDeliveryRow, (case_id, row.id)))
        self.session.flush()

    # claims

    def claim_slide(
        self,
        states: Sequence[SlideState],
        worker: str,
        now: float,
        *,
        stats: Sequence[bool] = (True, False),
        oldest: bool = False,
    ) -> SlideRow | None:
        """Claim the slide that is next in one of `states`, or None: `claims.claim`."""
        return claim(self.session, SlideRow, states, worker, now, stats=stats, oldest=oldest)

    def claim_case(
        self,
        states: Sequence[CaseState],
        worker: str,
        now: float,
        assays: Sequence[str],
        *,
        stats: Sequence[bool] = (True, False),
        oldest: bool = False,
    ) -> CaseRow | None:
        """Claim the case of `assays` that is next in one of `states`, or None: `claims.claim`."""
        rules: dict[str, Any] = {"assays": assays, "stats": stats, "oldest": oldest}
        return claim(self.session, CaseRow, states, worker, now, **rules)

    def cases_ahead(self, now: float, assays: Sequence[str], most: int) -> int:
        """Return how many cases are aligned, or are being aligned: `claims.ahead`."""
        return ahead(self.session, now, assays, most)

    def release_claims(self) -> int:
        """Release the claims of a dead daemon and return how many.

        Call it only while holding the daemon's lock.
        """
        return release(self.session)

    def move_waits(self, by_s: float) -> None:
        """Move the end of each wait with the wall clock, which was set `by_s` seconds forward."""
        for table in (SlideRow, CaseRow, DeliveryRow):
            waits = col(table.not_before)
            moved = update(table).where(waits > 0).values(not_before=waits + by_s)
            self.session.connection().execute(moved)
