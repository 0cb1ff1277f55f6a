"""Choice of the guideline by organ and kind of specimen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from appliance.assays.assay import Declared
from appliance.assays.her2.guideline import Guideline, all_guidelines, load_guideline
from appliance.assays.stated import stated
from appliance.errors import SettingsError
from appliance.findings.reasons import ReviewReason
from appliance.settings.scoring import Scoring, Specimen

SPECIMENS = get_args(Specimen)
"""Kinds of specimen that guidelines name."""
NOTHING = Declared()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenGuideline:
    """Guideline of a case, with the reasons to review the choice."""

    guideline: Guideline
    reasons: tuple[ReviewReason, ...] = ()


def choose_guideline(scoring: Scoring, declared: Declared = NOTHING) -> ChosenGuideline:
    """Choose the guideline for a case's organ and kind of specimen.

    Order of precedence: `scoring.guideline`, which forces one; the `declared` words of the
    sidecars, HER2 before H&E; the site's `scoring.organ` and `scoring.specimen`. A word that no
    guideline knows does not stop the line: the site's default applies, with a reason for review.

    Raises
    ------
    SettingsError
        If no guideline has the forced name, or none fits the organ and specimen.
    """
    if scoring.guideline is not None:
        return ChosenGuideline(guideline=load_guideline(scoring.guideline))
    known = all_guidelines()
    organ, of_organ = stated("organ", declared.organ, {g.organ for g in known}, scoring.organ)
    specimen, of_specimen = stated("specimen", declared.specimen, SPECIMENS, scoring.specimen)
    for guideline in known:
        if guideline.organ == organ and specimen in guideline.specimens:
            return ChosenGuideline(guideline=guideline, reasons=(*of_organ, *of_specimen))
    there = "; ".join(f"{g.organ} ({', '.join(g.specimens)})" for g in known)
    raise SettingsError(
        f"scoring.organ = {organ!r}, specimen {specimen!r}: no guideline fits. There are: {there}. "
        "Set scoring.organ, or name a guideline in scoring.guideline."
    )
