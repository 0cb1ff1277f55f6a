"""Many slides and cases at once, and what belongs to them, by a fixed number of queries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import func
from sqlmodel import SQLModel, col, select

from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import NOT_ASKED, Queries
from appliance.ledger.tables import CaseDeliveryRow, CaseRow, DeliveryRow, EventRow, SlideRow

MOST_EVENTS = 1000
"""Most events of one subject, the newest ones."""
ENDED: frozenset[str] = frozenset(
    {SlideState.READ, SlideState.SUPERSEDED, SlideState.OTHER, CaseState.DELIVERED}
)
"""States that ask nothing of anybody; slides and cases in any other come first.

Nor does a waiting case whose target slide nobody asked for.
"""
TROUBLE: frozenset[str] = frozenset(
    {
        SlideState.QUARANTINED,
        CaseState.FAILED,
        CaseState.HELD,
        CaseState.PARTNERLESS,
        CaseState.UNDELIVERED,
    }
)
"""States in which a slide or case waits for a person, whatever its assay is."""

Row = TypeVar("Row", SlideRow, CaseRow)
Block = tuple[str, str]


def numbers(tx: Queries, table: type[SlideRow] | type[CaseRow]) -> dict[str, int]:
    """Return the number of rows in each state that occurs."""
    query = select(table.state, func.count()).group_by(table.state)
    return {str(state): int(number) for state, number in tx.session.exec(query)}


def numbers_beside(
    tx: Queries, table: type[SlideRow] | type[CaseRow], shown: Sequence[SlideRow | CaseRow]
) -> dict[str, int]:
    """Return the number of rows in each state that are not among those `shown`."""
    return dict(Counter(numbers(tx, table)) - Counter(str(row.state) for row in shown))


def newest(tx: Queries, table: type[Row], limit: int) -> list[Row]:
    """Return at most `limit` rows: those in trouble, then those under way, then the others.

    Of each the newest change comes first. Trouble leaves the rows under way half of the limit.
    """
    states = numbers(tx, table)
    trouble = _newest(tx, table, [state for state in states if state in TROUBLE], limit)
    going = [state for state in states if state not in ENDED | TROUBLE]
    under_way = _newest(tx, table, going, limit)
    del trouble[max(limit - len(under_way), limit - limit // 2) :]
    found = (trouble + under_way)[:limit]
    quiet = [state for state in states if state in ENDED or state == CaseState.WAITING]
    return found + _newest(tx, table, quiet, limit - len(found), asked=False)


def _newest(
    tx: Queries, table: type[Row], states: Sequence[str], limit: int, *, asked: bool = True
) -> list[Row]:
    """Return the newest rows of some states; of waiting ones those that are `asked` for or not."""
    rows: list[Row] = []
    for state in states:  # reads the index by state and time, and of waiting ones the rows
        query = select(table).where(table.state == state)
        if state == CaseState.WAITING:
            query = query.where((col(table.reason) != NOT_ASKED) == asked)
        rows += tx.session.exec(query.order_by(col(table.changed_at).desc()).limit(limit))
    return sorted(rows, key=lambda row: -row.changed_at)[:limit]


def slides_by_block(tx: Queries, cases: Sequence[CaseRow]) -> dict[Block, list[SlideRow]]:
    """Return the slides of the cases' blocks, oldest first."""
    found: dict[Block, list[SlideRow]] = defaultdict(list)
    query = select(SlideRow).where(col(SlideRow.accession).in_({row.accession for row in cases}))
    for row in tx.session.exec(query.order_by(col(SlideRow.id))):
        found[row.accession, row.block].append(row)
    return found


def cases_by_block(tx: Queries, slides: Sequence[SlideRow]) -> dict[Block, list[CaseRow]]:
    """Return the cases of the slides' blocks, oldest first."""
    found: dict[Block, list[CaseRow]] = defaultdict(list)
    query = select(CaseRow).where(col(CaseRow.accession).in_({row.accession for row in slides}))
    for row in tx.session.exec(query.order_by(col(CaseRow.id))):
        found[row.accession, row.block].append(row)
    return found


def deliveries_by_case(tx: Queries, cases: Sequence[CaseRow]) -> dict[int, list[DeliveryRow]]:
    """Return the deliveries of each case by its id, in the order of sending."""
    found: dict[int, list[DeliveryRow]] = defaultdict(list)
    query = (
        select(CaseDeliveryRow.case_id, DeliveryRow)
        .join(DeliveryRow, col(DeliveryRow.id) == CaseDeliveryRow.delivery_id)
        .where(col(CaseDeliveryRow.case_id).in_([row.id for row in cases]))
    )
    for case_id, row in tx.session.exec(query.order_by(col(DeliveryRow.id))):
        found[case_id].append(row)
    return found


def events_by_subject(
    tx: Queries, rows: Sequence[SlideRow] | Sequence[CaseRow]
) -> dict[str, list[Any]]:
    """Return the newest events of each row by its subject, oldest first.

    They are the columns of `EventRow` and no objects of the ORM, which would cost most of the time
    of a long report.
    """
    found: dict[str, list[Any]] = defaultdict(list)
    events = SQLModel.metadata.tables[str(EventRow.__tablename__)]
    query = events.select().where(events.c.subject.in_([row.subject for row in rows]))
    for event in tx.session.connection().execute(query.order_by(events.c.id)):
        found[event.subject].append(event)
    return {subject: listed[-MOST_EVENTS:] for subject, listed in found.items()}
