"""The dispatcher: claims the next step, submits it, and closes it however it ended.

One worker does one step at a time. Cases come before slides, and each before what is farther from
its end; of equals the oldest. An ``except Exception`` of few (CONTRIBUTING.md): whatever a step
raises, the line goes on, and the slide or case shows it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from appliance.domain import QuarantineReason
from appliance.errors import SlideError, StoppedError, TransientError, WorkerDiedError
from appliance.intake.pair import all_read
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import CaseRow, SlideRow, fact, id_of, params_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.line.context import Done, Job, R, Step, StepContext
from appliance.line.site_trouble import site_trouble
from appliance.line.steps import CASE_STEPS, SLIDE_STEPS

log = logging.getLogger(__name__)


def work_once(context: StepContext) -> bool:
    """Do one step; return False where there is nothing to do.

    Raises
    ------
    StoppedError
        If the daemon was told to stop; the claim is left for the next start.
    """
    return _work_on_case(context) or _work_on_slide(context)


def _work_on_case(context: StepContext) -> bool:
    claimed = _claim_case(context)
    if claimed is None:
        return False
    step, job = claimed
    try:
        done = _submit(context, step, job)
        _close_case(context, job, lambda tx, row, now: step.finish(tx, context, row, done, now))
    except StoppedError:
        raise
    except TransientError as err:
        _retry_case(context, job, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        held = site_trouble(err, context.settings, tuple(job.slides.values()))
        if held is not None:
            _retry_case(context, job, held)
        else:
            _fail_step(context, job, err)
    return True


def _fail_step(context: StepContext, job: Job[CaseRow], err: Exception) -> None:
    _log_failure(job.row, err)
    message: Any = str(err)
    if isinstance(err, SlideError):
        message = fact("slide-error", err.reason, {"detail": err.detail})
    _fail(context, job, "step-failed", {"error": type(err).__name__, "message": message})


def _work_on_slide(context: StepContext) -> bool:
    claimed = _claim_slide(context)
    if claimed is None:
        return False
    step, job = claimed
    try:
        done = _submit(context, step, job)
        _close_slide(context, job, lambda tx, row, now: step.finish(tx, context, row, done, now))
    except StoppedError:
        raise
    except TransientError as err:
        _retry_slide(context, job, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        held = site_trouble(err, context.settings, (job.row,))
        if held is not None:
            _retry_slide(context, job, held)
        elif isinstance(err, SlideError):
            _quarantine(context, job, err.reason, {"detail": err.detail})
        else:
            _log_failure(job.row, err)
            params = {"error": type(err).__name__, "message": str(err)}
            _quarantine(context, job, QuarantineReason.FAILED, params)
    return True


# claim and submit


def _claim_case(context: StepContext) -> tuple[Step[CaseRow], Job[CaseRow]] | None:
    assays = [pairing.assay for pairing in context.pairings]
    with context.ledger.transaction() as tx:
        for step in CASE_STEPS:
            states = [CaseState(step.from_state)]
            row = tx.claim_case(states, context.name, context.clock(), assays)
            if row is not None and step.from_state == CaseState.READY and not all_read(tx, row):
                row.claimed_by = ""
                _wait_for_slides(tx, row, context.clock())
                return None
            if row is not None:
                slides = tx.current_slides(row.accession, row.block, pairing_of(row).stains)
                progress = ProgressFile.of(context.settings, row.subject)
                return step, Job(row=row, slides=slides, progress=progress)
    return None


def _claim_slide(context: StepContext) -> tuple[Step[SlideRow], Job[SlideRow]] | None:
    with context.ledger.transaction() as tx:
        for step in SLIDE_STEPS:
            states = [SlideState(step.from_state)]
            row = tx.claim_slide(states, context.name, context.clock())
            if row is not None:
                progress = ProgressFile.of(context.settings, row.subject)
                return step, Job(row=row, progress=progress)
    return None


def _submit(context: StepContext, step: Step[R], job: Job[R]) -> Done:
    start = time.perf_counter()
    call = step.run(context, job)
    if call is None:
        return Done(value=None, seconds=0.0)
    try:
        value = context.workers.run(call.function, *call.arguments)
    finally:
        job.progress.clear()
    return Done(value=value, seconds=time.perf_counter() - start)


# close


def _close_slide(
    context: StepContext,
    job: Job[SlideRow],
    finish: Callable[[Transaction, SlideRow, float], None],
) -> None:
    """Release a slide's claim and finish its step.

    The outcome is dropped where the row left the state that was claimed: the folder scan takes a
    slide back whose file changed meanwhile.
    """
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = tx.slide(id_of(job.row))
        if row is None:
            return
        row.claimed_by = ""
        tx.session.add(row)
        if row.state == job.row.state:
            finish(tx, row, now)
            row.worker_crashes, row.not_before = 0, 0.0


def _close_case(
    context: StepContext,
    job: Job[CaseRow],
    finish: Callable[[Transaction, CaseRow, float], None],
) -> None:
    """Release a case's claim and finish its step, unless a new slide reopened it meanwhile."""
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, job.row)
        if row is None:
            return
        row.worker_crashes = 0
        if row.state == CaseState.READY and not all_read(tx, row):
            _wait_for_slides(tx, row, now)
            return
        set_reason(row)
        finish(tx, row, now)


