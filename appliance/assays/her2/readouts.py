"""A score in the words of two, three and four classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from appliance.domain import Binary, Her2Score, ResultCategory

ThreeWay = Literal["0", "low", "high", "pending ISH"]


class Ish(StrEnum):
    """Result of in situ hybridisation."""

    NEGATIVE = "negative"  #: HER2 is not amplified
    POSITIVE = "positive"  #: HER2 is amplified


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOuts:
    """`three_way` is None outside breast: low is a breast idea."""

    binary: Binary
    three_way: ThreeWay | None
    four_way: Her2Score


def read_outs(
    score: Her2Score,
    *,
    organ: str,
    category: ResultCategory | None = None,
    ish: Ish | None = None,
) -> ReadOuts:
    """Binary, 3-way and 4-way read-out of a score.

    Binary (ASCO/CAP 2018; arXiv 2512.22335): 0 and 1+ negative, 2+ equivocal, 3+ positive.
    A guideline's own `category` is stronger than the score, and what asks for a retest or ISH is
    equivocal until both are in. 3-way (arXiv 2503.22069, Table 2): low is 1+ or 2+ with negative
    ISH, high 3+ or 2+ with positive ISH; 2+ without `ish` is pending, never low. `ish` settles
    the binary read-out of a 2+ as well (same table), but no category: those ask for a retest too.
    """
    settled = ish if category is None and score is Her2Score.TWO else None
    return ReadOuts(
        binary=_binary(score, category) if settled is None else settled.value,
        three_way=_three_way(score, settled) if organ == "breast" else None,
        four_way=score,
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
