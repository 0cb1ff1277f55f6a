"""The end of a step in the ledger: finished, tried again, or set aside. One transaction each.

An answer is dropped where the row left the state that was claimed (the folder scan takes a slide
back whose file changed), or where the claim's token is another one: the answer comes too late.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from appliance.delivery.intact import refuse_slides, slides_to_convert
from appliance.domain import QuarantineReason
from appliance.errors import (
    CaseHeldError,
    FolderAwayError,
    LookAgainError,
    MachineShortError,
    SlideError,
    SourceChangedError,
    TookTooLongError,
    TransientError,
    WorkerDiedError,
    text_of,
)
from appliance.intake.block import ANALYZED, all_read, hold, leave_block
from appliance.intake.content import lose_slide
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow, fact, id_of, params_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.ledger.waits import wait_until
from appliance.line.claiming import CaseWork, Work, wait_for_slides
from appliance.line.context import Job, StepContext
from appliance.line.machine import SHORT
from appliance.line.site_trouble import LOOKED
from appliance.line.slide_steps import take_slide_back

log = logging.getLogger(__name__)

MOST_RETURNS = 3
"""Times that a slide which vanished comes back by itself before it was read."""


def close_slide(
    context: StepContext,
    job: Job[SlideRow],
    finish: Callable[[Transaction, SlideRow, float], None],
) -> None:
    """Release a slide's claim and finish its step."""
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _released_slide(tx, job.row)
        if row is not None:
            if row.reason:  # what it waited for is there
                set_reason(row)
            finish(tx, row, now)
            row.worker_crashes, row.step_tries, row.not_before = 0, 0, 0.0


def close_case(
    context: StepContext,
    job: Job[CaseRow],
    finish: Callable[[Transaction, CaseRow, float], None],
) -> None:
    """Release a case's claim and finish its step, unless a new slide reopened it meanwhile."""
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _released_case(tx, job.row)
        if row is None:
            return
        row.worker_crashes = row.step_tries = 0
        if row.state in ANALYZED and not all_read(tx, row):
            wait_for_slides(tx, row, now)
            return
        set_reason(row)
        finish(tx, row, now)


def _released_slide(tx: Transaction, slide: SlideRow) -> SlideRow | None:
    """Release a claim; return the row where it is still as it was claimed."""
    row = tx.slide(id_of(slide))
    if row is None or row.claim_token != slide.claim_token:
        return None
    row.claimed_by = row.claim_token = ""
    tx.session.add(row)
    return row if _is_same(row, slide) else None


def _released_case(tx: Transaction, case: CaseRow) -> CaseRow | None:
    """Release a claim; return the row where it is still as it was claimed."""
    row = tx.case(id_of(case))
    if row is None or row.claim_token != case.claim_token:
        return None
    row.claimed_by = row.claim_token = ""
    tx.session.add(row)
    return row if _is_same(row, case) else None


def _is_same(row: SlideRow | CaseRow, claimed: SlideRow | CaseRow) -> bool:
    """Return whether a row did not change meanwhile: it may have left its state and come back."""
    return (row.state, row.changed_at) == (claimed.state, claimed.changed_at)


# set aside


def quarantine(
    context: StepContext, job: Job[SlideRow], reason: QuarantineReason, params: Mapping[str, Any]
) -> None:
    """Set a slide aside with a reason.

    One that is there for the folder scan, and again and again not for the step, is unreadable: it
    does not come back by itself.
    """
    log.warning("%s quarantined: %s", job.row.subject, reason)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        why = reason
        if reason == QuarantineReason.VANISHED and _returns(tx, row) >= MOST_RETURNS:
            why = QuarantineReason.UNREADABLE
        set_reason(row, why, params)
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=why)
        # A slide that is identified again still lies in the case that it was read for.
        if job.row.state == SlideState.ARRIVED and row.accession:
            leave_block(tx, row, (row.accession, row.block, row.stain), now)
        lose_slide(tx, row, now)

    close_slide(context, job, finish)


def _returns(tx: Transaction, row: SlideRow) -> int:
    """Return how often a slide came back by itself since it was read, or a person had a say.

    What the scan found missing, while the file arrived, is the site's, and does not count.
    """
    count, back = 0, False
    for event in reversed(tx.events(row.subject)):
        is_new = event.code in ("retry", "file-changed")
        if event.by or is_new or event.to_state == SlideState.READ:
            break
        if event.code == "set-aside":
            count += back and event.from_state != SlideState.ARRIVING
        back = event.code == "came-back"
    return count


def fail_case(
    context: StepContext, job: Job[CaseRow], reason: str, params: Mapping[str, Any]
) -> None:
    """Set a case aside with a reason."""
    with context.ledger.transaction() as tx:
        row = _released_case(tx, job.row)
        if row is not None:
            row.worker_crashes = row.step_tries = 0
            set_reason(row, reason, params)
            tx.advance(row, CaseState.FAILED, now=context.clock(), code="failed", reason=reason)


def fail_step(context: StepContext, job: Job[CaseRow], err: Exception) -> None:
    """Set a case aside for an error that its step raised.

    A slide that cannot be converted again, as its file is gone, keeps no result from going out.
    """
    log_failure(job.row, err)
    if isinstance(err, SlideError) and _go_on_without_slides(context, job):
        return
    message: Any = text_of(err)
    if isinstance(err, SlideError):
        if err.reason == QuarantineReason.VANISHED:
            gone = [each.subject for each in job.slides.values() if each.path == err.path]
            fail_case(context, job, "slide-gone", {"slides": gone})
            return
        message = fact("slide-error", err.reason, {"detail": err.detail})
    fail_case(context, job, "step-failed", {"error": type(err).__name__, "message": message})


