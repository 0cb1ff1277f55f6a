"""Standing findings of a case: the appliance's, or a person's correction of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from appliance.artifacts import ArtifactKey, ArtifactStore, adopt, is_unchecked
from appliance.assays.registry import find_assay
from appliance.delivery.index import sound_contents
from appliance.errors import RecordDamagedError
from appliance.findings.codec import load_findings, load_pictures, save_findings
from appliance.findings.findings import Correction, Findings
from appliance.settings.settings import Settings


def standing(findings_key: str, objects_key: str, settings: Settings) -> str:
    """Return the key of the standing findings: `findings_key`, or a person's correction of it.

    A correction stays in force when a slide is touched or read again with the same outcome. The
    corrected findings are made again from the correction, which the index of the case's objects
    holds, where they are damaged.

    Raises
    ------
    RecordDamagedError
        If it cannot be told any more whether a person corrected the score.
    ArtifactDamagedError
        If the corrected findings are damaged; the next attempt makes them.
    """
    if not objects_key:
        return findings_key
    store = ArtifactStore(settings.artifacts_dir)
    contents = sound_contents(objects_key, settings)
    if contents is None:
        raise RecordDamagedError(
            "The list of the objects that this case has is damaged, so it is not known whether a "
            "person corrected the score. Restore artifacts/ of the state folder, then: tandem retry"
        )
    last = str(contents["made_from"]["findings"])
    folder = store.path(ArtifactKey.parse(last))
    # Objects of an edition without checksums do not hold the correction.
    said = contents["correction"] if "correction" in contents else _said_in(folder)
    if said is None or said["corrects"] != findings_key:
        return findings_key
    if not store.has(ArtifactKey.parse(last)):
        score = said.pop("score")
        base = store.path(ArtifactKey.parse(findings_key))
        save_corrected(base, ArtifactKey.parse(last), score, Correction(**said), settings)
    return last


def correction_of(findings: Findings) -> dict[str, Any] | None:
    """A person's correction with its score, ready for JSON; None without one."""
    if findings.correction is None:
        return None
    return asdict(findings.correction) | {"score": findings.score}


def save_corrected(
    base: Path, key: ArtifactKey, score: str, correction: Correction, settings: Settings
) -> None:
    """Store the findings of the folder `base` with a person's score in place of theirs."""
    findings = load_findings(base)
    corrected = find_assay(findings.assay).corrected(findings, score)
    he, ihc = load_pictures(base)
    with ArtifactStore(settings.artifacts_dir).writing(key) as out:
        save_findings(
            replace(corrected, correction=correction), out, he_thumbnail=he, ihc_thumbnail=ihc
        )


def _said_in(folder: Path) -> dict[str, Any] | None:
    """Correction in corrected findings that have no checksums: they cannot be made again."""
    said = correction_of(load_findings(folder))
    if said is not None and is_unchecked(folder):
        adopt(folder)
    return said
