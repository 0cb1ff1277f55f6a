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
from appliance.domain import HE, HER2, Identity, QuarantineReason, SlideFacts, Stain
from appliance.errors import SlideError, StoppedError, TransientError, WorkerDiedError
from appliance.findings.findings import Findings, load_findings
from appliance.intake.pair import join_case, make_ready
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


@dataclass(frozen=True, slots=True)
class StepContext:
    """What every step needs."""

    ledger: Ledger
    settings: Settings
    workers: Workers
    name: str
    clock: Callable[[], float] = time.time


def work_once(line: StepContext) -> bool:
    """Do one step: of the case nearest its end first, else of the oldest slide. False: idle."""
    with line.ledger.transaction() as tx:
        case = tx.claim_case([CaseState.SCORED], line.name, line.clock()) or tx.claim_case(
            [CaseState.READY], line.name, line.clock()
        )
        slides = {} if case is None or case.id is None else tx.slides_of_case(case.id)
    if case is not None:
        _guarded_case(line, case, slides)
        return True
    with line.ledger.transaction() as tx:
        states = [SlideState.INSPECTED, SlideState.IDENTIFIED, SlideState.ARRIVED]
        slide = next(
            (s for state in states if (s := tx.claim_slide([state], line.name, line.clock()))),
            None,
        )
    if slide is not None:
        _guarded_slide(line, slide)
        return True
    return False


# slides


def _guarded_slide(line: StepContext, slide: SlideRow) -> None:
    try:
        finish = _SLIDE_STEPS[SlideState(slide.state)](line, slide)
    except SlideError as err:
        _quarantine(line, slide, err.reason, {"detail": err.detail})
    except StoppedError:
        raise
    except TransientError as err:
        _retry_slide(line, slide, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        _log_failure(slide.subject, slide.state, err)
        params = {"error": type(err).__name__, "message": str(err)}
        _quarantine(line, slide, QuarantineReason.FAILED, params)
    else:
        _close_slide(line, slide, finish)


Finish = Callable[[Transaction, SlideRow, float], None]


def _identify(line: StepContext, slide: SlideRow) -> Finish:
    start = time.perf_counter()
    found: IdentifiedSlide = line.workers.run(identify_slide, Path(slide.path), line.settings)
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
        join_case(tx, row, tx.case_for(identity, now), now)

    return finish


def _inspect(line: StepContext, slide: SlideRow) -> Finish:
    outcome = line.workers.run(inspect_slide, facts_of(slide), line.settings)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        row.inspect_key = outcome.key
        _append_times(tx, row.subject, outcome.times, now)
        if outcome.tissue_mm2 > 0:
            tx.advance(row, SlideState.INSPECTED, now=now)
            return
        row.reason = QuarantineReason.NO_TISSUE
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=row.reason)

    return finish


def _read(line: StepContext, slide: SlideRow) -> Finish:
    outcome: Outcome | None = None
    if slide.stain == HE:
        with _shown(line, slide.subject) as progress:
            outcome = line.workers.run(read_he, read_slide_of(slide), line.settings, progress)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        if outcome is not None:
            row.read_key = outcome.key
            _append_times(tx, row.subject, outcome.times, now)
        tx.advance(row, SlideState.READ, now=now)
        case = tx.case(row.case_id) if row.case_id is not None else None
        if case is not None:
            make_ready(tx, case, now)

    return finish


_SLIDE_STEPS: dict[SlideState, Callable[[StepContext, SlideRow], Finish]] = {
    SlideState.ARRIVED: _identify,
    SlideState.IDENTIFIED: _inspect,
    SlideState.INSPECTED: _read,
}


def _close_slide(line: StepContext, slide: SlideRow, finish: Finish) -> None:
    now = line.clock()
    with line.ledger.transaction() as tx:
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
    line: StepContext, slide: SlideRow, reason: QuarantineReason, params: Mapping[str, Any]
) -> None:
    log.warning("%s quarantined: %s", slide.subject, reason)

    def finish(tx: Transaction, row: SlideRow, now: float) -> None:
        set_reason(row, reason, params)
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=reason)

    _close_slide(line, slide, finish)


