"""The work list: results on which no person said a word yet, in the order in which one decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import ColumnElement, case, false, literal, or_
from sqlalchemy import select as columns
from sqlmodel import SQLModel, col, select

from appliance.assays.registry import assays
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow, id_named
from appliance.operations.accessions import holds_text
from appliance.settings.settings import Settings
from dashboard.actions import SPOKEN, has_result
from dashboard.lines import CaseLine, case_line
from dashboard.masking import hides

PAGE_CASES = 25
"""Cases on a page of the list."""
UNCERTAIN = "2+"
"""Score that asks for another test: such cases come before the others."""
_CODE = re.compile(r"[A-Za-z0-9._-]+")
"""Code of a reason, also of a site's own assay; other text would be looked for in parameters."""


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
    "score": ("Score", (col(CaseRow.score).desc(), *_OLDEST)),  # and by `_rank` before it
    "accession": ("Accession", (col(CaseRow.accession).asc(), col(CaseRow.block).asc(), *_OLDEST)),
}
"""Orders of the list by their name in the address, with their words; the first one is the usual."""


def _rank() -> ColumnElement[Any]:
    """Return the order by the place of a score among those of its assay, the highest first."""
    ranks: dict[str, int] = {}
    for assay in assays():
        for rank, score in enumerate(assay.scores, 1):
            ranks[score] = max(rank, ranks.get(score, 0))  # of two assays with one word
    return case(ranks, value=col(CaseRow.score), else_=0).desc() if ranks else literal(0)


class SpokenCases:
    """Cases on whose result, as it was last made, a person said a word; by the ledger's events.

    Events are appended and never changed, so each is read once: a question for each of 50,000 cases
    would cost 0.2 s at each look. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._ids: set[int] = set()
        self._last = (0, "")  # id and hash of the newest event that was read

    def now(self, tx: Queries) -> frozenset[int]:
        """Return the ids of these cases, after the events that are new since the last look."""
        event = SQLModel.metadata.tables[str(EventRow.__tablename__)].c
        connection = tx.session.connection()
        with self._lock:
            number, known = self._last
            there = connection.execute(columns(event.hash).where(event.id == number)).scalar()
            if (there or "") != known:  # another ledger: a backup was restored
                self._ids, number = set(), 0
            newest = connection.execute(
                columns(event.id, event.hash).order_by(event.id.desc()).limit(1)
            ).first()
            if newest is not None and newest.id != number:
                for subject, to_state in connection.execute(
                    columns(event.subject, event.to_state)
                    .where(
                        event.id > number,
                        or_(event.code.in_(SPOKEN), event.to_state == CaseState.READY),
                    )
                    .order_by(event.id)
                ):
                    if (case := id_named(subject, "case")) is None:
                        continue
                    if to_state == CaseState.READY:  # the result is made anew
                        self._ids.discard(case)
                    else:
                        self._ids.add(case)
            self._last = (0, "") if newest is None else (newest.id, newest.hash)
            return frozenset(self._ids)


def read_work_list(
    reader: LedgerReader,
    settings: Settings,
    spoken: SpokenCases,
    *,
    find: str = "",
    reason: str = "",
    order: str = "",
    number: int = 1,
) -> WorkList:
    """Return a page of the cases that wait for a pathologist, in one of `ORDERS`.

    Usually those to be reviewed come first, then those of `UNCERTAIN`, then the oldest. `find` is
    looked for in accession, block and score; `reason` is the code of a reason for review. A page
    beyond the last one is the last one. With hidden names accessions neither find nor order.
    """
    states = [state for state in CaseState if has_result(state)]
    chosen: list[ColumnElement[bool]] = [col(CaseRow.state).in_(states)]
    if reason:
        has_one = col(CaseRow.review) != "[]"  # of these there is an index
        chosen += [has_one, col(CaseRow.review).contains(f'"code": "{reason}"', autoescape=True)]
        if not _CODE.fullmatch(reason):
            chosen.append(false())
    hidden = hides(settings)
    if find:
        searched = [col(CaseRow.block), col(CaseRow.score)]
        found_in = [column.icontains(find, autoescape=True) for column in searched]
        if not hidden:
            found_in.append(holds_text(col(CaseRow.accession), find, settings))
        chosen.append(or_(*found_in))
    _, ordered = ORDERS.get("" if hidden and order == "accession" else order, ORDERS[""])
    if order == "score":
        ordered = (_rank(), *ordered)
    with reader.reading() as tx:
        done = spoken.now(tx)
        found = tx.session.exec(select(CaseRow.id).where(*chosen).order_by(*ordered))
        ids = [case_id for case_id in found if case_id not in done]
        total = len(ids)
        pages = max(1, -(-total // PAGE_CASES))
        number = min(max(1, number), pages)
        shown = ids[(number - 1) * PAGE_CASES : number * PAGE_CASES]
        rows = tx.session.exec(select(CaseRow).where(col(CaseRow.id).in_(shown))).all()
        cases = tuple(
            case_line(row, settings) for row in sorted(rows, key=lambda row: shown.index(row.id))
        )
    return WorkList(cases=cases, number=number, pages=pages, total=total)
