"""One step of one slide or case: claim it, run it in the worker, write down how it ended.

An ``except Exception`` of few (CONTRIBUTING.md): whatever a step raises, the line goes on, and
the slide or case shows it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.objects import read_notes, write_objects
from appliance.delivery.outbox import enqueue_case
from appliance.domain import Identity, Pairing, QuarantineReason, SlideFacts
from appliance.errors import SlideError, StoppedError, TransientError, WorkerDiedError
from appliance.findings.findings import Findings, load_findings
from appliance.intake.pair import join_block, make_ready, pairing_of
from appliance.ledger.events import Event
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import CaseRow, SlideRow, params_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.line.analysis import (
    IdentifiedSlide,
    Outcome,
    ReadSlide,
    StepTime,
    analyse_case,
    identify_slide,
    inspect_slide,
    read_he,
)
from appliance.line.executors import Workers
from appliance.operations.corrections import standing
from appliance.settings.settings import Settings
from appliance.words.say import fact

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The parts that steps need; `name` is the claiming worker's, `pairings` the assays'."""

    ledger: Ledger
    settings: Settings
    workers: Workers
    name: str
    pairings: tuple[Pairing, ...]
    clock: Callable[[], float] = time.time


def work_once(context: StepContext) -> bool:
    """Do one step: of the case nearest its end first, else of the oldest slide. False: idle."""
    with context.ledger.transaction() as tx:
        assays = [pairing.assay for pairing in context.pairings]
        case = tx.claim_case(
            [CaseState.SCORED], context.name, context.clock(), assays
        ) or tx.claim_case([CaseState.READY], context.name, context.clock(), assays)
    if case is not None:
        _guarded_case(context, case)
        return True
    with context.ledger.transaction() as tx:
        states = [SlideState.INSPECTED, SlideState.IDENTIFIED, SlideState.ARRIVED]
        slide = next(
            (
                s
                for state in states
                if (s := tx.claim_slide([state], context.name, context.clock()))
            ),
            None,
        )
    if slide is not None:
        _guarded_slide(context, slide)
        return True
    return False


# slides


def _guarded_slide(context: StepContext, slide: SlideRow) -> None:
    try:
        finish = _SLIDE_STEPS[SlideState(slide.state)](context, slide)
    except SlideError as err:
        _quarantine(context, slide, err.reason, {"detail": err.detail})
    except StoppedError:
        raise
    except TransientError as err:
        _retry_slide(context, slide, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        _log_failure(slide.subject, slide.state, err)
        params = {"error": type(err).__name__, "message": str(err)}
        _quarantine(context, slide, QuarantineReason.FAILED, params)
    else:
        _close_slide(context, slide, finish)


Finish = Callable[[Transaction, SlideRow, float], None]


def _identify(context: StepContext, slide: SlideRow) -> Finish:
    start = time.perf_counter()
    found: IdentifiedSlide = context.workers.run(identify_slide, Path(slide.path), context.settings)
    seconds = time.perf_counter() - start

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        facts, identity = found.facts, found.identity
        row.fingerprint, row.format, row.mpp = facts.fingerprint, facts.format, facts.mpp
        row.width_px, row.height_px = facts.width_px, facts.height_px
        row.level_count, row.is_dicom = facts.level_count, facts.is_dicom
        row.accession, row.block = identity.accession, identity.block
        row.stain = identity.stain
        _append_times(
            tx, row.subject, (StepTime(step="identify", seconds=seconds, reused=False),), now
        )
        tx.advance(
            row,
            SlideState.IDENTIFIED,
            now=now,
            code="identified",
            params={"stain": identity.stain},
        )
        join_block(tx, row, context.pairings, now)

    return finish


def _inspect(context: StepContext, slide: SlideRow) -> Finish:
    outcome = context.workers.run(inspect_slide, facts_of(slide), context.settings)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        row.inspect_key = outcome.key
        _append_times(tx, row.subject, outcome.times, now)
        if outcome.tissue_mm2 > 0:
            tx.advance(row, SlideState.INSPECTED, now=now)
            return
        row.reason = QuarantineReason.NO_TISSUE
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=row.reason)

    return finish


