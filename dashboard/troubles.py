"""What waits for a person, and what waits for something outside of Tandem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func
from sqlmodel import col, select

from appliance.domain import HE, HER2, QuarantineReason
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.queries import Queries
from appliance.ledger.tables import CaseRow, DeliveryRow, SlideRow, id_of
from dashboard.wording import CASE_WORDS, STAIN_WORDS

LIMIT = 100
"""Most rows of one table on a page."""
CASES_HELD = (CaseState.READY, CaseState.SCORED, CaseState.WRITTEN)
"""Under way; with a reason: something outside of Tandem is missing."""
CASES_IN_TROUBLE = (CaseState.FAILED, CaseState.UNDELIVERED, CaseState.PARTNERLESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that waits for a person: what, why, and what to do."""

    subject: str
    title: str
    sentence: str
    remedy: str
    detail: str
    case_id: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDestination:
    """A destination that objects are waiting for; retried by itself.

    `unproven`: they are sent, and it cannot say whether it has them; else an attempt failed.
    """

    destination: str
    unproven: bool
    objects: int
    error: str
    next_try_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCases:
    """Cases that wait for the same thing outside of Tandem; retried by themselves, at once where
    `next_try_at` is 0."""

    cases: int
    error: str
    next_try_at: float


def read_troubles(tx: Queries) -> tuple[Trouble, ...]:
    """Slides and cases that wait for a person, newest first."""
    slides = tx.session.exec(
        select(SlideRow)
        .where(SlideRow.state == SlideState.QUARANTINED)
        .order_by(col(SlideRow.changed_at).desc())
        .limit(LIMIT)
    )
    cases = tx.session.exec(
        select(CaseRow)
        .where(col(CaseRow.state).in_(CASES_IN_TROUBLE))
        .order_by(col(CaseRow.changed_at).desc())
        .limit(LIMIT)
    )
    found = [_slide_trouble(row) for row in slides] + [case_trouble(tx, row) for row in cases]
    return tuple(sorted(found, key=lambda trouble: -trouble.at))


def _slide_trouble(row: SlideRow) -> Trouble:
    reason = known_reason(row.reason) or QuarantineReason.FAILED
    return Trouble(
        subject=row.subject,
        title=Path(row.path).name,
        sentence=reason.sentence,
        remedy=reason.remedy,
        detail=row.detail,
        case_id=row.case_id,
        at=row.changed_at,
    )


def case_trouble(tx: Queries, row: CaseRow) -> Trouble:
    """What a case of `CASES_IN_TROUBLE` waits for."""
    case_id = id_of(row)
    state = CaseState(row.state)
    detail = ""
    if state is CaseState.PARTNERLESS:
        missing = [
            STAIN_WORDS[stain] for stain in (HE, HER2) if stain not in tx.slides_of_case(case_id)
        ]
        sentence = (
            f"The {' and '.join(missing) or 'second'} slide of this block did not come in time."
        )
        remedy = "Look for the missing scan. A late partner reopens the case by itself."
    elif state is CaseState.UNDELIVERED:
        refused = [d for d in tx.deliveries(case_id) if d.state == DeliveryState.REFUSED]
        where = ", ".join(sorted({d.destination for d in refused})) or "A destination"
        sentence = f"{where} refused {len(refused) or 'some'} of this case's objects for good."
        remedy = f"See the errors below, correct the cause, then: tandem retry {row.subject}."
        detail = next((d.error for d in refused if d.error), detail)
    else:
        # The daemon writes "cause. See the log, then: …".
        sentence, _, remedy = row.reason.partition(". See ")
        sentence = sentence or QuarantineReason.FAILED.sentence
        remedy = f"See {remedy}" if remedy else QuarantineReason.FAILED.remedy
    return Trouble(
        subject=row.subject,
        title=f"{row.accession} · block {row.block} · {CASE_WORDS[state].label.lower()}",
        sentence=sentence,
        remedy=remedy,
        detail=detail,
        case_id=case_id,
        at=row.changed_at,
    )


def known_reason(code: str) -> QuarantineReason | None:
    """The reason of a code, if this dashboard knows it."""
    # A newer daemon may know reasons that this dashboard does not.
    return next((reason for reason in QuarantineReason if reason.code == code), None)


def read_held(tx: Queries) -> tuple[HeldDestination, ...]:
    """Destinations that objects wait for."""
    failed = _waiting(tx, (DeliveryState.QUEUED, DeliveryState.SENT), unproven=False)
    return failed + _waiting(tx, (DeliveryState.UNPROVEN,), unproven=True)


def read_held_cases(tx: Queries) -> tuple[HeldCases, ...]:
    """Cases under way that something holds back, by what that is."""
    rows = tx.session.exec(
        select(CaseRow.reason, func.count(), func.min(CaseRow.not_before))
        .where(col(CaseRow.state).in_(CASES_HELD), CaseRow.reason != "")
        .group_by(CaseRow.reason)
        .order_by(CaseRow.reason)
    )
    return tuple(HeldCases(cases=number, error=error, next_try_at=at) for error, number, at in rows)


def _waiting(
    tx: Queries, states: tuple[DeliveryState, ...], *, unproven: bool
) -> tuple[HeldDestination, ...]:
    rows = tx.session.exec(
        select(
            DeliveryRow.destination,
            func.count(),
            func.max(DeliveryRow.error),
            func.min(DeliveryRow.not_before),
        )
        .where(col(DeliveryRow.state).in_(states), DeliveryRow.error != "")
        .group_by(DeliveryRow.destination)
        .order_by(DeliveryRow.destination)
    )
    return tuple(
        HeldDestination(
            destination=name, unproven=unproven, objects=number, error=error, next_try_at=at
        )
        for name, number, error, at in rows
    )
