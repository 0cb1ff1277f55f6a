"""Steps of a case: align, analyze, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from appliance.artifacts import is_as_written
from appliance.assays.registry import find_assay
from appliance.delivery.index import read_notes, signers_of
from appliance.delivery.intact import is_taken_back, slides_to_convert
from appliance.delivery.objects import write_objects
from appliance.delivery.queueing import enqueue_case
from appliance.delivery.standing import signed_since_written, standing
from appliance.domain import Identity, Stain
from appliance.errors import CaseHeldError, SettingsError
from appliance.findings.codec import load_findings
from appliance.intake.block import withdraw
from appliance.intake.patients import Patient
from appliance.ledger.blocks import pairing_of
from appliance.ledger.hints import hint_of
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.queries import REASONS
from appliance.ledger.tables import CaseRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.line.analyze_case import align_case, analyze_case
from appliance.line.context import Call, Done, Job, StepContext, append_times, time_of
from appliance.line.outcomes import Outcome, ReadSlide, StepTime, artifact_folder
from appliance.line.slide_steps import read_slide_of
from appliance.line.study_patient import (
    IN_ANOTHER_STUDY,
    NAMED_OTHERWISE,
    NOT_SIGNED,
    STUDY_DIFFERS,
    is_named_otherwise,
    require_order,
    require_patient,
    signed_for_another,
    written_for,
)
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)


def prepare_align(context: StepContext, job: Job[CaseRow]) -> Call:
    """Prepare `align_case` of the case's two slides."""
    return Call(align_case, (*_slides(job), context.settings, _overruled(job.row)))


