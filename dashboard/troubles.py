"""Slides and cases that wait for a person, and work that waits for something outside of Tandem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, func, literal_column, not_
from sqlalchemy import select as columns
from sqlmodel import col, select

from appliance.delivery.left_out import waiting_for_a_person
from appliance.domain import Pairing, QuarantineReason
from appliance.ledger.blocks import case_of_slide, is_installed, pairing_of
from appliance.ledger.lifecycle import SLIDES_UNDER_WAY, CaseState, DeliveryState, SlideState
from appliance.ledger.queries import NOT_WANTED, Queries
from appliance.ledger.tables import CaseRow, DeliveryRow, SlideRow, id_of, params_of
from appliance.words.say import say
from appliance.words.template import OTHER
from dashboard.lines import CASES_HELD
from dashboard.masking import case_name, facts_shown, slide_name
from dashboard.wording import CASE_WORDS, stain_word

LIMIT = 100
"""Most rows of one table on a page."""
GROUP_ROWS = 10
"""Most rows of one cause where all causes are shown."""
FOREIGN = "case-of-foreign-assay"
"""Cause of cases whose assay is not installed."""
"""Cases under way; one with a reason waits for something outside of Tandem."""
CASES_OF_ASSAY = (
    CaseState.WAITING,
    CaseState.PARTNERLESS,
    CaseState.READY,
    CaseState.ALIGNED,
    CaseState.SCORED,
)
"""States of cases that cannot go on where their assay is not installed."""
CASES_IN_TROUBLE = (
    CaseState.FAILED,
    CaseState.UNDELIVERED,
    CaseState.PARTNERLESS,
    CaseState.HELD,
)
CASES_TO_RETRY = (CaseState.FAILED, CaseState.UNDELIVERED)
"""States of cases that another attempt may mend; the others wait for a slide or a decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Slide or case that waits for a person, with the reason and the remedy."""

    subject: str
    title: str
    sentence: str
    remedy: str
    detail: str
    case_id: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleGroup:
    """Slides or cases that wait for a person by one cause; `items` are some of the `number`.

    `cause` names the group in an address: what it is, its state and its reason. `remedy` is empty
    where each item has its own; `can_retry`: all of it may be tried again at once.
    """

    cause: str
    number: int
    sentence: str
    remedy: str
    can_retry: bool
    items: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDestination:
    """Destination that objects wait for; Tandem retries it without a person.

    `unproven` means that the objects were sent and the destination cannot confirm them; otherwise
    an attempt failed.
    """

    destination: str
    unproven: bool
    objects: int
    error: str
    next_try_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCases:
    """Cases, or `slides`, that wait for the same thing outside of Tandem.

    Tandem retries them without a person, at once where `next_try_at` is 0.
    """

    cases: int
    slides: int
    error: str
    next_try_at: float


def _without_assay(pairings: Sequence[Pairing]) -> ColumnElement[bool]:
    """Return the condition for cases that cannot go on, as their assay is not installed."""
    foreign = col(CaseRow.assay).not_in([pairing.assay for pairing in pairings])
    return and_(foreign, few(col(CaseRow.state).in_(CASES_OF_ASSAY)))


def read_groups(
    tx: Queries,
    pairings: Sequence[Pairing],
    groups: Sequence[TroubleGroup],
    *,
    hidden: bool,
    cause: str = "",
    number: int = 1,
) -> tuple[TroubleGroup, ...]:
    """Return groups of `count_groups` with `GROUP_ROWS` rows each, the newest first.

    With a `cause`: that group alone, and the rows of a page of `LIMIT`, counted from 1. `hidden`:
    for a screen with hidden names.
    """
    rows = LIMIT if cause else GROUP_ROWS
    offset = (max(number, 1) - 1) * LIMIT if cause else 0
    found = []
    for known in groups:
        if cause in ("", known.cause):
            items = _items(tx, pairings, _rows(tx, known, pairings, rows, offset), hidden)
            found.append(replace(known, items=items))
    return tuple(
        sorted(found, key=lambda group: -max((item.at for item in group.items), default=0))
    )


def subjects_of(tx: Queries, pairings: Sequence[Pairing], cause: str, most: int) -> tuple[str, ...]:
    """Return the subjects of a cause, at most so many, those first that changed longest ago.

    What failed again since is behind those that were not tried yet.
    """
    known = next((group for group in count_groups(tx, pairings) if group.cause == cause), None)
    if known is None:
        return ()
    return tuple(row.subject for row in _rows(tx, known, pairings, most, 0, oldest=True))


def count_groups(tx: Queries, pairings: Sequence[Pairing]) -> list[TroubleGroup]:
    """Return what waits for a person, by cause: all groups with their number, without rows."""
    connection = tx.session.connection()
    slides = connection.execute(
        columns(col(SlideRow.reason), func.count())
        .where(col(SlideRow.state) == SlideState.QUARANTINED)
        .group_by(SlideRow.reason)
    )
    groups = [
        TroubleGroup(
            cause=f"slide:{SlideState.QUARANTINED}:{reason}",
            number=number,
            sentence=say("quarantine", reason or QuarantineReason.FAILED),
            remedy=say("remedy", reason or QuarantineReason.FAILED),
            can_retry=True,
        )
        for reason, number in slides
    ]
    foreign = _without_assay(pairings)
    by_state = connection.execute(
        columns(col(CaseRow.state), col(CaseRow.reason), func.count())
        .where(col(CaseRow.state).in_(CASES_IN_TROUBLE), not_(foreign))
        .group_by(CaseRow.state, CaseRow.reason)
    )
    groups += [
        TroubleGroup(
            cause=f"case:{state}:{reason}",
            number=number,
            sentence=CASE_WORDS[CaseState(state)].sentence,
            remedy="",
            can_retry=state in CASES_TO_RETRY,
        )
        for state, reason, number in by_state
    ]
    number = int(
        connection.execute(columns(func.count(col(CaseRow.id))).where(foreign)).scalar() or 0
    )
    if number:
        told = "Their assay is not installed here."
        groups.append(
            TroubleGroup(
                cause=f"{FOREIGN}:", number=number, sentence=told, remedy="", can_retry=False
            )
        )
    return groups


def _rows(
    tx: Queries,
    group: TroubleGroup,
    pairings: Sequence[Pairing],
    most: int,
    offset: int,
    *,
    oldest: bool = False,
) -> Sequence[SlideRow] | Sequence[CaseRow]:
    """Return some rows of a group, the newest change first, or the `oldest`."""
    what, state, reason = (*group.cause.split(":", 2), "", "")[:3]
    if what == "slide":
        slides = select(SlideRow).where(SlideRow.state == state, SlideRow.reason == reason)
        slides = slides.order_by(*_by_change(SlideRow, oldest=oldest))
        return tx.session.exec(slides.limit(most).offset(offset)).all()
    foreign = _without_assay(pairings)
    chosen = [foreign]
    if what == "case":
        chosen = [not_(foreign), col(CaseRow.state) == state, col(CaseRow.reason) == reason]
    cases = select(CaseRow).where(*chosen).order_by(*_by_change(CaseRow, oldest=oldest))
    return tx.session.exec(cases.limit(most).offset(offset)).all()


def _by_change(
    table: type[SlideRow] | type[CaseRow], *, oldest: bool
) -> tuple[ColumnElement[Any], ...]:
    keys = (col(table.changed_at), col(table.id))
    return tuple(key.asc() if oldest else key.desc() for key in keys)


def _items(
    tx: Queries,
    pairings: Sequence[Pairing],
    rows: Sequence[SlideRow] | Sequence[CaseRow],
    hidden: bool,
) -> tuple[Trouble, ...]:
    slides = [row for row in rows if isinstance(row, SlideRow)]
    of_case = case_ids(tx, slides)
    items = [_slide_trouble(row, of_case.get(id_of(row)), hidden) for row in slides]
    for row in rows:
        if not isinstance(row, CaseRow):
            continue
        if (trouble := case_trouble(tx, row, pairings, hidden=hidden)) is not None:
            items.append(trouble)
    return tuple(items)


def case_ids(tx: Queries, slides: Sequence[SlideRow]) -> dict[int, int]:
    """Return the id of the case that shows each slide, by the slide's id."""
    accessions = {slide.accession for slide in slides}
    cases = tx.session.exec(
        select(CaseRow).where(col(CaseRow.accession).in_(accessions)).order_by(col(CaseRow.id))
    ).all()
    found = {id_of(slide): case_of_slide(slide, cases) for slide in slides}
    return {slide_id: id_of(case) for slide_id, case in found.items() if case is not None}


