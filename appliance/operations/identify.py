"""Answer of ``tandem identify``: the statements of each source on some files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from appliance.assays.registry import vocabulary
from appliance.intake.identity.evidence import Outcome, Verdict
from appliance.intake.identity.identify import (
    Identifier,
    evidence_json,
)
from appliance.intake.identity.opened import evidence_of
from appliance.settings.settings import Settings
from appliance.text import readable
from appliance.words.say import say


def identify_paths(paths: Iterable[Path], settings: Settings) -> Iterator[dict[str, Any]]:
    """Return for each path what its sources say and what follows, ready for JSON. PHI.

    A path that does not exist, or is no slide, is judged by its name alone.
    """
    identifier = Identifier(vocabulary(settings), settings.identify)
    for path in paths:
        evidence, note = evidence_of(path, settings.identify)
        verdict = identifier.verdict(path, evidence)
        yield {
            "path": readable(str(path)),
            "outcome": verdict.outcome.value,
            "accession": verdict.accession,
            "block": verdict.block,
            "stain": verdict.stain,
            "sources": evidence_json(verdict),
            "sentence": " ".join(part for part in (sentence(verdict), note) if part),
        }


def sentence(verdict: Verdict) -> str:
    """Say in words what is known of a slide, and the remedy where something is missing."""
    if verdict.reason is not None:
        facts = {"code": verdict.reason.value, "detail": verdict.detail}
        return say("slide-error", verdict.reason, facts)
    if verdict.outcome is Outcome.OTHER:
        return say("not-for-an-assay", verdict.kind, {"stain": verdict.stain})
    return f"{verdict.accession}, block {verdict.block}, {verdict.stain}."