def _go_on_without_slides(context: StepContext, job: Job[CaseRow]) -> bool:
    """Refuse the slides that a case should have converted again; return whether there are any."""
    now = context.clock()
    with context.ledger.transaction() as tx:
        slides = slides_to_convert(tx, job.row, context.settings)
        row = _released_case(tx, job.row) if slides else None
        if row is not None:
            refuse_slides(tx, slides, now)
            row.worker_crashes = row.step_tries = 0
            set_reason(row)
    return bool(slides)


def hold_case(context: StepContext, job: Job[CaseRow], err: CaseHeldError) -> None:
    """Hold a case whose slides contradict each other, until a person decides."""
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _released_case(tx, job.row)
        if row is not None:
            hold(tx, row, err.reason, err.params, now)


# take back


def take_back_slide(context: StepContext, job: Job[SlideRow]) -> None:
    """Take a slide up anew whose file is another one by now; what was read is dropped."""
    close_slide(context, job, take_slide_back)


def take_back_case(context: StepContext, job: Job[CaseRow], err: SourceChangedError) -> None:
    """Let a case wait for the slide whose file is another one by now."""
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _released_case(tx, job.row)
        for slide in job.slides.values():
            there = tx.slide(id_of(slide))
            if there is not None and slide.path == err.path and there.state == slide.state:
                take_slide_back(tx, there, now)
        # A slide that is set aside gives its place to an older scan, and the case waits already.
        if row is not None and _is_same(row, job.row):
            wait_for_slides(tx, row, now)


# try again


def retry_slide(context: StepContext, job: Job[SlideRow], err: TransientError) -> None:
    """Try a slide's step again later, or set the slide aside after too many attempts."""
    crashes = job.row.worker_crashes + isinstance(err, WorkerDiedError)
    tries = _tries(job.row, err)
    if crashes >= context.settings.worker_deaths:
        quarantine(context, job, QuarantineReason.WORKER_KILLED, {"crashes": crashes})
        return
    if isinstance(err, TookTooLongError) and tries % LOOKED >= context.settings.lanes.attempts:
        quarantine(context, job, QuarantineReason.TOOK_TOO_LONG, {"detail": str(err)})
        return
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _released_slide(tx, job.row)
        if row is not None:
            row.worker_crashes, row.step_tries = crashes, tries
            row.not_before = wait_until(now, err.wait_seconds * 2**crashes)
            params = {"message": str(err)}
            # One note of each trouble, not one for each attempt: a share may be away for days.
            if row.reason != err.code or (
                crashes + tries % SHORT > job.row.worker_crashes + job.row.step_tries % SHORT
            ):
                tx.note(row.subject, "try-again", now, reason=err.code, params=params)
            set_reason(row, err.code, params)


def retry_case(context: StepContext, job: Job[CaseRow], err: TransientError) -> None:
    """Try a case's step again later, or set the case aside after too many attempts."""
    crashes = job.row.worker_crashes + isinstance(err, WorkerDiedError)
    tries = _tries(job.row, err)
    if crashes >= context.settings.worker_deaths:
        fail_case(context, job, "worker-killed", {"crashes": crashes})
        return
    if isinstance(err, TookTooLongError) and tries % LOOKED >= context.settings.lanes.attempts:
        fail_case(context, job, "took-too-long", {"message": str(err)})
        return
    now = context.clock()
    with context.ledger.transaction() as tx:
        row = _released_case(tx, job.row)
        if row is not None:
            row.worker_crashes, row.step_tries = crashes, tries
            row.not_before = wait_until(now, err.wait_seconds * 2**crashes)
            params = {"message": str(err)}
            # One note, not one for each attempt: a worklist may be away for days.
            if (row.reason, params_of(row)) != (err.code, params):
                set_reason(row, err.code, params)
                tx.note(row.subject, "try-again", now, reason=err.code, params=params)


def _tries(row: SlideRow | CaseRow, err: TransientError) -> int:
    """Count the attempts that failed, each kind alone; a folder that was away gives them back."""
    if isinstance(err, FolderAwayError):
        return 0
    looked = LOOKED if isinstance(err, LookAgainError) else 0
    short = SHORT if isinstance(err, MachineShortError) else 0
    return row.step_tries + isinstance(err, TookTooLongError) + looked + short


def log_failure(row: SlideRow | CaseRow, err: Exception) -> None:
    """Log an error by its class; details at DEBUG only."""
    # Messages of libraries hold paths, and paths hold accessions.
    log.error("%s: the step after '%s' failed: %s", row.subject, row.state, type(err).__name__)
    log.debug("%s: details", row.subject, exc_info=err)


def release_work(context: StepContext, work: Work, wait_s: float = 0.0) -> None:
    """Release the claim of a step whose end could not be written; it is done again after a wait."""
    with context.ledger.transaction() as tx:
        row: SlideRow | CaseRow | None
        if isinstance(work, CaseWork):
            row = _released_case(tx, work.job.row)
        else:
            row = _released_slide(tx, work.job.row)
        if row is not None and wait_s:
            row.not_before = wait_until(context.clock(), wait_s)


def set_aside(context: StepContext, work: Work, err: Exception) -> None:
    """Set a slide or case aside whose step, or its end, fails in a way that nobody foresaw."""
    params = {"error": type(err).__name__, "message": "see the log"}
    if isinstance(work, CaseWork):
        fail_case(context, work.job, "step-failed", params)
    else:
        quarantine(context, work.job, QuarantineReason.FAILED, params)
