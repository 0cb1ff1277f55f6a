"""What each source makes of some files: the answer of ``tandem identify``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from appliance.assays.registry import vocabulary
from appliance.errors import TandemError
from appliance.intake.identity.evidence import Outcome, Verdict
from appliance.intake.identity.identify import (
    NO_EVIDENCE,
    Evidence,
    Identifier,
    Told,
    evidence_json,
)
from appliance.intake.identity.sidecar import read_sidecar
from appliance.settings.settings import Settings
from appliance.slides.label import label_texts
from appliance.slides.reader import SlideReader
from appliance.text import readable
from appliance.words.say import say


def identify_paths(paths: Iterable[Path], settings: Settings) -> Iterator[dict[str, Any]]:
    """Return for each path what its sources say and what follows, ready for JSON. PHI.

    A path that does not exist, or is no slide, is judged by its name alone.
    """
    identifier = Identifier(vocabulary(settings), settings.identify)
    for path in paths:
        evidence, note = _evidence(path, settings)
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


def _evidence(path: Path, settings: Settings) -> tuple[Evidence, str]:
    """Return header and sidecar of a file, and a note where it cannot be opened."""
    try:
        if path.stat().st_size == 0:
            return NO_EVIDENCE, "By its name alone: the file is empty."
    except OSError:
        return NO_EVIDENCE, ""
    try:
        sidecar = read_sidecar(path)
        told = Told(accession=sidecar.accession, block=sidecar.block, stain=sidecar.stain)
        with SlideReader.open(path, mpp=sidecar.mpp) as slide:
            properties = dict(slide.properties)
        labels = label_texts(path) if settings.identify.weight("label") > 0 else ()
        return Evidence(properties=properties, labels=labels, sidecar=told), ""
    except (TandemError, OSError) as err:
        return NO_EVIDENCE, f"By its name alone: {err}"
