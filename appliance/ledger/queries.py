"""Reads of the ledger that the daemon, ``tandem status`` and the dashboard share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, or_, true
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from appliance.domain import Stain
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import (
    CaseDeliveryRow,
    CaseRow,
    DeliveryRow,
    EventRow,
    SlideRow,
    params_of,
)
from appliance.ledger.waits import DOUBT_S, LONGEST_WAIT_S, due

SLIDES, NOTES = "WSM", "KO"
"""Kinds of the objects that are sent before all others, and of those that are sent after them."""
REPORT, OVERLAY = "SR", "SEG"
"""Kinds of the object that a newer one may correct, and of its label maps."""
GONE = (SlideState.SUPERSEDED, SlideState.QUARANTINED, SlideState.OTHER)
"""States of slides that no case uses."""
PASSED = (SlideState.INSPECTED, SlideState.READ)
"""States of slides that passed inspection."""
NOT_ASKED = "not-asked"
"""Reason of a waiting case whose target slide nobody asked for."""

SLIDE_CHANGED = "slide-changed"
"""Reason of a delivery of a scanner's image whose file is another one than was identified."""
SLIDE_TRUSTED = "slide-trusted"
"""Reason of a delivery of a scanner's image that the settings neither send nor ask for any more."""
LEFT_OUT = "left-out"
"""Reason of a delivery of an object that the settings do not send to its destination any more."""
NOT_WANTED = (SLIDE_TRUSTED, LEFT_OUT)
"""Reasons of deliveries that the settings took out: their case is delivered without them."""
OBJECT_REPLACED = "object-replaced"
"""Reason of a delivery whose file is damaged, and whose object its case has no more."""
REASONS = "reasons"
"""Parameter of the event that scores a case: how many reasons for review the appliance gave. Events
of earlier editions lack it."""
_SCORING = ("advanced", "corrected", "confirmed")
"""Codes of the events that give a case its score."""
WITHDRAWN = "withdrawn"
"""Reason of a delivery that was taken out of the outbox before it was sent."""

LEDGER, RESTORED, BEGUN_ANEW = "ledger", "restored", "begun-anew"
"""Subject and code of the note that a backup took the ledger's place."""
CLOCK_DOUBTED = "clock-doubted"
"""Code of its note that the wall clock was set far, or is odd."""


def current(slides: Iterable[SlideRow], stains: Iterable[Stain]) -> dict[Stain, SlideRow]:
    """Return the slide of each stain among the slides of a block (oldest first), in that order.

    A scan that did not pass inspection yet takes no place where another one stands.
    """
    there = sorted(
        (row for row in slides if row.state not in GONE), key=lambda row: row.state in PASSED
    )
    rows = {Stain(row.stain): row for row in there}
    return {stain: rows[stain] for stain in stains if stain in rows}


