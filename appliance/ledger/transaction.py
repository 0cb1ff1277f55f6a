"""Writes to the ledger: rows, states with their events, claims, the outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import BindParameter, bindparam, text
from sqlmodel import select

from appliance.domain import Identity, Pairing
from appliance.ledger import events
from appliance.ledger.events import Event
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState, State, advance
from appliance.ledger.queries import Queries
from appliance.ledger.tables import CaseDeliveryRow, CaseRow, DeliveryRow, SlideRow

_FREE = "claimed_by = '', claim_token = ''"


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
    ) -> None:
        """Append a note: an event that changes no state."""
        self.append_event(
            Event(
                at=now,
                subject=subject,
                kind="note",
                code=code,
                reason=reason,
                params=params or {},
            )
        )

    def advance(
        self,
        row: SlideRow | CaseRow | DeliveryRow,
        to: State,
        *,
        now: float,
        code: str = "advanced",
        reason: str = "",
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Change a row's state and append the event; `code`, `reason`, `params` are the event's."""
        advance(self, row, to, now=now, code=code, reason=reason, params=params)
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
        it is and becomes the case's too.
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
            created_at=now,
            changed_at=now,
            **asdict(new),
        )
        if known is None:
            self._created(row)
        if self.session.get(CaseDeliveryRow, (case_id, row.id)) is None:
            self.session.add(CaseDeliveryRow(case_id=case_id, delivery_id=row.id or 0))
            self.session.flush()

    # claims

    def claim_slide(
        self, states: Sequence[SlideState], worker: str, now: float, *, oldest: bool = False
    ) -> SlideRow | None:
        """Claim a free slide in one of `states`, or return None.

        STAT slides come first, then those of an earlier place in `states`, then the oldest.
        `oldest` takes the oldest whatever it is. The row has a new `claim_token`.
        """
        slide_id = self._claim("slide", states, worker, now, oldest=oldest)
        if slide_id is None:
            return None
        # Read anew: the claim bypasses the ORM.
        return self.session.get(SlideRow, slide_id, populate_existing=True)

    def claim_case(
        self,
        states: Sequence[CaseState],
        worker: str,
        now: float,
        assays: Sequence[str],
        *,
        oldest: bool = False,
    ) -> CaseRow | None:
        """Claim a free case of `assays`, in the order of `claim_slide`, or return None."""
        case_id = self._claim("case", states, worker, now, assays, oldest=oldest)
        if case_id is None:
            return None
        return self.session.get(CaseRow, case_id, populate_existing=True)

    def _claim(
        self,
        table: str,
        states: Sequence[State],
        worker: str,
        now: float,
        assays: Sequence[str] | None = None,
        *,
        oldest: bool,
    ) -> int | None:
        values: dict[str, object] = {"states": [state.value for state in states]}
        where = "state IN :states AND claimed_by = '' AND not_before <= :now"
        lists: list[BindParameter[Any]] = [bindparam("states", expanding=True)]
        if assays is not None:
            values["assays"] = list(assays)
            where += " AND assay IN :assays"
            lists.append(bindparam("assays", expanding=True))
        order = "id"
        if not oldest:
            places = " ".join(f"WHEN '{state}' THEN {place}" for place, state in enumerate(states))
            order = f"stat DESC, CASE state {places} END, id"
        statement = text(
            f'UPDATE "{table}" SET claimed_by = :worker, claim_token = :token '  # noqa: S608  ours
            f'WHERE id = (SELECT id FROM "{table}" WHERE {where} ORDER BY {order} LIMIT 1) '
            "RETURNING id"
        ).bindparams(*lists)
        values |= {"worker": worker, "now": now, "token": uuid4().hex}
        row = self.session.connection().execute(statement, values).first()
        return None if row is None else int(row[0])

    def release_claims(self) -> int:
        """Release the claims of a dead daemon and return how many.

        Call it only while holding the daemon's lock.
        """
        freed = 0
        for table in ("slide", "case"):
            freed += (
                self.session.connection()
                .execute(text(f"UPDATE \"{table}\" SET {_FREE} WHERE claimed_by != ''"))  # noqa: S608
                .rowcount
            )
        return freed
