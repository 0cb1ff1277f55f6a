"""Standing findings of a case: the appliance's, or a person's correction of them."""

from __future__ import annotations

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.index import read_findings_key
from appliance.findings.codec import load_findings
from appliance.settings.settings import Settings


def standing(findings_key: str, objects_key: str, settings: Settings) -> str:
    """Return the key of the standing findings: `findings_key`, or a person's correction of it.

    A correction stays in force when a slide is touched or read again with the same outcome.
    """
    if not objects_key:
        return findings_key
    last = read_findings_key(objects_key, settings)
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(last))
    correction = load_findings(folder).correction
    return last if correction is not None and correction.corrects == findings_key else findings_key
