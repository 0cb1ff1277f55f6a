"""Second readers: opinions on the whole HER2 slide, and how far they are from the score.

Their probabilities are of the slide's class and no shares of tumor, so that the guideline is not
applied to them.
"""

from __future__ import annotations

from appliance.domain import Her2Score
from appliance.findings.findings import Findings
from appliance.findings.opinion import Opinion
from appliance.readers.low_resolution import LowResolutionReader
from appliance.readers.multiple_instance import MultipleInstanceReader

SECOND_READERS = (LowResolutionReader.name, MultipleInstanceReader.name)
"""Names of readers whose opinion is of the whole slide."""
_SCORES = [score.value for score in Her2Score]
_MEANT = {score: (score,) for score in _SCORES} | {
    "low": ("1+", "2+"),
    "high": ("2+", "3+"),
    "negative": ("0", "1+", "2+"),
    "positive": ("2+", "3+"),
}
"""Scores that a class may stand for: 2+ is low or high, negative or positive, by its ISH status."""
_SPLIT = {("low", "3+"), ("high", "1+"), ("negative", "3+"), ("positive", "1+")}
"""Class and score on the two sides of a treatment: their distance counts as 2."""


def of_whole_slide(opinion: Opinion) -> bool:
    """Return whether an opinion is of the whole slide, as those of second readers are."""
    return opinion.reader in SECOND_READERS


def second_opinions(findings: Findings) -> tuple[Opinion, ...]:
    """Return the opinions of second readers that said something."""
    return tuple(o for o in findings.opinions if of_whole_slide(o) and any(o.probabilities))


def distance(score: str, word: str) -> int:
    """Return the distance in classes between a score and a second reader's class; 0 for a class
    that is not known here."""
    if (word, score) in _SPLIT:
        return 2
    place = _SCORES.index(score)
    return min((abs(place - _SCORES.index(meant)) for meant in _MEANT.get(word, ())), default=0)
