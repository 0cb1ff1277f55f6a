"""The work list: results on which no person said a word yet, in the order in which one decides."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, literal, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from appliance.ledger.lifecycle import CaseState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow
from appliance.settings.settings import Settings
from dashboard.actions import SPOKEN, has_result
from dashboard.lines import CaseLine, case_line

PAGE_CASES = 25
"""Cases on a page of the list."""
UNCERTAIN = "2+"
"""Score that asks for another test: such cases come before the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList:
    """A page of the list, `number` counted from 1, and how many cases and pages there are."""

    cases: tuple[CaseLine, ...]
    number: int
    pages: int
    total: int


def read_work_list(
    reader: LedgerReader, settings: Settings, *, find: str = "", number: int = 1
) -> WorkList:
    """Return a page of the cases that wait for a pathologist.

    Those to be reviewed come first, then those of `UNCERTAIN`, then the oldest. `find` is looked
    for in accession, block and score. A page beyond the last one is the last one.
    """
    states = [state for state in CaseState if has_result(state)]
    chosen = [col(CaseRow.state).in_(states), ~_spoken_on()]
    if find:
        chosen.append(
            or_(
                *(
                    column.icontains(find, autoescape=True)
                    for column in (col(CaseRow.accession), col(CaseRow.block), col(CaseRow.score))
                )
            )
        )
    order = (
        col(CaseRow.review) == "[]",
        col(CaseRow.score) != UNCERTAIN,
        col(CaseRow.id),
    )
    with reader.reading() as tx:
        total = tx.session.exec(select(func.count()).select_from(CaseRow).where(*chosen)).one()
        pages = max(1, -(-total // PAGE_CASES))
        number = min(max(1, number), pages)
        rows = tx.session.exec(
            select(CaseRow)
            .where(*chosen)
            .order_by(*order)
            .limit(PAGE_CASES)
            .offset((number - 1) * PAGE_CASES)
        )
        cases = tuple(case_line(row, settings) for row in rows)
    return WorkList(cases=cases, number=number, pages=pages, total=total)


def _spoken_on() -> ColumnElement[bool]:
    """Return the condition: a person confirmed or corrected the score since it was last made."""
    subject = literal("case-").concat(col(CaseRow.id))
    later = aliased(EventRow)
    made_anew = (
        select(later.id)
        .where(
            col(later.subject) == subject,
            col(later.to_state) == CaseState.READY,
            col(later.id) > col(EventRow.id),
        )
        .exists()
    )
    return (
        select(EventRow.id)
        .where(
            col(EventRow.subject) == subject,
            col(EventRow.code).in_(SPOKEN),
            ~made_anew,
        )
        .exists()
    )