def _read(context: StepContext, slide: SlideRow) -> Finish:
    outcome: Outcome | None = None
    if slide.stain in {pairing.anatomy for pairing in context.pairings}:
        with _shown(context, slide.subject) as progress:
            outcome = context.workers.run(read_he, read_slide_of(slide), context.settings, progress)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        if outcome is not None:
            row.read_key = outcome.key
            _append_times(tx, row.subject, outcome.times, now)
        tx.advance(row, SlideState.READ, now=now)
        for case in tx.cases_of_block(row.accession, row.block):
            pairing = pairing_of(case, context.pairings)
            if pairing is not None and row.stain in pairing.stains:
                make_ready(tx, case, pairing, now)

    return finish


_SLIDE_STEPS: dict[SlideState, Callable[[StepContext, SlideRow], Finish]] = {
    SlideState.ARRIVED: _identify,
    SlideState.IDENTIFIED: _inspect,
    SlideState.INSPECTED: _read,
}


def _close_slide(context: StepContext, slide: SlideRow, finish: Finish) -> None:
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = tx.slide(slide.id or 0)
        if row is None:
            return
        row.claimed_by = ""
        tx.session.add(row)
        # The folder scan may have taken it back meanwhile: the file changed under the step.
        if row.state == slide.state:
            finish(tx, row, now)
            row.worker_crashes = 0


def _quarantine(
    context: StepContext, slide: SlideRow, reason: QuarantineReason, params: Mapping[str, Any]
) -> None:
    log.warning("%s quarantined: %s", slide.subject, reason)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        set_reason(row, reason, params)
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=reason)

    _close_slide(context, slide, finish)


def _retry_slide(context: StepContext, slide: SlideRow, err: TransientError) -> None:
    worker_crashes = slide.worker_crashes + isinstance(err, WorkerDiedError)
    if worker_crashes >= context.settings.worker_deaths:
        _quarantine(context, slide, QuarantineReason.WORKER_KILLED, {"crashes": worker_crashes})
        return
    with context.ledger.transaction() as tx:
        row = tx.slide(slide.id or 0)
        if row is not None:
            row.claimed_by = ""
            row.worker_crashes = worker_crashes
            row.not_before = context.clock() + err.wait_seconds * 2**worker_crashes
            tx.note(
                row.subject,
                "try-again",
                context.clock(),
                reason=err.code,
                params={"message": str(err)},
            )
            tx.session.add(row)


# cases


def _guarded_case(context: StepContext, case: CaseRow) -> None:
    try:
        if case.state == CaseState.READY:
            _analyse(context, case)
        else:
            _write(context, case)
    except StoppedError:
        raise
    except TransientError as err:
        _retry_case(context, case, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        _log_failure(case.subject, case.state, err)
        message: Any = str(err)
        if isinstance(err, SlideError):
            message = fact("slide-error", err.reason, {"detail": err.detail})
        params = {"error": type(err).__name__, "message": message}
        _fail_case(context, case, "step-failed", params)


def _analyse(context: StepContext, case: CaseRow) -> None:
    pairing = next(each for each in context.pairings if each.assay == case.assay)
    with context.ledger.transaction() as tx:
        slides = tx.current_slides(case.accession, case.block, pairing.stains)
    he, ihc = slides[pairing.anatomy], slides[pairing.target]
    identity = Identity(accession=case.accession, block=case.block, stain=pairing.target)
    with _shown(context, case.subject) as progress:
        outcome = context.workers.run(
            analyse_case,
            identity,
            read_slide_of(he),
            read_slide_of(ihc),
            context.settings,
            progress,
        )
    store = ArtifactStore(context.settings.artifacts_dir)
    findings_key = standing(outcome.key, case.objects_key, context.settings)
    findings = load_findings(store.path(ArtifactKey.parse(findings_key)))
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, case)
        if row is None:
            return
        row.findings_key = findings_key
        row.score = "" if findings.score is None else findings.score.value
        row.review = json.dumps(review_facts(findings), ensure_ascii=False)
        row.worker_crashes = 0
        set_reason(row)
        _append_times(tx, row.subject, outcome.times, now)
        tx.advance(row, CaseState.SCORED, now=now)


