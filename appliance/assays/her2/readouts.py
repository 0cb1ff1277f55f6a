"""Read-outs of a score in two, three and four classes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from appliance.domain import Binary, Her2Score, ResultCategory
from appliance.findings.findings import ReadOuts

ThreeWay = Literal["0", "low", "high", "pending ISH"]


class Ish(StrEnum):
    """Result of in situ hybridization."""

    NEGATIVE = "negative"  #: HER2 is not amplified
    POSITIVE = "positive"  #: HER2 is amplified


def read_outs(
    score: Her2Score,
    *,
    organ: str,
    category: ResultCategory | None = None,
    ish: Ish | None = None,
) -> ReadOuts:
    """Binary, 3-way and 4-way read-out of a score.

    Binary (ASCO/CAP 2018; arXiv 2512.22335): 0 and 1+ are negative, 2+ is equivocal, 3+ positive.
    A guideline's own `category` overrides the score. A category that asks for a retest or ISH is
    equivocal until both results are in. 3-way (arXiv 2503.22069, Table 2), breast only: low is 1+,
    or 2+ with negative ISH; high is 3+, or 2+ with positive ISH; 2+ without `ish` is pending, never
    low. `ish` also settles the binary read-out of a 2+ (same table), but not that of a category,
    which asks for a retest too.
    """
    settled = ish if category is None and score is Her2Score.TWO else None
    return ReadOuts(
        binary=_binary(score, category) if settled is None else settled.value,
        three_way=_three_way(score, settled) if organ == "breast" else None,
        four_way=score.value,
    )


def _binary(score: Her2Score, category: ResultCategory | None) -> Binary:
    if category is None:
        return score.binary
    if category is ResultCategory.NEGATIVE:
        return "negative"
    return "positive" if category is ResultCategory.POSITIVE else "equivocal"


def _three_way(score: Her2Score, ish: Ish | None) -> ThreeWay:
    if score is Her2Score.ZERO:
        return "0"
    if score is Her2Score.TWO and ish is None:
        return "pending ISH"
    return "high" if score is Her2Score.THREE or ish is Ish.POSITIVE else "low"
