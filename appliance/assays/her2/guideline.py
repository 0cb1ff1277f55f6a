"""Guidelines of scoring, as data: read, choose by organ and specimen, and apply."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from appliance.domain import Her2Score, ResultCategory
from appliance.errors import SettingsError
from appliance.findings.findings import Reason, ReviewReason
from appliance.intake.identify import Sidecar
from appliance.settings.scoring import Scoring, Specimen

GUIDELINES = Path(__file__).parent / "guidelines"
SPECIMENS = get_args(Specimen)
"""Kinds of specimen that guidelines know."""
STEP_PERCENT = 1e-6
"""Just beside a limit, in percentage points."""
SHOWN_WORD = 40
"""Characters of a sidecar's word that a reason for review repeats."""

ClusterCells = Mapping[str, int]
"""For 1+, 2+ and 3+: cells in the largest cluster of tumor cells stained at least so strongly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`score`, and `category` where the scheme has them, for a share of stained tumor.

    The summed percentage (0-100) of `classes` must be `over` (>) or `from_` (>=), and `below` (<)
    or `up_to` (<=), the limits that are given. `detection_limit` (>=) is the appliance's own: what
    a printed "any" needs to be told from none. A rule with `cluster_from_cells` asks for a cluster
    of so many cells instead, and for percentages only where clusters were not counted. `text` is
    the rule as the guideline prints it.
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
        """What the rule means for the patient: the category, else the score."""
        return self.category or self.score

    @property
    def limits(self) -> tuple[float, ...]:
        """The percentages at which the rule begins or ceases to hold."""
        limits = (self.over, self.from_, self.below, self.up_to, self.detection_limit)
        return tuple(limit for limit in limits if limit)

    def holds(self, total: float, cluster_cells: ClusterCells | None) -> bool:
        """Whether the rule applies; `total` is the summed percentage of its classes."""
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
    """What stands beside a breast score; never the score itself (ASCO/CAP 2023).

    From `detection_limit` percent of stained tumor area on, a 0 is ultralow and not null.
    """

    low: str
    low_if_ish_negative: str
    ultralow: str
    null: str
    detection_limit: float

    def of(self, score: Her2Score, percent: Mapping[str, float]) -> str:
        """The comment on a score of percentages (0-100) per class; empty for 3+."""
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
    """A scheme of scoring, read from a file in `GUIDELINES`; `comments` where it has them."""

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
        """Whether a cluster of cells decides, where cells were counted."""
        return any(rule.cluster_from_cells is not None for rule in self.rules)

    def decide(
        self, percent: Mapping[str, float], cluster_cells: ClusterCells | None = None
    ) -> Rule:
        """The rule that decides, with its score and category: the first that holds.

        `percent` (0-100) per class 0, 1+, 2+, 3+ of the tumor area; `cluster_cells` where cells
        were counted.
        """
        return self._first(self._totals(percent), cluster_cells)

    def score(
        self, percent: Mapping[str, float], cluster_cells: ClusterCells | None = None
    ) -> Her2Score:
        """Score of the rule that decides."""
        return self.decide(percent, cluster_cells).score

    def distance(
        self, percent: Mapping[str, float], cluster_cells: ClusterCells | None = None
    ) -> float:
        """Percentage points to the nearest limit beyond which the outcome would be another one.

        The outcome is the category where the scheme has one, else the score. 100 where no limit
        would change it, as where counted clusters decide.
        """
        totals = self._totals(percent)
        here = self._first(totals, cluster_cells).outcome
        distances = [
            abs(totals[rule.classes] - limit)
            for rule in self.rules
            for limit in rule.limits
            for beside in (limit - STEP_PERCENT, limit, limit + STEP_PERCENT)
            if self._first(totals | {rule.classes: beside}, cluster_cells).outcome != here
        ]
        return min(distances, default=100.0)

    def comment(self, score: Her2Score, percent: Mapping[str, float]) -> str:
        """What stands beside the score: low, ultralow, null; empty for 3+ and outside breast."""
        return "" if self.comments is None else self.comments.of(score, percent)

    def _totals(self, percent: Mapping[str, float]) -> dict[tuple[str, ...], float]:
        return {rule.classes: _total(rule.classes, percent) for rule in self.rules}

    def _first(
        self, totals: Mapping[tuple[str, ...], float], cluster_cells: ClusterCells | None
    ) -> Rule:
        return next(rule for rule in self.rules if rule.holds(totals[rule.classes], cluster_cells))


def _total(classes: Sequence[str], percent: Mapping[str, float]) -> float:
    # Shares are floats: those that make up 10 % must not sum to 9.999999999999998 %.
    return round(sum(percent[name] for name in classes), 9)


def load_guideline(name: str) -> Guideline:
    """Read a guideline.

    Raises
    ------
    SettingsError
        If there is no such file; the message lists those there are.
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
    """Every guideline there is, by name."""
    return tuple(load_guideline(file.stem) for file in sorted(GUIDELINES.glob("*.toml")))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenGuideline:
    """The guideline of a case, and why a person should look at the choice."""

    guideline: Guideline
    reasons: tuple[ReviewReason, ...] = ()


