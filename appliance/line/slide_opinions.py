"""A slide's opinions, without a case, a ledger or an identity: the step of the reading service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.assays.assay import Assay
from appliance.assays.registry import (
    assays,
    bag_readers,
    is_read_alone,
    readers_alone,
    stains,
)
from appliance.domain import QuarantineReason, Stain
from appliance.errors import SettingsError, SlideError
from appliance.findings.findings import RESEARCH_USE
from appliance.line.analyze_slide import inspect_slide, open_facts, read_alone, wrong_picture
from appliance.line.bag_readers import read_bags
from appliance.line.outcomes import ReadSlide, artifact_folder
from appliance.line.readings import load_reading
from appliance.settings.settings import Settings


def opinions_on(
    path: Path, stain: Stain, settings: Settings, work: Path, most_s: float | None = None
) -> dict[str, Any]:
    """Return the opinions, ready for JSON, of all readers that need this slide alone.

    A reader of the slide's bag is silent where the bag takes longer than `most_s` seconds. All that
    is made lies below the folder `work`, which is the caller's to remove. The line's results are
    neither used nor touched: it may be working on the same slide.

    Raises
    ------
    SettingsError
        If no installed assay has a reader for slides of this stain alone.
    SlideError
        If the slide cannot be read, has no tissue, or its picture is that of another stain.
    SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    """
    asked = asked_of(stain, settings)
    private = _apart(settings, work)
    facts = open_facts(path)
    inspected = inspect_slide(facts, private)
    if inspected.tissue_mm2 <= 0:
        raise SlideError(QuarantineReason.NO_TISSUE, "no tissue was found on it")
    if detail := wrong_picture(inspected.picture, stain):
        raise SlideError(QuarantineReason.WRONG_PICTURE, detail)
    slide = ReadSlide(facts=facts, inspect_key=inspected.key)
    opinions = {}
    for assay in asked:
        alone = read_alone(slide, stain, [assay.name], private)
        bags = read_bags(slide, stain, [assay.name], private, most_s=most_s)
        folders = [artifact_folder(done.key, private) for done in (alone, *bags) if done.key]
        of_bags = bag_readers(assay, private) if stain == assay.target.code else ()
        for reader in (*readers_alone(assay, stain), *of_bags):
            opinions[reader.name] = load_reading(reader, folders).opinion.as_json()
    return {
        "notice": RESEARCH_USE,
        "stain": str(stain),
        "fingerprint": facts.fingerprint,
        "tissue_mm2": round(inspected.tissue_mm2, 2),
        "opinions": list(opinions.values()),
    }


def asked_of(stain: Stain, settings: Settings) -> list[Assay]:
    """Return the assays with a reader for slides of a stain alone.

    Raises
    ------
    SettingsError
        If there is none.
    """
    asked = [a for a in assays() if stain in stains() and is_read_alone(a, stain, settings)]
    if not asked:
        known = sorted(
            str(s) for s in stains() if any(is_read_alone(a, s, settings) for a in assays())
        )
        raise SettingsError(f"no reader reads slides of {stain!r} alone; take {' or '.join(known)}")
    return asked


def _apart(settings: Settings, work: Path) -> Settings:
    """Return settings with a state folder of their own, which has the site's weights."""
    state = work / "state"
    state.mkdir()
    (state / "weights").symlink_to((settings.state_dir / "weights").absolute())
    return settings.model_copy(update={"state_dir": state})
