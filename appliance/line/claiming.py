"""Claims: which step a lane does next.

STAT comes first, then cases before slides and each what is nearest its end, then age. Every few
claims the oldest slide or case comes first, so that nothing waits for ever. Cases are aligned ahead
of the networks, one for each of their processes: these never wait for an alignment while the lane
that aligns writes objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.intake.block import ANALYZED, all_read
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import CaseRow, SlideRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.line.context import Job, Step, StepContext
from appliance.line.executors import Resource
from appliance.line.steps import CASE_STEPS, SLIDE_STEPS


@dataclass(frozen=True, slots=True)
class CaseWork:
    """A claimed step of a case."""

    step: Step[CaseRow]
    job: Job[CaseRow]


@dataclass(frozen=True, slots=True)
class SlideWork:
    """A claimed step of a slide."""

    step: Step[SlideRow]
    job: Job[SlideRow]


Work = CaseWork | SlideWork


def claim_work(
    context: StepContext, lane: Resource | None = None, *, oldest: bool = False
) -> Work | None:
    """Claim the next step of a lane (None: of all lanes); return None where there is none."""
    with context.ledger.transaction() as tx:
        if oldest:
            return _work_of(tx, context, _oldest(tx, context, lane))
        for stat in (True, False):
            case = _claim_case(tx, context, lane, stats=(stat,))
            if case is not None:
                return _work_of(tx, context, case)
            slide = _claim_slide(tx, context, lane, stats=(stat,))
            if slide is not None:
                return _work_of(tx, context, slide)
    return None


def _oldest(
    tx: Transaction, context: StepContext, lane: Resource | None
) -> CaseRow | SlideRow | None:
    case = _claim_case(tx, context, lane, oldest=True)
    slide = _claim_slide(tx, context, lane, oldest=True)
    if case is None or slide is None:
        return case or slide
    first, other = (case, slide) if case.created_at < slide.created_at else (slide, case)
    other.claimed_by = other.claim_token = ""
    return first


def _claim_case(
    tx: Transaction,
    context: StepContext,
    lane: Resource | None,
    *,
    stats: Sequence[bool] = (True, False),
    oldest: bool = False,
) -> CaseRow | None:
    states = [CaseState(step.from_state) for step in CASE_STEPS if lane in (None, step.resource)]
    assays = [pairing.assay for pairing in context.pairings]
    now = context.clock()
    processes = context.settings.lanes.gpu
    if CaseState.READY in states and tx.cases_ahead(now, assays, processes) < processes:
        states.sort(key=lambda state: state is not CaseState.READY)  # else the networks starve
    while True:
        row = tx.claim_case(states, context.name, now, assays, stats=stats, oldest=oldest)
        if row is None or row.state not in ANALYZED or all_read(tx, row):
            return row
        row.claimed_by = ""
        wait_for_slides(tx, row, now)


def _claim_slide(
    tx: Transaction,
    context: StepContext,
    lane: Resource | None,
    *,
    stats: Sequence[bool] = (True, False),
    oldest: bool = False,
) -> SlideRow | None:
    states = [SlideState(step.from_state) for step in SLIDE_STEPS if lane in (None, step.resource)]
    return tx.claim_slide(states, context.name, context.clock(), stats=stats, oldest=oldest)


def _work_of(tx: Transaction, context: StepContext, row: CaseRow | SlideRow | None) -> Work | None:
    if row is None:
        return None
    progress = ProgressFile.of(context.settings, row.subject)
    if isinstance(row, SlideRow):
        step = next(step for step in SLIDE_STEPS if step.from_state == row.state)
        return SlideWork(step, Job(row=row, progress=progress))
    slides = tx.current_slides(row.accession, row.block, pairing_of(row).stains)
    case_step = next(step for step in CASE_STEPS if step.from_state == row.state)
    return CaseWork(case_step, Job(row=row, slides=slides, progress=progress))


def wait_for_slides(tx: Transaction, case: CaseRow, now: float) -> None:
    """Take back a case whose slide's file changed since the case became ready.

    Its result is of the former file, as are what a person accepted and the attempts that failed.
    """
    case.findings_key = case.score = ""
    case.worker_crashes, case.step_tries, case.not_before = 0, 0, 0.0
    case.review = case.overruled = "[]"
    set_reason(case, "slide-changed")
    tx.advance(case, CaseState.WAITING, now=now, code="slide-changed", reason=case.reason)
