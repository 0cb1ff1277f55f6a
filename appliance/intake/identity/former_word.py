"""Former knowledge of a slide: a person's word on other bytes, and its former accession."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from appliance.domain import QuarantineReason
from appliance.intake.identity.evidence import TOLD, Outcome, Verdict, accession_key
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


def as_kept(verdict: Verdict, former: str, settings: Identify) -> Verdict:
    """Return a verdict under the accession under which the slide was kept before (`former`), where
    that is the same one without what is joined to it in front.

    Former editions left that out. A slide that was touched would leave its case, and its order. The
    word of a person or a sidecar counts as it is.
    """
    if any(claim.accession for claim in verdict.claims if claim.source in TOLD):
        return verdict
    key = accession_key(former, settings)
    joined = {
        accession_key(claim.accession, settings) for claim in verdict.claims if claim.prefixed
    }
    whole = accession_key(verdict.accession, settings)
    is_whole = any(accession_key(c.prefixed, settings) == whole for c in verdict.claims)
    return replace(verdict, accession=former) if key in joined and is_whole else verdict
