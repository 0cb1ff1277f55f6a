"""The work list: results on which no person said a word yet, in the order in which one decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


_OLDEST = (col(CaseRow.id).asc(),)
_REVIEW = (col(CaseRow.review) == "[]", col(CaseRow.score) != UNCERTAIN, *_OLDEST)
ORDERS: dict[str, tuple[str, tuple[ColumnElement[Any], ...]]] = {
    "": ("Review first", _REVIEW),
    "oldest": ("Oldest", _OLDEST),
    "newest": ("Newest", (col(CaseRow.id).desc(),)),
    "score": ("Score", (col(CaseRow.score).desc(), *_OLDEST)),
    "accession": ("Accession", (col(CaseRow.accession).asc(), col(CaseRow.block).asc(), *_OLDEST)),
}
"""Orders of the list by their name in the address, with their words; the first one is the usual."""


def read_work_list(
    reader: LedgerReader,
    settings: Settings,
    *,
    find: str = "",
    reason: str = "",
    order: str = "",
    number: int = 1,
) -> WorkList:
    """Return a page of the cases that wait for a pathologist, in one of `ORDERS`.

    Usually those to be reviewed come first, then those of `UNCERTAIN`, then the oldest. `find` is
    looked for in accession, block and score; `reason` is the code of a reason for review. A page
    beyond the last one is the last one.
    """
    states = [state for state in CaseState if has_result(state)]
    chosen = [col(CaseRow.state).in_(states), ~_spoken_on()]
    if reason:
        has_one = col(CaseRow.review) != "[]"  # of these there is an index
        chosen += [has_one, col(CaseRow.review).contains(f'"code": "{reason}"', autoescape=True)]
    if find:
        chosen.append(
            or_(
                *(
                    column.icontains(find, autoescape=True)
                    for column in (col(CaseRow.accession), col(CaseRow.block), col(CaseRow.score))
                )
            )
        )
    _, columns = ORDERS.get(order, ORDERS[""])
    with reader.reading() as tx:
        total = tx.session.exec(select(func.count()).select_from(CaseRow).where(*chosen)).one()
        pages = max(1, -(-total // PAGE_CASES))
        number = min(max(1, number), pages)
        rows = tx.session.exec(
            select(CaseRow)
            .where(*chosen)
            .order_by(*columns)
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
