"""Guidelines of nuclear receptors as data: read them, and apply them to a percentage."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.domain import Binary
from appliance.errors import SettingsError

GUIDELINES = Path(__file__).parent / "guidelines"
MOST_DIGITS = 9
"""Most digits behind the point that a percentage is told with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rule of a guideline: `score` for a percentage (0-100) `over` (>) or `from_` (>=) its limit.

    `binary` is the score in two classes, `text` the rule as printed, `comment` what the guideline
    adds to the result.
    """

    score: str
    binary: Binary
    text: str
    over: float | None = None
    from_: float | None = None
    comment: str = ""

    @property
    def limit(self) -> float:
        """Percentage at which the rule begins to hold."""
        return self.over or self.from_ or 0.0

    def holds(self, percent: float) -> bool:
        """Return whether the rule applies to a percentage of positive tumor nuclei."""
        above = self.over is None or percent > self.over
        return above and (self.from_ is None or percent >= self.from_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """Guideline of a receptor, read from a file in `GUIDELINES`.

    `least_nuclei` are the tumor nuclei that a percentage needs. Up to `control_up_to` percent the
    status of the controls belongs to the result.
    """

    name: str
    title: str
    version: str
    source: str
    status: str
    least_nuclei: int
    control_up_to: float
    rules: tuple[Rule, ...]

    def decide(self, percent: float) -> Rule:
        """Return the rule that decides: the first that holds."""
        return next(rule for rule in self.rules if rule.holds(percent))

    def digits(self, percent: float, least: int) -> int:
        """Return how many digits, at least `least`, tell a percentage so that its rule holds."""
        rule = self.decide(percent)
        told = range(least, MOST_DIGITS)
        return next((n for n in told if self.decide(round(percent, n)) == rule), MOST_DIGITS)

    def rule_of(self, score: str) -> Rule:
        """Return the rule of a score; raises KeyError if there is none."""
        for rule in self.rules:
            if rule.score == score:
                return rule
        raise KeyError(score)

    @property
    def limits(self) -> tuple[float, ...]:
        """Percentages at which the result changes, lowest first."""
        return tuple(sorted(rule.limit for rule in self.rules if rule.limit > 0))


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
        raise SettingsError(f"no guideline {name!r} of nuclear receptors. There are: {known}.")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    return Guideline(rules=tuple(_rule(rule) for rule in raw.pop("rules")), **raw)


def _rule(raw: dict[str, Any]) -> Rule:
    return Rule(from_=raw.pop("from", None), **raw)