def _slide_trouble(row: SlideRow, case_id: int | None, hidden: bool) -> Trouble:
    return Trouble(
        subject=row.subject,
        title=slide_name(id_of(row)) if hidden else row.file_name,
        sentence=say("quarantine", row.reason or QuarantineReason.FAILED),
        remedy=say("remedy", row.reason or QuarantineReason.FAILED),
        detail=say("slide-detail", row.reason or OTHER, facts_shown(params_of(row), hidden=hidden)),
        case_id=case_id,
        at=row.changed_at,
    )


def case_trouble(
    tx: Queries, row: CaseRow, pairings: Sequence[Pairing], *, hidden: bool
) -> Trouble | None:
    """Return the trouble of a case, or None for a case that waits for nobody.

    `hidden`: for a screen with hidden names.
    """
    case_id = id_of(row)
    state = CaseState(row.state)
    installed = is_installed(row, pairings)
    reason, params, detail = row.reason or "failed", params_of(row), ""
    if not installed and state in CASES_OF_ASSAY:
        reason, params = "assay-not-installed", {"assay": row.assay}
    elif state not in CASES_IN_TROUBLE:
        return None
    elif state is CaseState.PARTNERLESS:
        stains = pairing_of(row).stains
        there = tx.current_slides(row.accession, row.block, stains)
        missing = [stain_word(stain) for stain in stains if stain not in there]
        reason, params = "stain-missing", params | {"stains": missing}
    elif state is CaseState.UNDELIVERED:
        waiting = set(tx.session.exec(waiting_for_a_person(case_id)))
        rows = tx.deliveries(case_id)
        # Without another object, what was withdrawn is why nobody has the result.
        refused = [each for each in rows if each.id in waiting] or [
            each
            for each in rows
            if each.state == DeliveryState.REFUSED and each.reason not in NOT_WANTED
        ]
        destinations = sorted({delivery.destination for delivery in refused})
        reason, params = "refused", {"destinations": destinations, "count": len(refused)}
        first = next((delivery for delivery in refused if delivery.reason), None)
        if first is not None:
            told = facts_shown(params_of(first), hidden=hidden)
            detail = say("delivery", first.reason, told)
    facts = facts_shown(params | {"subject": row.subject}, hidden=hidden)
    name = case_name(case_id) if hidden else row.accession
    return Trouble(
        subject=row.subject,
        title=f"{name} · block {row.block} · {CASE_WORDS[state].label.lower()}",
        sentence=say("case-trouble", reason, facts),
        remedy=say("case-remedy", reason, facts),
        detail=detail,
        case_id=case_id,
        at=row.changed_at,
    )


