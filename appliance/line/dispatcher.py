"""The dispatcher: claims a step, runs it in a slot, and closes it however it ended.

An ``except Exception`` of few (CONTRIBUTING.md): whatever a step raises, the line goes on, and the
slide or case shows it.
"""

from __future__ import annotations

import time

from sqlalchemy.exc import SQLAlchemyError

from appliance.domain import QuarantineReason
from appliance.errors import (
    CaseHeldError,
    LedgerError,
    SlideError,
    SourceChangedError,
    StoppedError,
    TookTooLongError,
    TransientError,
    WorkerDiedError,
    text_of,
)
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction
from appliance.line.child import Limits
from appliance.line.claiming import CaseWork, SlideWork, Work
from appliance.line.closing import (
    close_case,
    close_slide,
    fail_step,
    hold_case,
    log_failure,
    quarantine,
    retry_case,
    retry_slide,
    take_back_case,
    take_back_slide,
)
from appliance.line.context import Done, Job, R, Step, StepContext
from appliance.line.executors import Slot
from appliance.line.machine import machine_short
from appliance.line.site_trouble import second_look, site_trouble

OF_THE_LEDGER = (LedgerError, SQLAlchemyError)
"""Errors of the ledger beside its transient ones. No step is to blame; the lane tries again."""


def do_work(context: StepContext, slot: Slot, work: Work) -> None:
    """Run a claimed step in a slot and close it.

    Raises
    ------
    StoppedError
        If the daemon was told to stop; the claim is left for the next start.
    """
    if isinstance(work, CaseWork):
        _work_on_case(context, slot, work)
    else:
        _work_on_slide(context, slot, work)


def _work_on_case(context: StepContext, slot: Slot, work: CaseWork) -> None:
    step, job = work.step, work.job

    def finish(tx: Transaction, row: CaseRow, now: float) -> None:
        step.finish(tx, context, row, done, now)

    try:
        done = _submit(context, slot, step, job)
        close_case(context, job, finish)
    except (StoppedError, *OF_THE_LEDGER):
        raise
    except SourceChangedError as err:
        take_back_case(context, job, err)
    except CaseHeldError as err:
        hold_case(context, job, err)
    except (TookTooLongError, WorkerDiedError) as err:
        slides = tuple(job.slides.values())
        retry_case(context, job, site_trouble(err, context.settings, slides, slot) or err)
    except TransientError as err:
        retry_case(context, job, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        held = machine_short(err, job.row) or site_trouble(
            err, context.settings, tuple(job.slides.values()), slot
        )
        if held is None and (held := second_look(err, job.row)):
            log_failure(job.row, err)
        if held is not None:
            retry_case(context, job, held)
        else:
            fail_step(context, job, err)


def _work_on_slide(context: StepContext, slot: Slot, work: SlideWork) -> None:
    step, job = work.step, work.job

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        step.finish(tx, context, row, done, now)

    try:
        done = _submit(context, slot, step, job)
        close_slide(context, job, finish)
    except (StoppedError, *OF_THE_LEDGER):
        raise
    except SourceChangedError:
        take_back_slide(context, job)
    except (TookTooLongError, WorkerDiedError) as err:
        retry_slide(context, job, site_trouble(err, context.settings, (job.row,), slot) or err)
    except TransientError as err:
        retry_slide(context, job, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        held = machine_short(err, job.row) or site_trouble(err, context.settings, (job.row,), slot)
        if held is None and (held := second_look(err, job.row)):
            log_failure(job.row, err)
        if held is not None:
            retry_slide(context, job, held)
        elif isinstance(err, SlideError):
            quarantine(context, job, err.reason, {"detail": err.detail})
        else:
            log_failure(job.row, err)
            params = {"error": type(err).__name__, "message": text_of(err)}
            quarantine(context, job, QuarantineReason.FAILED, params)


def _submit(context: StepContext, slot: Slot, step: Step[R], job: Job[R]) -> Done:
    start = time.perf_counter()
    call = step.run(context, job)
    if call is None:
        return Done(value=None, seconds=0.0)
    try:
        value = slot.run(_limits(context, step, job), call.function, *call.arguments)
    finally:
        job.progress.clear()
    return Done(value=value, seconds=time.perf_counter() - start)


def _limits(context: StepContext, step: Step[R], job: Job[R]) -> Limits:
    """Limits of a step, by the size of the slides that it reads."""
    slides = [job.row] if isinstance(job.row, SlideRow) else list(job.slides.values())
    gib = sum(slide.size_bytes for slide in slides) / 2**30
    lanes = context.settings.lanes
    deadline_s = lanes.deadline_factor * (step.deadline_s + step.deadline_s_per_gib * gib)
    return Limits(
        deadline_s=deadline_s + step.beside_s(slides, context.settings),
        silent_s=lanes.silent_seconds,
    )
