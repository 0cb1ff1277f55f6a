"""Standing findings of a case: the appliance's, or those that a person signed on their basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from appliance.artifacts import ArtifactKey, ArtifactStore, adopt, is_unchecked
from appliance.assays.registry import find_assay
from appliance.delivery.index import sound_contents
from appliance.errors import RecordDamagedError
from appliance.findings.codec import load_findings, load_pictures, save_findings
from appliance.findings.findings import Correction, Findings, SignOff
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import EventRow, params_of
from appliance.settings.settings import Settings

SIGNED_AS = "signed"
"""Parameter of the note of a person's word on a score: the signed findings, as the index of the
objects that are written from them holds them. Older notes lack it."""


def signed_as(findings_key: str, findings: Findings) -> dict[str, Any]:
    """Return what the note of a person's word holds of the findings that it signed."""
    return {
        "made_from": {"findings": findings_key},
        "correction": correction_of(findings),
        "sign_offs": [asdict(each) for each in findings.sign_offs],
    }


def signed_since_written(events: Sequence[EventRow]) -> dict[str, Any] | None:
    """Return what a person signed of a case (`signed_as`) since its objects were written last.

    None where nobody did. The case may have been held before the objects were written anew: only
    its events know the word then.
    """
    for event in reversed(events):
        if event.to_state == CaseState.WRITTEN:
            return None
        if (signed := params_of(event).get(SIGNED_AS)) is not None:
            return dict(signed)
    return None


def standing(
    findings_key: str,
    objects_key: str,
    settings: Settings,
    signed_since: dict[str, Any] | None = None,
) -> str:
    """Return the key of the standing findings: `findings_key`, or what a person signed of it.

    A correction and a confirmation stay in force when a slide is touched or read again with the
    same outcome. The signed findings are made again from the person's word where they are damaged.
    The index of the case's objects holds that word; `signed_since` is a later one, of which no
    objects are written yet (`signed_since_written`).

    Raises
    ------
    RecordDamagedError
        If it cannot be told any more whether a person signed the result.
    ArtifactDamagedError
        If the signed findings are damaged; the next attempt makes them.
    """
    if not objects_key and signed_since is None:
        return findings_key
    store = ArtifactStore(settings.artifacts_dir)
    contents = signed_since or sound_contents(objects_key, settings)
    if contents is None:
        raise RecordDamagedError(
            "The list of the objects that this case has is damaged, so it is not known whether a "
            "person corrected or confirmed the score. Restore artifacts/ of the state folder, "
            "then: tandem retry"
        )
    last = str(contents["made_from"]["findings"])
    folder = store.path(ArtifactKey.parse(last))
    # Objects of an edition without checksums do not hold the correction.
    said = contents["correction"] if "correction" in contents else _said_in(folder)
    sign_offs = tuple(SignOff(**each) for each in contents.get("sign_offs", ()))
    if said is None and not sign_offs:
        return findings_key
    if findings_key != (sign_offs[0].signs if said is None else said["corrects"]):
        return findings_key
    if not store.has(ArtifactKey.parse(last)):
        base = store.path(ArtifactKey.parse(findings_key))
        findings = load_findings(base)
        if said is None:
            signed = confirmed(findings, sign_offs)
        else:
            score = said.pop("score")
            signed = corrected(findings, score, Correction(**said), sign_offs)
        save_signed(base, ArtifactKey.parse(last), signed, settings)
    return last


def correction_of(findings: Findings) -> dict[str, Any] | None:
    """A person's correction with its score, ready for JSON; None without one."""
    if findings.correction is None:
        return None
    return asdict(findings.correction) | {"score": findings.score}


def corrected(
    findings: Findings, score: str | None, correction: Correction, sign_offs: Sequence[SignOff]
) -> Findings:
    """Return findings with a person's score in place of theirs; None: it cannot be scored."""
    if score is None:
        made = _unscored(findings)
    else:
        made = find_assay(findings.assay).corrected(findings, score)
    return replace(made, correction=correction, sign_offs=tuple(sign_offs))


def _unscored(findings: Findings) -> Findings:
    """Return findings without a score; they keep what the appliance measured, untold."""
    return replace(
        findings,
        score=None,
        review=(),
        estimated=False,
        rule="",
        category=None,
        binary_by_pixels=None,
        comment="",
        rois=(),
        read_outs=None,
    )


def confirmed(findings: Findings, sign_offs: Sequence[SignOff]) -> Findings:
    """Return findings whose score a person found right.

    What the appliance states on its score holds. The reasons for review are answered: they hold the
    interpretation back no longer, and stay in the report that is replaced.
    """
    return replace(findings, review=(), sign_offs=tuple(sign_offs))


def save_signed(base: Path, key: ArtifactKey, findings: Findings, settings: Settings) -> None:
    """Store findings that a person signed; their pictures are those of the folder `base`."""
    he, ihc = load_pictures(base)
    with ArtifactStore(settings.artifacts_dir).writing(key) as out:
        save_findings(findings, out, he_thumbnail=he, ihc_thumbnail=ihc)


def _said_in(folder: Path) -> dict[str, Any] | None:
    """Correction in corrected findings that have no checksums: they cannot be made again."""
    said = correction_of(load_findings(folder))
    if said is not None and is_unchecked(folder):
        adopt(folder)
    return said
