"""Facts of the quality page: what the ledger's results look like, and people beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest
from sqlalchemy import func
from sqlmodel import col, select

from appliance.ledger.lifecycle import CaseState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow
from appliance.operations.agreement import compare_with_people
from appliance.settings.settings import Settings
from dashboard.actions import has_result

MONTHS = 12
"""Most months of the review rate, the newest ones."""
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

    `scores` has each assay's scores as shares of its results, `review` the results to be reviewed
    by the month (UTC) in which the case began, newest first. `people` is that of
    `compare_with_people`, by assay.
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
    with reader.reading() as tx:
        by_score = tx.session.exec(
            select(CaseRow.assay, CaseRow.score, func.count())
            .where(ended)
            .group_by(CaseRow.assay, CaseRow.score)
            .order_by(CaseRow.assay, CaseRow.score)
        ).all()
        by_month = tx.session.exec(
            select(month, func.sum(col(CaseRow.review) != "[]"), func.count())
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