def finish_align(
    tx: Transaction, _context: StepContext, row: CaseRow, done: Done, now: float
) -> None:
    """Keep the times; the map is found again by its key."""
    aligned: Outcome = done.value
    append_times(tx, row, aligned.times, now)
    tx.advance(row, CaseState.ALIGNED, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzedCase:
    """Findings of a case: their key, the score (empty for none), the reasons for review.

    `word` is the code of a person's word that stands for them, empty for none, and `was` the score
    that a correction replaced. `reasons` is the number of those that the appliance gave; a person's
    word that stands answers them, so that `review` is empty.
    """

    findings_key: str
    score: str
    review: list[dict[str, Any]]
    times: tuple[StepTime, ...]
    reasons: int = 0
    word: str = ""
    was: str = ""


def analyze(
    assay: str,
    identity: Identity,
    anatomy: ReadSlide,
    target: ReadSlide,
    objects_key: str,
    settings: Settings,
    progress: Progress,
    accepted: Sequence[str] = (),
    signed_since: dict[str, Any] | None = None,
    patients: Mapping[Stain, Patient] | None = None,
) -> AnalyzedCase:
    """Analyze a case; what a person signed of the same findings, if anything, stands.

    `objects_key` is the key of the objects that the case has already, or empty; `accepted` are the
    contradictions of its slides that a person accepted; `signed_since` is what a person signed
    since these objects were written. `patients` are those of both slides: a sign-off of another
    patient's result does not stand, unless a person said that it is one patient.

    Raises
    ------
    CaseHeldError
        If a person's score was given for another patient: a person decides whether it holds.
    """
    outcome = analyze_case(assay, identity, anatomy, target, settings, progress, accepted=accepted)
    findings_key = standing(outcome.key, objects_key, settings, signed_since)
    findings = load_findings(artifact_folder(findings_key, settings))
    other = signed_for_another(objects_key, patients or {}, settings)
    if findings_key != outcome.key and other and STUDY_DIFFERS not in accepted:
        if findings.correction is not None:
            said = {"against": "score", "score": findings.score or "none"}
            raise CaseHeldError(STUDY_DIFFERS, other | said)
        findings_key = outcome.key
        findings = load_findings(artifact_folder(findings_key, settings))
    given, word, correction = findings, "", findings.correction
    if findings_key != outcome.key:
        given = load_findings(artifact_folder(outcome.key, settings))
        word = "confirmed" if correction is None else "corrected"
    return AnalyzedCase(
        findings_key=findings_key,
        score=findings.score or "",
        review=[{"code": reason.code, "params": dict(reason.params)} for reason in findings.review],
        times=outcome.times,
        reasons=len(given.review),
        word=word,
        was=(correction.was if correction is not None else "") or "",
    )


def prepare_analyze(context: StepContext, job: Job[CaseRow]) -> Call:
    """Prepare `analyze` of the case's two slides."""
    case = job.row
    target = pairing_of(case).target
    identity = Identity(accession=case.accession, block=case.block, stain=target)
    anatomy, scored = _slides(job)
    with context.ledger.transaction() as tx:
        hint = hint_of(tx, job.slides[pairing_of(case).anatomy], case.assay)
        signed_since = signed_since_written(tx.events(case.subject))
    if hint is not None:
        anatomy = replace(anatomy, interim=hint.opinion_text)
    return Call(
        analyze,
        (
            *(case.assay, identity, anatomy, scored, case.objects_key),
            *(context.settings, job.progress, _overruled(case), signed_since, _patients(job)),
        ),
    )


def _slides(job: Job[CaseRow]) -> list[ReadSlide]:
    """Return the case's slides, anatomy first.

    Raises
    ------
    SettingsError
        If the assay that is installed now pairs other stains than the one that opened the case.
    """
    case = job.row
    pairing = pairing_of(case)
    if find_assay(case.assay).pairing(expected=False).stains != pairing.stains:
        raise SettingsError(
            f"{case.subject} pairs {' and '.join(pairing.stains)}; the assay {case.assay!r} that "
            "is installed now pairs other stains. Install the one that opened the case."
        )
    return [read_slide_of(job.slides[stain]) for stain in pairing.stains]


def _patients(job: Job[CaseRow]) -> dict[Stain, Patient]:
    """Return the patient of each slide of a case, as it was identified."""
    return {Stain(stain): Patient.of_json(row.patient) for stain, row in job.slides.items()}


def _overruled(case: CaseRow) -> tuple[str, ...]:
    """Return the contradictions of a case's slides that a person accepted."""
    return tuple(json.loads(case.overruled))


def finish_analyze(
    tx: Transaction, _context: StepContext, row: CaseRow, done: Done, now: float
) -> None:
    """Keep findings, score and reasons for review."""
    found: AnalyzedCase = done.value
    row.findings_key, row.score = found.findings_key, found.score
    row.review = json.dumps(found.review, ensure_ascii=False)
    append_times(tx, row, found.times, now)
    told: dict[str, Any] = {REASONS: found.reasons}
    if found.word:
        told |= {"was": found.was, "score": found.score}
    tx.advance(row, CaseState.SCORED, now=now, code=found.word or "advanced", params=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCase:
    """Objects of a case: their key, and the notes for the operator.

    The key is empty where the findings were damaged, or are gone: nothing was written.
    `leaves_former`: the former objects name another patient, and are not replaced by these.
    """

    objects_key: str
    notes: tuple[str, ...]
    leaves_former: bool = False


def write(
    findings_key: str,
    objects_key: str,
    settings: Settings,
    patients: Mapping[Stain, Patient],
    accepted: Sequence[str] = (),
    convert: bool = False,
    repairs: bool = False,
) -> WrittenCase:
    """Write the objects of a case; `objects_key` is that of the ones before, or empty.

    `patients` are those of the case's slides. With `convert`, a slide is converted again that
    retention removed. `repairs`: a file of the objects is damaged; whom the order names now changes
    nothing of them, unless they are made anew: software or settings are others now.

    Raises
    ------
    CaseHeldError
        If the objects, or the kept order, would name another patient than the slides do.
    """
    folder = artifact_folder(findings_key, settings)
    if not is_as_written(folder):
        return WrittenCase(objects_key="", notes=())
    findings = load_findings(folder)
    previous, patient = written_for(objects_key, patients, settings)
    leaves = previous != objects_key
    order_fits = partial(require_order, findings.accession, previous, patients, accepted, settings)
    if not repairs:
        order_fits()
    key = write_objects(
        findings_key,
        settings,
        previous,
        convert=convert,
        patient=patient,
        leaves=objects_key if leaves else "",
        before_new=order_fits,
    )
    require_patient(key, patients, accepted, settings)
    notes = read_notes(key, settings)
    if leaves:
        notes.append(IN_ANOTHER_STUDY)
    unsigned = not findings.sign_offs and findings.correction is None
    if leaves and unsigned and signers_of(objects_key, settings):
        notes.append(NOT_SIGNED)
    if is_named_otherwise(findings.accession, key, patients, settings):
        notes.append(NAMED_OTHERWISE)
    return WrittenCase(objects_key=key, notes=tuple(notes), leaves_former=leaves)


def prepare_write(context: StepContext, job: Job[CaseRow]) -> Call:
    """Prepare `write` of the case's objects."""
    row = job.row
    with context.ledger.transaction() as tx:
        # A destination wants a converted slide whose file is damaged, or was removed by retention.
        convert = bool(slides_to_convert(tx, row, context.settings))
        repairs = is_taken_back(tx, row)
    keys = row.findings_key, row.objects_key
    return Call(write, (*keys, context.settings, _patients(job), _overruled(row), convert, repairs))


def finish_write(
    tx: Transaction, context: StepContext, row: CaseRow, done: Done, now: float
) -> None:
    """Keep the objects and put them into the outbox."""
    written: WrittenCase = done.value
    if not written.objects_key:
        _analyze_again(tx, row, now)
        return
    row.objects_key = written.objects_key
    append_times(tx, row, (time_of("write", done),), now)
    for note in written.notes:
        log.info("%s: %s", row.subject, note)
        tx.note(row.subject, "object-note", now, params={"note": note})
    if written.leaves_former:
        withdraw(tx, row, now, leaves=True)
    queued = enqueue_case(tx, row, context.settings, now)
    tx.advance(row, CaseState.WRITTEN, now=now, code="objects-queued", params={"count": queued})


def _analyze_again(tx: Transaction, row: CaseRow, now: float) -> None:
    """Take a case back whose findings are damaged; a person's word is not made up."""
    if tx.scored_by(row.subject) not in ("", "advanced"):
        set_reason(row, "correction-damaged")
        tx.advance(row, CaseState.FAILED, now=now, code="failed", reason=row.reason)
        return
    row.findings_key = row.score = ""
    row.review = "[]"
    tx.advance(row, CaseState.READY, now=now, code="result-damaged")
