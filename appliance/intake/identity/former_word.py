"""A person's word under a file name that holds other bytes by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from appliance.domain import QuarantineReason
from appliance.intake.identity.evidence import Outcome, Verdict, accession_key
from appliance.settings.identify import Identify

OTHER_FILE = "a person's word is about another file that lay under this name; say it again"
"""Detail of a conflict. A file name may be used again, for another patient's slide."""
_NAMING = ("accession", "block", "stain", "organ", "specimen", "excluded")


def doubted(
    verdict: Verdict, word: Mapping[str, Any], fingerprint: str, settings: Identify
) -> Verdict:
    """Return a verdict, as a conflict where a person's word was about another slide.

    `word` is as `intake.said` keeps it. It holds for a new scan of the same slide: all sources that
    state an accession, at least one, state what they did before, or what the person said.
    """
    about = word.get("of", "")
    if about in ("", fingerprint) or not any(word.get(key) for key in _NAMING):
        return verdict
    known = {
        accession_key(text, settings)
        for text in (*word.get("heard", ()), word.get("accession", ""))
    }
    stated = {
        accession_key(claim.accession, settings)
        for claim in verdict.claims
        if claim.source != "person" and claim.accession
    }
    if stated and stated <= known:
        return verdict
    return replace(
        verdict,
        outcome=Outcome.CONFLICT,
        reason=QuarantineReason.IDENTITY_CONFLICT,
        detail=OTHER_FILE,
    )
