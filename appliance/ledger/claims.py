"""Claims: which slide or case is worked on next, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, literal_column, update
from sqlmodel import Session, col, select

from appliance.ledger.lifecycle import CaseState, State
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.waits import due

Row = TypeVar("Row", SlideRow, CaseRow)

_NOBODY: ColumnElement[str] = literal_column("''")
"""Literal of no claim. The partial indexes have it too; a parameter would not match them."""


def claim(
    session: Session,
    table: type[Row],
    states: Sequence[State],
    worker: str,
    now: float,
    *,
    assays: Sequence[str] | None = None,
    stats: Sequence[bool] = (True, False),
    oldest: bool,
) -> Row | None:
    """Claim the row that is next with a fresh token and return it; None where none is free.

    STAT rows come first, then those of an earlier place in `states`, then the oldest; `stats`
    restricts them. `oldest` takes the oldest row whatever it is. The transaction holds the write
    lock, so nobody else claims the same row.
    """
    found: list[int] = []
    for stat, state in product(stats, states):  # one seek in an index each
        query = select(table.id).where(
            col(table.state) == state.value,
            col(table.stat).is_(stat),
            col(table.claimed_by) == _NOBODY,
            due(col(table.not_before), now),
        )
        if assays is not None and issubclass(table, CaseRow):
            query = query.where(col(table.assay).in_(assays))
        row_id = session.exec(query.order_by(col(table.id)).limit(1)).first()
        if row_id is not None:
            found.append(row_id)
            if not oldest:
                break
    if not found:
        return None
    row = session.get(table, min(found), populate_existing=True)
    if row is not None:
        row.claimed_by, row.claim_token = worker, uuid4().hex
        session.add(row)
        session.flush()
    return row


def ahead(session: Session, now: float, assays: Sequence[str], most: int) -> int:
    """Return how many cases wait aligned, or are being aligned; `most` of each are counted."""
    aligned = select(CaseRow.id).where(
        col(CaseRow.state) == CaseState.ALIGNED.value,
        col(CaseRow.claimed_by) == _NOBODY,
        due(col(CaseRow.not_before), now),
        col(CaseRow.assay).in_(assays),
    )
    begun = select(CaseRow.id).where(
        col(CaseRow.state) == CaseState.READY.value, col(CaseRow.claimed_by) != _NOBODY
    )
    return sum(len(session.exec(query.limit(most)).all()) for query in (aligned, begun))


def release(session: Session) -> int:
    """Release all claims and return how many."""
    freed = 0
    for table in (SlideRow, CaseRow):
        claimed = col(table.claimed_by) != _NOBODY
        statement = update(table).where(claimed).values(claimed_by="", claim_token="")
        freed += session.connection().execute(statement).rowcount
    return freed