def _retry_slide(line: StepContext, slide: SlideRow, err: TransientError) -> None:
    worker_crashes = slide.worker_crashes + isinstance(err, WorkerDiedError)
    if worker_crashes >= line.settings.worker_deaths:
        _quarantine(line, slide, QuarantineReason.WORKER_KILLED, {"crashes": worker_crashes})
        return
    with line.ledger.transaction() as tx:
        row = tx.slide(slide.id or 0)
        if row is not None:
            row.claimed_by = ""
            row.worker_crashes = worker_crashes
            row.not_before = line.clock() + err.wait_seconds * 2**worker_crashes
            tx.note(
                row.subject,
                "try-again",
                line.clock(),
                reason=err.code,
                params={"message": str(err)},
            )
            tx.session.add(row)


# cases


def _guarded_case(line: StepContext, case: CaseRow, slides: dict[Stain, SlideRow]) -> None:
    try:
        if case.state == CaseState.READY:
            _analyse(line, case, slides)
        else:
            _write(line, case)
    except StoppedError:
        raise
    except TransientError as err:
        _retry_case(line, case, err)
    except Exception as err:  # noqa: BLE001  the per-step boundary
        _log_failure(case.subject, case.state, err)
        message: Any = str(err)
        if isinstance(err, SlideError):
            message = fact("slide-error", err.reason, {"detail": err.detail})
        params = {"error": type(err).__name__, "message": message}
        _fail_case(line, case, "step-failed", params)


def _analyse(line: StepContext, case: CaseRow, slides: dict[Stain, SlideRow]) -> None:
    he, ihc = slides[HE], slides[HER2]
    identity = Identity(accession=case.accession, block=case.block, stain=HER2)
    with _shown(line, case.subject) as progress:
        outcome = line.workers.run(
            analyse_case, identity, read_slide_of(he), read_slide_of(ihc), line.settings, progress
        )
    store = ArtifactStore(line.settings.artifacts_dir)
    findings_key = standing(outcome.key, case.objects_key, line.settings)
    findings = load_findings(store.path(ArtifactKey.parse(findings_key)))
    now = line.clock()
    with line.ledger.transaction() as tx:
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


def _write(line: StepContext, case: CaseRow) -> None:
    start = time.perf_counter()
    objects_key = line.workers.run(
        write_objects, case.findings_key, line.settings, case.objects_key
    )
    seconds = time.perf_counter() - start
    notes = read_notes(objects_key, line.settings)
    now = line.clock()
    with line.ledger.transaction() as tx:
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
        queued = enqueue_case(tx, row, line.settings, now)
        tx.advance(row, CaseState.WRITTEN, now=now, code="objects-queued", params={"count": queued})


@contextmanager
def _shown(line: StepContext, subject: str) -> Iterator[ProgressFile]:
    progress = ProgressFile.of(line.settings, subject)
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


def _retry_case(line: StepContext, case: CaseRow, err: TransientError) -> None:
    worker_crashes = case.worker_crashes + isinstance(err, WorkerDiedError)
    if worker_crashes >= line.settings.worker_deaths:
        _fail_case(line, case, "worker-killed", {"crashes": worker_crashes})
        return
    with line.ledger.transaction() as tx:
        row = _reclaimed(tx, case)
        if row is not None:
            row.worker_crashes = worker_crashes
            row.not_before = line.clock() + err.wait_seconds * 2**worker_crashes
            params = {"message": str(err)}
            # One note, not one for each attempt: a worklist may be away for days.
            if (row.reason, params_of(row)) != (err.code, params):
                set_reason(row, err.code, params)
                tx.note(row.subject, "try-again", line.clock(), reason=err.code, params=params)


def _fail_case(line: StepContext, case: CaseRow, reason: str, params: Mapping[str, Any]) -> None:
    now = line.clock()
    with line.ledger.transaction() as tx:
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