def read_held(tx: Queries, *, hidden: bool) -> tuple[HeldDestination, ...]:
    """Return the destinations that objects wait for; `hidden`: for a screen with hidden names."""
    queued = (DeliveryState.QUEUED, DeliveryState.SENT)
    failed = _waiting(tx, queued, unproven=False, hidden=hidden)
    return failed + _waiting(tx, (DeliveryState.UNPROVEN,), unproven=True, hidden=hidden)


def read_held_cases(tx: Queries, *, hidden: bool) -> tuple[HeldCases, ...]:
    """Return the cases and slides under way that are held back, grouped by the reason.

    `hidden`: for a screen with hidden names.
    """
    held = []
    for table, states in ((CaseRow, CASES_HELD), (SlideRow, SLIDES_UNDER_WAY)):
        rows = tx.session.exec(
            select(table.reason, table.params, func.count(), func.min(table.not_before))
            .where(few(col(table.state).in_(states)), table.reason != "")
            .group_by(table.reason, table.params)
            .order_by(table.reason, table.params)
        )
        held += [
            HeldCases(
                cases=number if table is CaseRow else 0,
                slides=number if table is SlideRow else 0,
                error=say("case", reason, facts_shown(json.loads(params), hidden=hidden)),
                next_try_at=at,
            )
            for reason, params, number, at in rows
        ]
    return tuple(held)


def few(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return a condition on the state that few rows fulfill, so that SQLite uses its index.

    Where most rows are in one state, SQLite's statistics make any state look common.
    """
    # Untyped: a truth value would be compared to 1, and SQLite would not see through that.
    return cast("ColumnElement[bool]", func.likelihood(condition, literal_column("0.001")))


def _waiting(
    tx: Queries, states: tuple[DeliveryState, ...], *, unproven: bool, hidden: bool
) -> tuple[HeldDestination, ...]:
    rows = tx.session.connection().execute(
        columns(
            col(DeliveryRow.destination),
            col(DeliveryRow.reason),
            col(DeliveryRow.params),
            func.count(),
            func.min(DeliveryRow.not_before),
        )
        .where(few(col(DeliveryRow.state).in_(states)), col(DeliveryRow.reason) != "")
        .group_by(DeliveryRow.destination, DeliveryRow.reason, DeliveryRow.params)
        .order_by(DeliveryRow.destination)
    )
    held: dict[str, HeldDestination] = {}
    for name, reason, params, number, at in rows:
        error = say("delivery", reason, facts_shown(json.loads(params), hidden=hidden))
        known = held.get(name)
        held[name] = HeldDestination(
            destination=name,
            unproven=unproven,
            objects=number + (known.objects if known else 0),
            error=max(error, known.error) if known else error,
            next_try_at=min(at, known.next_try_at) if known else at,
        )
    return tuple(held.values())
