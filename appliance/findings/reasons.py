"""Reasons for review: codes with parameters; `appliance.words` makes sentences of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from appliance.words.say import say


class Reason(StrEnum):
    """Codes of the reasons that ship, most serious first.

    Codes are stable; `docs/review.md` explains each. An assay may add codes of its own.
    """

    MISMATCH = "slides-do-not-match"
    MATCH_UNSURE = "match-unsure"
    TISSUE_MISSING = "tissue-missing"
    ALIGNMENT_ERROR = "alignment-error"
    MIRRORED = "mirrored"
    CONTROL_FAILED = "control-failed"
    CONTROL_MISSING = "control-missing"
    UNREADABLE = "unreadable-tiles"
    PICTURE_UNSURE = "picture-unsure"
    UNUSUAL = "out-of-distribution"
    OUT_OF_FOCUS = "out-of-focus"
    MARKED = "pen-or-fold"
    STAIN_NOT_NUCLEAR = "stain-not-nuclear"
    STAIN_NOT_PROVEN = "stain-not-proven"
    NUCLEI_UNSEEN = "nuclei-unseen"
    PIGMENT = "pigment"
    NO_TUMOR = "no-tumor"
    LITTLE_TUMOR = "little-tumor"
    STAIN_OUTSIDE_TUMOR = "stain-outside-tumor"
    TUMOR_NOT_SCORED = "tumor-not-scored"
    TUMOR_DISAGREES = "tumor-disagrees"
    TUMOR_NOT_FOUND = "tumor-not-found"
    READERS_DISAGREE = "readers-disagree"
    SECOND_READER = "second-reader-disagrees"
    MEMBRANES_INCOMPLETE = "membranes-incomplete"
    HETEROGENEOUS = "heterogeneous"
    INTERNAL_CONTROL_MISSING = "internal-control-missing"
    NEAR_THRESHOLD = "near-threshold"
    CLUSTERS_UNCONFIRMED = "clusters-unconfirmed"
    ORGAN_UNKNOWN = "organ-unknown"
    ORGAN_CONTRADICTED = "organ-contradicted"
    SPECIMEN_UNKNOWN = "specimen-unknown"
    SPECIMEN_CONTRADICTED = "specimen-contradicted"
    GUIDELINE_UNVERIFIED = "guideline-unverified"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReason:
    """Reason why a person should look at a case: a code and JSON-serialisable parameters."""

    code: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """Sentence for people, in the default language."""
        return say("review", self.code, self.params)

    def as_json(self) -> dict[str, Any]:
        """Code, parameters and the sentence, ready for JSON."""
        return {"code": str(self.code), "params": dict(self.params), "sentence": self.sentence}


def in_order(reasons: tuple[ReviewReason, ...]) -> tuple[ReviewReason, ...]:
    """Sort reasons by the order of `Reason`; codes that it does not list come last."""
    rank = {code.value: number for number, code in enumerate(Reason)}
    return tuple(sorted(reasons, key=lambda reason: rank.get(reason.code, len(rank))))
