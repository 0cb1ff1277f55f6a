"""Facts of the quality page: what the ledger's results look like, and people beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest
from sqlalchemy import Integer, String, cast, func, literal
from sqlmodel import col, select

from appliance.ledger.lifecycle import CaseState
from appliance.ledger.queries import REASONS
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow
from appliance.operations.agreement import compare_with_people
from appliance.settings.settings import Settings
from dashboard.actions import has_result

MONTHS = 12
"""Most months of the review rate, the newest ones."""
_GIVEN = f"$.{REASONS}"
FEW = 20
"""Fewer cases than these are too few for a proportion to say much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A proportion `part` of `n` cases."""

    name: str
    part: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval; (0, 1) without cases."""
        if not self.n:
            return 0.0, 1.0
        found = binomtest(self.part, self.n).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Facts of the quality page.

    `scores` has each assay's scores as shares of its results, `review` the results that the
    appliance gave for review, by the month (UTC) in which the case began, newest first. `people` is
    that of `compare_with_people`, by assay.
    """

    scores: dict[str, tuple[Share, ...]]
    review: tuple[Share, ...]
    people: dict[str, dict[str, Any]]


def read_quality(reader: LedgerReader, settings: Settings) -> Quality:
    """Return the facts of all cases with a result; kappa's interval costs seconds, so keep them.

    Raises
    ------
    LedgerError
        If the ledger is damaged or locked.
    """
    ended = col(CaseRow.state).in_([state for state in CaseState if has_result(state)])
    month = func.strftime("%Y-%m", CaseRow.created_at, "unixepoch")
    # A person's word answers the reasons, and empties the case's list of them.
    # One pass: beside max(id), SQLite gives the other columns of the row that has it.
    given = (
        select(
            EventRow.subject,
            func.max(EventRow.id),
            func.json_extract(EventRow.params, _GIVEN).label("reasons"),
        )
        .where(
            EventRow.to_state == CaseState.SCORED, func.json_extract(EventRow.params, _GIVEN) >= 0
        )
        .group_by(EventRow.subject)
        .subquery()
    )
    subject = literal("case-") + cast(CaseRow.id, String)
    # A sum of truth values would be a truth value again, never more than 1.
    to_review = func.coalesce(given.c.reasons > 0, col(CaseRow.review) != "[]")
    with reader.reading() as tx:
        by_score = tx.session.exec(
            select(CaseRow.assay, CaseRow.score, func.count())
            .where(ended)
            .group_by(CaseRow.assay, CaseRow.score)
            .order_by(CaseRow.assay, CaseRow.score)
        ).all()
        by_month = tx.session.exec(
            select(month, func.sum(cast(to_review, Integer)), func.count())
            .join(given, given.c.subject == subject, isouter=True)
            .where(ended)
            .group_by(month)
            .order_by(month.desc())
            .limit(MONTHS)
        ).all()
    totals: dict[str, int] = {}
    for assay, _, number in by_score:
        totals[assay] = totals.get(assay, 0) + number
    return Quality(
        scores={
            name: tuple(
                Share(name=score or "no score", part=number, n=totals[name])
                for assay, score, number in by_score
                if assay == name
            )
            for name in totals
        },
        review=tuple(Share(name=name, part=int(part), n=n) for name, part, n in by_month),
        people=compare_with_people(settings)["assays"],
    )
