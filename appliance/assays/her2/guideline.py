"""Scoring guidelines as data: read them, and apply them to shares and clusters."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from appliance.domain import Her2Score, ResultCategory
from appliance.errors import SettingsError
from appliance.findings.measured import CellFacts

GUIDELINES = Path(__file__).parent / "guidelines"
MOST_DIGITS = 9
"""Most digits behind the point that shares are told with."""
STEP_PERCENT = 1e-6
"""Step to either side of a limit, in percentage points, at which the outcome is tried."""

ClusterCells = Mapping[str, int]
"""Cells in the largest cluster of tumor cells of at least a class, by class: 1+, 2+, 3+."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rule of a guideline: `score`, and `category` if printed, for a share of stained tumor.

    The summed percentage (0-100) of `classes` must be `over` (>) or `from_` (>=), and `below` (<)
    or `up_to` (<=), the limits that are given. `detection_limit` (>=) is the appliance's own limit,
    which separates a printed "any" from none. A rule with `cluster_from_cells` requires a cluster
    of at least that many cells instead, and uses percentages only where clusters were not counted.
    `text` is the rule as the guideline prints it.
    """

    score: Her2Score
    classes: tuple[str, ...]
    text: str
    over: float | None = None
    from_: float | None = None
    below: float | None = None
    up_to: float | None = None
    detection_limit: float | None = None
    cluster_from_cells: int | None = None
    category: ResultCategory | None = None

    @property
    def outcome(self) -> ResultCategory | Her2Score:
        """Meaning of the rule for the patient: the category, else the score."""
        return self.category or self.score

    @property
    def limits(self) -> tuple[float, ...]:
        """Percentages at which the rule begins or ceases to hold."""
        limits = (self.over, self.from_, self.below, self.up_to, self.detection_limit)
        return tuple(limit for limit in limits if limit)

    def holds(self, total: float, cluster_cells: ClusterCells | None) -> bool:
        """Return whether the rule applies; `total` is the summed percentage of its classes."""
        if self.cluster_from_cells is not None and cluster_cells is not None:
            largest = max(cluster_cells[name] for name in self.classes)
            return largest >= self.cluster_from_cells
        return (
            (self.over is None or total > self.over)
            and (self.from_ is None or total >= self.from_)
            and (self.below is None or total < self.below)
            and (self.up_to is None or total <= self.up_to)
            and (self.detection_limit is None or total >= self.detection_limit)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comments:
    """Comments printed beside a breast score; the score itself is unchanged (ASCO/CAP 2023).

    A score of 0 with at least `detection_limit` percent of stained tumor area is ultralow, else
    null.
    """

    low: str
    low_if_ish_negative: str
    ultralow: str
    null: str
    detection_limit: float

    def of(self, score: Her2Score, percent: Mapping[str, float]) -> str:
        """Comment on a score, from percentages (0-100) per class; empty for 3+."""
        if score is Her2Score.THREE:
            return ""
        if score is Her2Score.TWO:
            return self.low_if_ish_negative
        if score is Her2Score.ONE:
            return self.low
        stained = _total(("1+", "2+", "3+"), percent)
        return self.ultralow if stained >= self.detection_limit else self.null


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """Scoring scheme, read from a file in `GUIDELINES`; `comments` is None where it has none."""

    name: str
    title: str
    version: str
    organ: str
    specimens: tuple[str, ...]
    source: str
    status: str
    rules: tuple[Rule, ...]
    comments: Comments | None

    @property
    def asks_for_clusters(self) -> bool:
        """True where a cluster of cells decides, provided that cells were counted."""
        return any(rule.cluster_from_cells is not None for rule in self.rules)

    def is_by_clusters(self, cells: CellFacts | None) -> bool:
        """Return whether a cluster of the cells of a case decided its score."""
        return self.asks_for_clusters and cells is not None and cells.counted > 0

    @property
    def has_categories(self) -> bool:
        """True where a result is a category, which the score alone does not tell."""
        return any(rule.category is not None for rule in self.rules)

    def decide(
        self, percent: Mapping[str, float], cluster_cells: ClusterCells | None = None
    ) -> Rule:
        """Return the rule that decides, the first that holds, with its score and category.

        `percent` is the share (0-100) of classes 0, 1+, 2+, 3+ in the tumor area. `cluster_cells`
        is None where no cells were counted.
        """
        return self._first(self._totals(percent), cluster_cells)

    def score(
        self, percent: Mapping[str, float], cluster_cells: ClusterCells | None = None
    ) -> Her2Score:
        """Score of the rule that decides."""
        return self.decide(percent, cluster_cells).score

    def digits(self, percent: Mapping[str, float], cells: CellFacts | None, least: int) -> int:
        """Return how many digits, at least `least`, tell the shares so that their rule holds."""
        clusters = cells.largest_cluster if cells and self.is_by_clusters(cells) else None
        rule = self.decide(percent, clusters)
        for number in range(least, MOST_DIGITS):
            told = {name: round(share, number) for name, share in percent.items()}
            if self.decide(told, clusters) == rule:
                return number
        return MOST_DIGITS

    def distance(
        self, percent: Mapping[str, float], cluster_cells: ClusterCells | None = None
    ) -> float:
        """Percentage points to the nearest limits at which the outcome changes.

        The outcome is the category where the scheme has one, else the score. Where two rules give
        it, both have to cease to hold, and the farther of their limits counts. The distance is 100
        where no limit changes the outcome, for example where counted clusters decide.
        """
        totals = self._totals(percent)
        here = self._first(totals, cluster_cells).outcome
        places = {classes: [(0.0, total)] for classes, total in totals.items()}
        for rule in self.rules:
            total = totals[rule.classes]
            places[rule.classes] += [
                (abs(total - limit), beside)
                for limit in rule.limits
                for beside in (limit - STEP_PERCENT, limit, limit + STEP_PERCENT)
            ]
        distances = [
            max(distance for distance, _ in moved)
            for moved in product(*places.values())
            if self._first(
                {name: at for name, (_, at) in zip(places, moved, strict=True)}, cluster_cells
            ).outcome
            != here
        ]
        return min(distances, default=100.0)

    def comment(self, score: Her2Score, percent: Mapping[str, float]) -> str:
        """Comment beside the score: low, ultralow or null; empty for 3+ and outside breast."""
        return "" if self.comments is None else self.comments.of(score, percent)

    def _totals(self, percent: Mapping[str, float]) -> dict[tuple[str, ...], float]:
        return {rule.classes: _total(rule.classes, percent) for rule in self.rules}

    def _first(
        self, totals: Mapping[tuple[str, ...], float], cluster_cells: ClusterCells | None
    ) -> Rule:
        return next(rule for rule in self.rules if rule.holds(totals[rule.classes], cluster_cells))


def _total(classes: Sequence[str], percent: Mapping[str, float]) -> float:
    # Rounded: float shares of exactly 10 % may sum to 9.999999999999998 %.
    return round(sum(percent[name] for name in classes), 9)


def load_guideline(name: str) -> Guideline:
    """Read a guideline.

    Raises
    ------
    SettingsError
        If there is no such file; the message lists the guidelines that exist.
    """
    path = GUIDELINES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in GUIDELINES.glob("*.toml")))
        raise SettingsError(f"scoring.guideline: no guideline {name!r}. There are: {known}.")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    comments = raw.pop("comments", None)
    return Guideline(
        specimens=tuple(raw.pop("specimens")),
        rules=tuple(_rule(rule) for rule in raw.pop("rules")),
        comments=None if comments is None else Comments(**comments),
        **raw,
    )


def _rule(raw: dict[str, Any]) -> Rule:
    category = raw.pop("category", None)
    return Rule(
        score=Her2Score(raw.pop("score")),
        classes=tuple(raw.pop("classes")),
        from_=raw.pop("from", None),
        category=None if category is None else ResultCategory(category),
        **raw,
    )


def all_guidelines() -> tuple[Guideline, ...]:
    """All guidelines, sorted by name."""
    return tuple(load_guideline(file.stem) for file in sorted(GUIDELINES.glob("*.toml")))