def _wait_for_slides(tx: Transaction, case: CaseRow, now: float) -> None:
    """Take back a case whose slide's file changed since the case became ready."""
    set_reason(case, "slide-changed")
    tx.advance(case, CaseState.WAITING, now=now, code="slide-changed", reason=case.reason)


def _reclaimed(tx: Transaction, case: CaseRow) -> CaseRow | None:
    row = tx.case(id_of(case))
    if row is None:
        return None
    row.claimed_by = ""
    tx.session.add(row)
    return row if row.state == case.state else None


def _quarantine(
    context: StepContext, job: Job[SlideRow], reason: QuarantineReason, params: Mapping[str, Any]
) -> None:
    log.warning("%s quarantined: %s", job.row.subject, reason)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        set_reason(row, reason, params)
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=reason)

    _close_slide(context, job, finish)


def _fail(context: StepContext, job: Job[CaseRow], reason: str, params: Mapping[str, Any]) -> None:
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, job.row)
        if row is not None:
            set_reason(row, reason, params)
            tx.advance(row, CaseState.FAILED, now=context.clock(), code="failed", reason=reason)


# try again


def _retry_slide(context: StepContext, job: Job[SlideRow], err: TransientError) -> None:
    crashes = job.row.worker_crashes + isinstance(err, WorkerDiedError)
    if crashes >= context.settings.worker_deaths:
        _quarantine(context, job, QuarantineReason.WORKER_KILLED, {"crashes": crashes})
        return
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = tx.slide(id_of(job.row))
        if row is not None:
            row.claimed_by = ""
            row.worker_crashes = crashes
            row.not_before = now + err.wait_seconds * 2**crashes
            # One note of each trouble, not one for each attempt: a share may be away for days.
            if isinstance(err, WorkerDiedError) or not job.row.not_before:
                params = {"message": str(err)}
                tx.note(row.subject, "try-again", now, reason=err.code, params=params)
            tx.session.add(row)


def _retry_case(context: StepContext, job: Job[CaseRow], err: TransientError) -> None:
    crashes = job.row.worker_crashes + isinstance(err, WorkerDiedError)
    if crashes >= context.settings.worker_deaths:
        _fail(context, job, "worker-killed", {"crashes": crashes})
        return
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _reclaimed(tx, job.row)
        if row is not None:
            row.worker_crashes = crashes
            row.not_before = now + err.wait_seconds * 2**crashes
            params = {"message": str(err)}
            # One note, not one for each attempt: a worklist may be away for days.
            if (row.reason, params_of(row)) != (err.code, params):
                set_reason(row, err.code, params)
                tx.note(row.subject, "try-again", now, reason=err.code, params=params)


def _log_failure(row: SlideRow | CaseRow, err: Exception) -> None:
    # Messages of libraries hold paths, and paths hold accessions: details only at DEBUG.
    log.error("%s: the step after '%s' failed: %s", row.subject, row.state, type(err).__name__)
    log.debug("%s: details", row.subject, exc_info=err)