def choose_guideline(scoring: Scoring, sidecars: Sequence[Sidecar] = ()) -> ChosenGuideline:
    """The guideline for a case's organ and kind of specimen.

    Order: `scoring.guideline`, which forces one; what the `sidecars` of the HER2 and the H&E slide
    say, in this order; the site's `scoring.organ` and `scoring.specimen`. A word in a sidecar that
    no guideline knows never stops the line: the site's default holds, with a reason for review.

    Raises
    ------
    SettingsError
        If no guideline has the forced name, or none fits the site's default where it is needed.
    """
    if scoring.guideline is not None:
        return ChosenGuideline(guideline=load_guideline(scoring.guideline))
    known = all_guidelines()
    organ, of_organ = _stated(
        "organ", [sidecar.organ for sidecar in sidecars], {g.organ for g in known}, scoring.organ
    )
    specimen, of_specimen = _stated(
        "specimen", [sidecar.specimen for sidecar in sidecars], SPECIMENS, scoring.specimen
    )
    for guideline in known:
        if guideline.organ == organ and specimen in guideline.specimens:
            return ChosenGuideline(guideline=guideline, reasons=(*of_organ, *of_specimen))
    there = "; ".join(f"{g.organ} ({', '.join(g.specimens)})" for g in known)
    raise SettingsError(
        f"scoring.organ = {organ!r}, specimen {specimen!r}: no guideline fits. There are: {there}. "
        "Set scoring.organ, or name a guideline in scoring.guideline."
    )


def _stated(
    what: str, words: Sequence[object], known: Collection[str], default: str
) -> tuple[str, tuple[ReviewReason, ...]]:
    """The first word if it is known, else the site's default; with the reasons for review."""
    # A sidecar is written by people: a number or a list in it must not stop the line either.
    said = [word for word in (str(raw).strip().casefold() for raw in words) if word]
    if not said:
        return default.strip().casefold(), ()
    reasons = []
    if len(set(said)) > 1:
        reasons.append(
            ReviewReason(
                code=Reason(f"{what}-contradicted"),
                sentence=f"The sidecars of the two slides name two different {what}s: "
                "that of the HER2 slide counts.",
            )
        )
    if said[0] in known:
        return said[0], tuple(reasons)
    reasons.append(
        ReviewReason(
            code=Reason(f"{what}-unknown"),
            sentence=f"No guideline knows the sidecar's {what} {said[0][:SHOWN_WORD]!r} (they "
            f"know {', '.join(sorted(known))}): the case was scored as {default}.",
        )
    )
    return default.strip().casefold(), tuple(reasons)