class Queries:
    """Reads within one open transaction."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def events(self, subject: str | None = None, limit: int = 1000) -> list[EventRow]:
        """Return the newest events of a subject (of all), oldest first."""
        query = select(EventRow).order_by(col(EventRow.id).desc()).limit(limit)
        if subject is not None:
            query = query.where(EventRow.subject == subject)
        return list(reversed(self.session.exec(query).all()))

    def clock_off_s(self, now: float) -> float:
        """Return by how much a clock is far from the last event; 0 where it is near.

        The machine was off for long, or its clock is wrong.
        """
        off_s = sum(now - newest.at for newest in self.events(limit=1))
        return off_s if abs(off_s) > DOUBT_S else 0.0

    def clock_ahead_s(self, now: float) -> float:
        """Return by how much a doubted clock may be ahead of that of the data; 0 for a sound one.

        It is doubted where a note of the last day says so.
        """
        notes = [each for each in self.events(LEDGER) if each.code == CLOCK_DOUBTED]
        if not notes or abs(now - notes[-1].at) >= DOUBT_S:
            return 0.0
        return max(0.0, float(params_of(notes[-1])["ahead_s"]))

    def scored_by(self, subject: str) -> str:
        """Return the code of the event that scored a case last; empty where none did.

        ``corrected`` and ``confirmed`` are a person's word, also one that stands after the case was
        analyzed again. A case that is only written again is not scored by that.
        """
        query = select(EventRow.code).where(
            EventRow.subject == subject,
            EventRow.to_state == CaseState.SCORED,
            col(EventRow.code).in_(_SCORING),
        )
        return self.session.exec(query.order_by(col(EventRow.id).desc()).limit(1)).first() or ""

    def notes(self, *codes: str) -> list[EventRow]:
        """Return all notes of these codes, oldest first."""
        query = select(EventRow).where(EventRow.kind == "note", col(EventRow.code).in_(codes))
        return list(self.session.exec(query.order_by(col(EventRow.id))).all())

    def was_restored(self) -> bool:
        """Return whether a backup took the ledger's place, ever: objects may have been sent that
        it does not know."""
        query = select(EventRow.id).where(
            EventRow.subject == LEDGER, EventRow.kind == "note", EventRow.code == RESTORED
        )
        return self.session.exec(query.limit(1)).first() is not None

    # slides

    def slide(self, slide_id: int) -> SlideRow | None:
        """Return the slide row, or None."""
        return self.session.get(SlideRow, slide_id)

    def slide_of_path(self, path: str) -> SlideRow | None:
        """Return the slide of this file, or None."""
        return self.session.exec(select(SlideRow).where(SlideRow.path == path)).first()

    def slides(self) -> list[SlideRow]:
        """Return all slides, oldest first."""
        return list(self.session.exec(select(SlideRow).order_by(col(SlideRow.id))).all())

    def slides_below(self, folder: str) -> list[SlideRow]:
        """Return the slides whose files lie below a folder, oldest first."""
        first, after = f"{folder.rstrip('/')}/", f"{folder.rstrip('/')}0"  # "0" follows "/"
        query = select(SlideRow).where(col(SlideRow.path) >= first, col(SlideRow.path) < after)
        return list(self.session.exec(query.order_by(col(SlideRow.id))).all())

    def slides_of_block(self, accession: str, block: str) -> list[SlideRow]:
        """Return all slides of a block, superseded and quarantined ones too, oldest first."""
        query = select(SlideRow).where(SlideRow.accession == accession, SlideRow.block == block)
        return list(self.session.exec(query.order_by(col(SlideRow.id))).all())

    def slides_of_accession(self, accession: str) -> list[SlideRow]:
        """Return all slides of an accession, oldest first."""
        query = select(SlideRow).where(SlideRow.accession == accession)
        return list(self.session.exec(query.order_by(col(SlideRow.id))).all())

    def slides_of_content(self, fingerprint: str) -> list[SlideRow]:
        """Return all slides whose files have these bytes, oldest first; it reads the table."""
        query = select(SlideRow).where(SlideRow.fingerprint == fingerprint)
        return list(self.session.exec(query.order_by(col(SlideRow.id))).all())

    def current_slides(
        self, accession: str, block: str, stains: Iterable[Stain]
    ) -> dict[Stain, SlideRow]:
        """Return the slide of each stain that cases of a block use, by stain, in that order."""
        return current(self.slides_of_block(accession, block), stains)

    # cases

    def case(self, case_id: int) -> CaseRow | None:
        """Return the case row, or None."""
        return self.session.get(CaseRow, case_id)

    def cases(self) -> list[CaseRow]:
        """Return all cases, oldest first."""
        return list(self.session.exec(select(CaseRow).order_by(col(CaseRow.id))).all())

    def waiting_cases(self, unchanged_since: float) -> list[CaseRow]:
        """Return the waiting cases that lack one slide and did not change after a time.

        The oldest come first. Those whose target slide nobody asked for are left out.
        """
        anatomy, target = _has(CaseRow.anatomy), _has(CaseRow.target)
        query = select(CaseRow).where(
            CaseRow.state == CaseState.WAITING,
            CaseRow.changed_at <= unchanged_since,
            CaseRow.reason != NOT_ASKED,
            or_(anatomy & ~target, target & ~anatomy),
        )
        return list(self.session.exec(query.order_by(col(CaseRow.id))).all())

    def cases_of_block(self, accession: str, block: str) -> list[CaseRow]:
        """Return the cases of a block, oldest first."""
        query = select(CaseRow).where(CaseRow.accession == accession, CaseRow.block == block)
        return list(self.session.exec(query.order_by(col(CaseRow.id))).all())

    # deliveries

    def deliveries(self, case_id: int | None = None) -> list[DeliveryRow]:
        """Return the deliveries of a case (of all), in the order of sending."""
        query = select(DeliveryRow).order_by(col(DeliveryRow.id))
        if case_id is not None:
            query = query.join(
                CaseDeliveryRow, col(CaseDeliveryRow.delivery_id) == DeliveryRow.id
            ).where(CaseDeliveryRow.case_id == case_id)
        return list(self.session.exec(query).all())

    def due_unproven(
        self,
        now: float,
        longest_wait_s: float,
        names: Sequence[str],
        known: Sequence[str] | None = None,
        *,
        limit: int,
    ) -> list[DeliveryRow]:
        """Return unproven deliveries to be asked for now, those that waited longest first.

        `names` and `known` are those of `due_deliveries`.
        """
        query = select(DeliveryRow).where(
            DeliveryRow.state == DeliveryState.UNPROVEN,
            due(col(DeliveryRow.not_before), now, longest_wait_s),
            _of(names, known),
        )
        return list(self.session.exec(query.order_by(col(DeliveryRow.not_before)).limit(limit)))

    def due_deliveries(
        self,
        now: float,
        longest_wait_s: float = LONGEST_WAIT_S,
        names: Sequence[str] = (),
        known: Sequence[str] | None = (),
    ) -> list[DeliveryRow]:
        """Return the deliveries to be sent now, or proven for the first time, in order of sending.

        They are those of the destinations `names`, and, but for None, of all that are not `known`.
        A delivery that waits for longer than `longest_wait_s` was booked under a wrong clock.

        Reports of a case are sent one after the other: a correction never overtakes the report
        that it corrects. A note that rejects the objects of a replaced result is sent after these
        objects and after the result that is in force; slides hold it up no longer than others.
        """
        open_states = (DeliveryState.QUEUED, DeliveryState.SENT)
        older = aliased(DeliveryRow)
        overtakes = (
            select(older.id)
            .where(
                col(DeliveryRow.state) == DeliveryState.QUEUED,
                col(DeliveryRow.kind) == REPORT,
                col(older.kind) == REPORT,
                col(older.case_id) == DeliveryRow.case_id,
                col(older.destination) == DeliveryRow.destination,
                col(older.id) < col(DeliveryRow.id),
                col(older.state).in_((DeliveryState.QUEUED, DeliveryState.SENT)),
            )
            .exists()
        )
        comes_early = (
            select(older.id)
            .where(
                col(DeliveryRow.kind) == NOTES,
                col(DeliveryRow.state) == DeliveryState.QUEUED,
                col(older.kind) != SLIDES,
                col(older.case_id) == DeliveryRow.case_id,
                col(older.destination) == DeliveryRow.destination,
                col(older.id) < col(DeliveryRow.id),
                col(older.state).in_((DeliveryState.QUEUED, DeliveryState.SENT)),
            )
            .exists()
        )
        query = select(DeliveryRow).where(
            col(DeliveryRow.state).in_(open_states),
            due(col(DeliveryRow.not_before), now, longest_wait_s),
            _of(names, known),
            ~overtakes,
            ~comes_early,
        )
        return list(self.session.exec(query.order_by(col(DeliveryRow.id))).all())

    def refused_beside(self, row: DeliveryRow) -> bool:
        """Return whether the report or an overlay written with this one was refused there."""
        place = row.path.rpartition("/")[0]
        query = select(DeliveryRow.id).where(
            DeliveryRow.case_id == row.case_id,
            DeliveryRow.destination == row.destination,
            DeliveryRow.state == DeliveryState.REFUSED,
            DeliveryRow.reason != LEFT_OUT,
            col(DeliveryRow.path).startswith(f"{place}/", autoescape=True),
            col(DeliveryRow.kind).in_((REPORT, OVERLAY)),
        )
        return self.session.exec(query).first() is not None

    def cases_of_deliveries(self, rows: Iterable[DeliveryRow]) -> list[int]:
        """Return the ids of all cases that have one of these deliveries, each once."""
        ids = [row.id for row in rows]
        query = select(CaseDeliveryRow.case_id).where(col(CaseDeliveryRow.delivery_id).in_(ids))
        return sorted(set(self.session.exec(query).all()))

    def cases_whose_deliveries_ended(self, *, unproven: bool = True) -> list[int]:
        """Return the ids of written cases that no delivery keeps in their state.

        With `unproven` those of unproven cases, too: there may be very many.
        """
        sending = (DeliveryState.QUEUED, DeliveryState.SENT)
        ended = self._cases_without(CaseState.WRITTEN, sending)
        if unproven:
            unproven_too = (*sending, DeliveryState.UNPROVEN)
            ended += self._cases_without(CaseState.UNPROVEN, unproven_too)
        return ended

    def _cases_without(self, state: CaseState, deliveries: Sequence[DeliveryState]) -> list[int]:
        having = (
            select(CaseDeliveryRow.case_id)
            .join(DeliveryRow, col(DeliveryRow.id) == CaseDeliveryRow.delivery_id)
            .where(CaseDeliveryRow.case_id == CaseRow.id, col(DeliveryRow.state).in_(deliveries))
            .exists()
        )
        found = select(CaseRow.id).where(CaseRow.state == state, ~having)
        return [case_id for case_id in self.session.exec(found).all() if case_id is not None]


def _has(stain: str) -> ColumnElement[bool]:
    """Return the condition for cases whose block has a slide of a stain that they can use."""
    query = select(SlideRow.id).where(
        SlideRow.accession == CaseRow.accession,
        SlideRow.block == CaseRow.block,
        SlideRow.stain == stain,
        col(SlideRow.state).not_in(GONE),
    )
    return query.exists()


def _of(names: Sequence[str], known: Sequence[str] | None) -> ColumnElement[bool]:
    mine = col(DeliveryRow.destination).in_(names)
    if known is None:
        return mine
    if not known:
        return true()
    astray = col(DeliveryRow.destination).not_in(known)
    return or_(mine, astray) if names else astray