def _write(context: StepContext, case: CaseRow) -> None:
    start = time.perf_counter()
    objects_key = context.workers.run(
        write_objects, case.findings_key, context.settings, case.objects_key
    )
    seconds = time.perf_counter() - start
    notes = read_notes(objects_key, context.settings)
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, case)
        if row is None:
            return
        row.objects_key = objects_key
        row.worker_crashes = 0
        set_reason(row)
        _append_times(
            tx, row.subject, (StepTime(step="write", seconds=seconds, reused=False),), now
        )
        for note in notes:
            log.info("%s: %s", row.subject, note)
            tx.note(row.subject, "object-note", now, params={"note": note})
        queued = enqueue_case(tx, row, context.settings, now)
        tx.advance(row, CaseState.WRITTEN, now=now, code="objects-queued", params={"count": queued})


@contextmanager
def _shown(context: StepContext, subject: str) -> Iterator[ProgressFile]:
    progress = ProgressFile.of(context.settings, subject)
    try:
        yield progress
    finally:
        progress.clear()


def _reclaimed(tx: Transaction, case: CaseRow) -> CaseRow | None:
    """The row with its claim released; None when a new slide reopened the case meanwhile."""
    row = tx.case(case.id or 0)
    if row is None:
        return None
    row.claimed_by = ""
    tx.session.add(row)
    return row if row.state == case.state else None


def _retry_case(context: StepContext, case: CaseRow, err: TransientError) -> None:
    worker_crashes = case.worker_crashes + isinstance(err, WorkerDiedError)
    if worker_crashes >= context.settings.worker_deaths:
        _fail_case(context, case, "worker-killed", {"crashes": worker_crashes})
        return
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, case)
        if row is not None:
            row.worker_crashes = worker_crashes
            row.not_before = context.clock() + err.wait_seconds * 2**worker_crashes
            params = {"message": str(err)}
            # One note, not one for each attempt: a worklist may be away for days.
            if (row.reason, params_of(row)) != (err.code, params):
                set_reason(row, err.code, params)
                tx.note(row.subject, "try-again", context.clock(), reason=err.code, params=params)


def _fail_case(context: StepContext, case: CaseRow, reason: str, params: Mapping[str, Any]) -> None:
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, case)
        if row is not None:
            set_reason(row, reason, params)
            tx.advance(row, CaseState.FAILED, now=now, code="failed", reason=reason)


# rows and values


def facts_of(slide: SlideRow) -> SlideFacts:
    """The facts that a slide's row holds."""
    return SlideFacts(
        path=slide.path,
        fingerprint=slide.fingerprint,
        format=slide.format,
        width_px=slide.width_px,
        height_px=slide.height_px,
        mpp=slide.mpp,
        level_count=slide.level_count,
        is_dicom=slide.is_dicom,
    )


def read_slide_of(slide: SlideRow) -> ReadSlide:
    """A slide's row as the analysis steps take it."""
    return ReadSlide(facts=facts_of(slide), inspect_key=slide.inspect_key, read_key=slide.read_key)


def _log_failure(subject: str, state: str, err: Exception) -> None:
    # Messages of libraries hold paths, and paths hold accessions: details only at DEBUG.
    log.error("%s: the step after '%s' failed: %s", subject, state, type(err).__name__)
    log.debug("%s: details", subject, exc_info=err)


def _append_times(tx: Transaction, subject: str, times: tuple[StepTime, ...], now: float) -> None:
    for time_ in times:
        tx.append_event(
            Event(
                at=now,
                subject=subject,
                kind="step",
                code="step-done",
                step=time_.step,
                seconds=time_.seconds,
                reused=time_.reused,
            )
        )


def review_facts(findings: Findings) -> list[dict[str, Any]]:
    """Return the reasons for review as facts: ``{"code": …, "params": {…}}``."""
    facts: list[dict[str, Any]] = []
    for reason in findings.review:
        # Reasons carry parameters or, until then, their sentence.
        params = getattr(reason, "params", None)
        told = {"sentence": getattr(reason, "sentence", "")} if params is None else dict(params)
        facts.append({"code": str(reason.code), "params": told})
    return facts
