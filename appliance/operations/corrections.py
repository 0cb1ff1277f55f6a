"""Replace a delivered result: by a person's score, or by a rerun with other weights.

Nothing is overwritten: objects of new findings have UIDs of their own, and the new report names
its predecessor (PS3.3 C.17.2, Predecessor Documents Sequence).
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
from appliance.ledger.tables import CaseRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings
from appliance.words.say import say

ENDED = (CaseState.WRITTEN, CaseState.DELIVERED, CaseState.UNPROVEN, CaseState.UNDELIVERED)


def correct_score(settings: Settings, subject: str, score: Her2Score, *, by: str, why: str) -> str:
    """Replace a case's score by a person's; the objects are written and sent anew.

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
            scores = {"was": row.score, "score": score.value}
            row.findings_key, row.score, row.review = str(key), score.value, "[]"
            set_reason(row)
            tx.note(row.subject, "corrected-by", time.time(), params=scores | {"by": by})
            tx.advance(row, CaseState.SCORED, now=time.time(), code="corrected", params=scores)
    finally:
        ledger.close()
    return f"{subject}: {say('event', 'corrected', scores)}; a new report is written and sent"


def rerun_case(settings: Settings, subject: str) -> str:
    """Analyse a case that has a result once more, with the weights and settings of today.

    Raises
    ------
    SettingsError
        If there is no such case, or it has no result yet.
    """
    ledger: Ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            row = _ended(tx, subject, CaseState.FAILED)
            row.findings_key = row.score = ""
            row.review = "[]"
            set_reason(row)
            row.worker_crashes, row.not_before = 0, 0.0
            tx.advance(row, CaseState.READY, now=time.time(), code="rerun")
    finally:
        ledger.close()
    return f"{subject} is analysed again; what is already known and unchanged is not computed twice"


def standing(findings_key: str, objects_key: str, settings: Settings) -> str:
    """Return the key of the findings that hold: `findings_key`, or a person's correction of it.

    A correction stands while the findings that it corrects come out the same again.
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
    """Return the key of the findings with a person's score."""
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
            # The appliance's remarks are about its own score, and so are the shares that tell
            # ultralow from null. The reasons for review are answered; they stay in the replaced
            # report.
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
