"""From tile and pixel counts to scores: Eq. 5-9 and Algorithm 1 of arXiv 2512.22335, guidelines."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.analysis.findings import CLASS_NAMES, TileFinding
from appliance.domain import Her2Score
from appliance.errors import SettingsError

GUIDELINES = Path(__file__).parent / "guidelines"
INTENSITY_LETTERS = ("N", "F", "W", "S")
"""None, faint, weak, strong: the paper's letters in a tile's label."""
SEEN_PERCENT = 5.0
"""A class counts as seen on a tile when it covers so much of the tile's tumor pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`score` when the summed percentage of `classes` is over `limit` (from it, if inclusive)."""

    score: Her2Score
    classes: tuple[str, ...]
    limit: float
    inclusive: bool
    text: str

    def total(self, percent: Mapping[str, float]) -> float:
        """Summed percentage of this rule's classes."""
        return sum(percent[name] for name in self.classes)

    def holds(self, percent: Mapping[str, float]) -> bool:
        """Whether the rule applies."""
        total = self.total(percent)
        return total >= self.limit if self.inclusive else total > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """A scheme of scoring, read from a file in `GUIDELINES`."""

    name: str
    title: str
    version: str
    status: str
    rules: tuple[Rule, ...]
    comments: Mapping[str, str | float]

    def score(self, percent: Mapping[str, float]) -> Her2Score:
        """Score of percentages (0-100) per class; the first rule that holds decides."""
        return next(rule.score for rule in self.rules if rule.holds(percent))

    def distance(self, percent: Mapping[str, float]) -> float:
        """Percentage points to the nearest limit at which the score would be another one."""
        score = self.score(percent)
        distances = [
            abs(rule.total(percent) - rule.limit)
            for rule in self.rules
            if rule.limit > 0 and (rule.score == score) == rule.holds(percent)
        ]
        return min(distances, default=100.0)

    def comment(self, score: Her2Score, percent: Mapping[str, float]) -> str:
        """What stands beside the score: low, ultralow, null; empty for 3+."""
        if score is Her2Score.THREE:
            return ""
        if score is Her2Score.TWO:
            return str(self.comments["low_if_ish_negative"])
        if score is Her2Score.ONE:
            return str(self.comments["low"])
        stained = 100.0 - percent["0"]
        seen = stained >= float(self.comments["ultralow_from_percent"])
        return str(self.comments["ultralow" if seen else "null"])


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
    raw = tomllib.loads(path.read_text())
    rules = tuple(
        Rule(
            score=Her2Score(rule["score"]),
            classes=tuple(rule["classes"]),
            limit=rule.get("over", rule.get("from")),
            inclusive="from" in rule,
            text=rule["text"],
        )
        for rule in raw["rules"]
    )
    return Guideline(
        name=raw["name"],
        title=raw["title"],
        version=raw["version"],
        status=raw["status"],
        rules=rules,
        comments=raw["comments"],
    )


def count_classes(label_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """N{k} of Eq. 5: pixels of class k = 0..4 in a label map, shape (5,)."""
    return np.bincount(label_map.ravel(), minlength=5)[:5].astype(np.int64)


def tile_grade(counts: NDArray[np.int64]) -> int:
    """max(N{1..4}) of Eq. 7: the grade (0-3) whose class covers most tumor pixels of the tile.

    A tie goes to the higher grade; a tile without tumor pixels is grade 0.
    """
    tumor = counts[1:5]
    return int(3 - np.argmax(tumor[::-1])) if tumor.sum() > 0 else 0


def tile_label(counts: NDArray[np.int64], intensity: int) -> str:
    """The paper's tile label: intensities seen in order N, F, W, S, and the score: ``NF/1+``.

    `intensity` (0-3) is L's word; it counts as seen too.
    """
    tumor = counts[1:5]
    total = max(1, int(tumor.sum()))
    seen = [100.0 * n / total >= SEEN_PERCENT for n in tumor]
    seen[intensity] = True
    letters = "".join(
        letter for letter, there in zip(INTENSITY_LETTERS, seen, strict=True) if there
    )
    return f"{letters}/{CLASS_NAMES[tile_grade(counts)]}"


def percent_of_tumor(counts: NDArray[np.int64]) -> dict[str, float]:
    """Share (0-100) of each class 0, 1+, 2+, 3+ among the tumor pixels; zeros without any."""
    tumor = counts[1:5].astype(np.float64)
    total = tumor.sum()
    shares = 100.0 * tumor / total if total > 0 else np.zeros(4)
    return {name: float(share) for name, share in zip(CLASS_NAMES, shares, strict=True)}


def paper_score(tiles: Sequence[TileFinding]) -> Her2Score | None:
    """Algorithm 1 exactly as printed: the maximum of T over the scored tiles.

    Tiles of 2+ or 3+ (k in {3, 4}) decide where there are any, else all do, which is the maximum
    either way. One stray tile makes a slide 3+: that is why a guideline decides the reported score.
    """
    return Her2Score.from_grade(max(tile.grade for tile in tiles)) if tiles else None


def wsi_percent(tiles: Sequence[TileFinding]) -> float:
    """Eq. 9: 100 · (area scored 2+ or 3+) / (tumor area), in tiles; 0 without tiles."""
    if not tiles:
        return 0.0
    return 100.0 * sum(tile.grade >= 2 for tile in tiles) / len(tiles)


def h_score(percent: Mapping[str, float]) -> float:
    """Σ intensity (0-3) x % of tumor area: 0-300. Reported; used by no rule."""
    return sum(grade * percent[name] for grade, name in enumerate(CLASS_NAMES))
