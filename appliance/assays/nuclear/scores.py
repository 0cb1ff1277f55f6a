"""Scores of nuclear stain beside the percentage: average intensity, Allred score, H-score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS = 9
"""Digits to which numbers are rounded before a limit is asked: float shares of exactly 1 % may sum
to 0.9999999999999999 %."""
FORMER_PROPORTIONS = (0.0, 1.0, 10.0, 100 / 3, 200 / 3)
PROPORTIONS = tuple(round(limit, DIGITS) for limit in FORMER_PROPORTIONS)
"""Percentages above which the proportion score is 1, 2, 3, 4, 5; 1 % itself is 2 (below)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allred:
    """Allred score: proportion (0-5) plus intensity (0-3)."""

    proportion: int
    intensity: int

    @property
    def total(self) -> int:
        """Sum: 0, or 2 to 8."""
        return self.proportion + self.intensity


def positive_percent(percent: Sequence[float]) -> float:
    """Percentage (0-100) of positive nuclei, of the shares of negative, weak, moderate, strong."""
    return round(sum(percent[1:]), DIGITS)


def interval(positive: int, total: int) -> tuple[float, float]:
    """Percentages between which the true one lies in 95 of 100 draws of so many nuclei.

    Wilson's interval of `positive` of `total` nuclei (J Am Stat Assoc 1927;22:209).
    """
    share, z2 = positive / total, 1.96**2
    middle = share + z2 / (2 * total)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * total)) / total)
    low, high = ((middle + sign * half) / (1 + z2 / total) for sign in (-1, 1))
    return 100 * low, 100 * high


def average_intensity(percent: Sequence[float]) -> float | None:
    """Mean class of the positive nuclei, 1 (weak) to 3 (strong); None without any."""
    positive = positive_percent(percent)
    return h_score(percent) / positive if positive > 0 else None


def h_score(percent: Sequence[float]) -> float:
    """H-score: Σ class (0-3) x % of tumor nuclei, 0-300."""
    return sum(grade * share for grade, share in enumerate(percent))


def allred(percent: Sequence[float], *, as_before: bool = False) -> Allred:
    """Allred score of the shares (0-100) of negative, weak, moderate and strong nuclei.

    Proportion: 0 none, 1 below 1/100, 2 from 1/100 to 1/10, 3 to 1/3, 4 to 2/3, 5 above. Intensity:
    the average of the positive nuclei, 1 weak, 2 intermediate, 3 strong; a half is rounded up
    (Allred et al., Mod Pathol 1998;11:155; Harvey et al., J Clin Oncol 1999;17:1474).
    `as_before`: as objects of former editions state it, whose thirds and mean were not rounded.
    """
    positive = positive_percent(percent)
    if not positive:
        return Allred(proportion=0, intensity=0)
    mean = round(h_score(percent) / sum(percent[1:]), DIGITS)
    limits = PROPORTIONS
    if as_before:
        mean, limits = h_score(percent) / positive, FORMER_PROPORTIONS
    above = sum(positive > limit for limit in limits)
    return Allred(
        proportion=2 if positive == 1 else above, intensity=min(3, max(1, int(mean + 0.5)))
    )
