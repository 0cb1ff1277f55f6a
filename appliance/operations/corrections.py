"""A delivered result is made anew: by a person's score, or by other weights.

Nothing is overwritten: objects of new findings have UIDs of their own, and the new report names
the one whose place it takes (PS3.3 C.17.2, Predecessor Documents Sequence).
"""

from __future__ import annotations

import time
from dataclasses import replace

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.guideline import load_guideline
from appliance.delivery.objects import read_findings_key
from appliance.domain import Her2Score
from appliance.errors import SettingsError
from appliance.findings.findings import Correction, load_findings, save_findings
from appliance.findings.overlay import load_thumbnail
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import CaseRow
from appliance.ledger.transaction import Transaction
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings

ENDED = (CaseState.WRITTEN, CaseState.DELIVERED, CaseState.UNPROVEN, CaseState.UNDELIVERED)


def correct_score(settings: Settings, subject: str, score: Her2Score, *, by: str, why: str) -> str:
    """Put a person's score in the place of a case's; its objects are written and sent anew.

    `by` is a DICOM person name such as ``Meyer^Anna``. Returns what happened, for people.

    Raises
    ------
    SettingsError
        If there is no such case, it has no result yet, or has that score already.
    """
    ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            case = _ended(tx, subject)
        key = _corrected(settings, case, score, by, why)
        with ledger.transaction() as tx:
            row = _ended(tx, subject)
            if row.findings_key != case.findings_key:
                raise SettingsError(f"{subject} has a new result since: look at it first.")
            detail = f"corrected from {row.score or 'none'} to {score}"
            row.findings_key, row.score, row.review = str(key), score.value, "[]"
            row.reason = ""
            tx.append_event(row.subject, "note", f"{detail} by {by}", time.time())
            tx.advance(row, CaseState.SCORED, now=time.time(), detail=detail)
    finally:
        ledger.close()
    return f"{subject}: {detail}; a new report is written and sent"


def rerun_case(settings: Settings, subject: str) -> str:
    """Analyse a case that has a result once more, by the weights and settings of today.

    Raises
    ------
    SettingsError
        If there is no such case, or it has no result yet.
    """
    ledger: Ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            row = _ended(tx, subject, CaseState.FAILED)
            row.reason = row.findings_key = row.score = ""
            row.review = "[]"
            row.worker_crashes, row.not_before = 0, 0.0
            tx.advance(row, CaseState.READY, now=time.time(), detail="rerun")
    finally:
        ledger.close()
    return f"{subject} is analysed again; what is already known and unchanged is not computed twice"


def standing(findings_key: str, objects_key: str, settings: Settings) -> str:
    """The findings that hold: those of `findings_key`, or a person's correction of these very ones.

    A slide that was touched or read again with the same outcome takes nobody's word back.
    """
    if not objects_key:
        return findings_key
    last = read_findings_key(objects_key, settings)
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(last))
    correction = load_findings(folder).correction
    return last if correction is not None and correction.corrects == findings_key else findings_key


def _ended(tx: Transaction, subject: str, *also: CaseState) -> CaseRow:
    kind, _, number = subject.partition("-")
    case = tx.case(int(number)) if kind == "case" and number.isdigit() else None
    if case is None:
        raise SettingsError(f"no {subject!r}. `tandem status` lists ids such as case-1.")
    if case.state not in (*ENDED, *also):
        raise SettingsError(
            f"{subject} is {case.state}: it has no delivered result yet. `tandem status` tells "
            "what it waits for."
        )
    return case


def _corrected(
    settings: Settings, case: CaseRow, score: Her2Score, by: str, why: str
) -> ArtifactKey:
    """Findings with that score, as an artifact."""
    store = ArtifactStore(settings.artifacts_dir)
    folder = store.path(ArtifactKey.parse(case.findings_key))
    findings = load_findings(folder)
    if findings.score is score:
        raise SettingsError(f"{case.subject} has the score {score} already.")
    was, root = findings.score, case.findings_key
    if findings.correction is not None:
        was, root = findings.correction.was, findings.correction.corrects
    key = ArtifactKey.of("findings", corrects=case.findings_key, score=score, by=by, why=why)
    if not store.exists(key):
        guideline = load_guideline(findings.guideline)
        corrected = replace(
            findings,
            score=score,
            correction=Correction(by=by, why=why, was=was, corrects=root),
            # What the appliance said of its own score does not hold for a person's, nor do its
            # shares, which tell ultralow from null; its reasons for review are answered, and stay
            # in the report that is replaced.
            review=(),
            estimated=False,
            rule="",
            category=None,
            comment="" if score is Her2Score.ZERO else guideline.comment(score, findings.percent),
        )
        with store.writing(key) as out:
            save_findings(
                corrected,
                out,
                he_thumbnail=load_thumbnail(folder / "he_thumbnail.png"),
                ihc_thumbnail=load_thumbnail(folder / "ihc_thumbnail.png"),
            )
    return key
