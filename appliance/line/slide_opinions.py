"""A slide's opinions, without a case, a ledger or an identity: the step of the reading service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import assays, readers_alone, stains
from appliance.domain import QuarantineReason, Stain
from appliance.errors import SettingsError, SlideError
from appliance.findings.findings import RESEARCH_USE
from appliance.line.analyse_slide import inspect_slide, open_facts, read_alone, wrong_picture
from appliance.line.outcomes import ReadSlide, artifact_folder
from appliance.line.readings import load_reading
from appliance.settings.settings import Settings


def opinions_on(path: Path, stain: Stain, settings: Settings) -> dict[str, Any]:
    """Return the opinions, ready for JSON, of all readers that need this slide alone.

    What it makes is removed at the end, so that the state folder does not grow; results that are
    there, of a slide that the line has read, are used and stay.

    Raises
    ------
    SettingsError
        If no installed assay has a reader for slides of this stain alone.
    SlideError
        If the slide cannot be read, has no tissue, or its picture is that of another stain.
    SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    """
    asked = {a.name: readers_alone(a, stain) for a in assays() if stain in stains()}
    asked = {name: readers for name, readers in asked.items() if readers}
    if not asked:
        known = sorted(str(s) for s in stains() if any(readers_alone(a, s) for a in assays()))
        raise SettingsError(f"no reader reads slides of {stain!r} alone; take {' or '.join(known)}")
    facts = open_facts(path)
    inspected = inspect_slide(facts, settings)
    times = list(inspected.times)
    try:
        if inspected.tissue_mm2 <= 0:
            raise SlideError(QuarantineReason.NO_TISSUE, "no tissue was found on it")
        if detail := wrong_picture(inspected.picture, stain):
            raise SlideError(QuarantineReason.WRONG_PICTURE, detail)
        slide = ReadSlide(facts=facts, inspect_key=inspected.key)
        opinions = {}
        for name, readers in asked.items():
            outcome = read_alone(slide, stain, [name], settings)
            times += outcome.times
            folder = artifact_folder(outcome.key, settings)
            for reader in readers:
                opinions[reader.name] = load_reading(reader, [folder]).opinion.as_json()
    finally:
        store = ArtifactStore(settings.artifacts_dir)
        for time in times:
            if not time.reused and time.key:
                store.remove(ArtifactKey.parse(time.key))
    return {
        "notice": RESEARCH_USE,
        "stain": str(stain),
        "fingerprint": facts.fingerprint,
        "tissue_mm2": round(inspected.tissue_mm2, 2),
        "opinions": list(opinions.values()),
    }
