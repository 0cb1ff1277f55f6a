"""Lanes: steps of different lanes overlap, STAT comes first, the oldest gets its share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.identities import identified_as

from appliance.domain import HE, HER2, Identity, Pairing, SlideFacts, Stain
from appliance.errors import DiskFullError, LedgerError, WorkerDiedError
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.transaction import Transaction
from appliance.line import lanes as lanes_module
from appliance.line.case_steps import AnalyzedCase
from appliance.line.child import Limits
from appliance.line.claiming import CaseWork, Work, claim_work
from appliance.line.closing import close_case, close_slide, release_work, set_aside
from appliance.line.context import StepContext
from appliance.line.dispatcher import do_work
from appliance.line.executors import Resource, Slot
from appliance.line.lanes import Lanes
from appliance.line.outcomes import IdentifiedSlide, InspectedSlide, Outcome, SlideRead
from appliance.operations.urgent import mark_stat
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings

HER2_ASSAY = Pairing(assay="her2", anatomy=HE, target=HER2, expected=True)
PATIENT_S = 300.0


def answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Answer in the place of a step."""
    if function.__name__ == "identify_slide":
        path = arguments[0]
        accession, block, stain = path.stem.split("_")
        facts = SlideFacts(
            path=str(path),
            fingerprint=path.name,
            format="svs",
            width_px=1,
            height_px=1,
            mpp=0.25,
            level_count=1,
            is_dicom=False,
        )
        identity = Identity(accession=accession, block=block, stain=Stain(stain))
        return IdentifiedSlide(facts=facts, verdict=identified_as(identity), organ="", specimen="")
    return {
        "warm_up": None,
        "inspect_slide": InspectedSlide(key="inspect/1", times=(), tissue_mm2=5.0),
        "read_slide": SlideRead(times=()),
        "align_case": Outcome(key="align/1", times=()),
        "analyze": AnalyzedCase(findings_key="findings/1", score="2+", review=[], times=()),
    }.get(function.__name__)


@dataclass
class Sleeper:
    """Executor and slot in one: each step sleeps, or waits for an event, and its time is kept.

    `begun` has the names of all steps that were begun, `ran` those that ended.
    """

    seconds: Mapping[str, float]
    threads: Mapping[Resource, int] = field(
        default_factory=lambda: dict[Resource, int](intake=1, cpu=1, gpu=1)
    )
    begun: list[str] = field(default_factory=list)
    ran: list[tuple[str, float, float]] = field(default_factory=list)
    dies: set[str] = field(default_factory=set)
    held: Mapping[str, threading.Event] = field(default_factory=dict)

    @contextmanager
    def slot(self, _lane: Resource) -> Iterator[Slot | None]:
        yield self

    def run(self, _limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.monotonic()
        self.begun.append(function.__name__)
        time.sleep(self.seconds.get(function.__name__, 0.0))
        if (event := self.held.get(function.__name__)) is not None:
            event.wait()
        self.ran.append((function.__name__, start, time.monotonic()))
        if function.__name__ in self.dies:
            self.dies.remove(function.__name__)
            raise WorkerDiedError("the worker process died")
        return answer(function, arguments)

    def close(self) -> None:
        pass


@pytest.fixture
def context(tmp_path: Path) -> Iterator[StepContext]:
    settings = Settings(state_dir=tmp_path / "state", watch=Watch(folder=tmp_path))
    ledger = Ledger(settings.ledger_url)
    yield StepContext(ledger=ledger, settings=settings, name="test", pairings=(HER2_ASSAY,))
    ledger.close()


def arrive(context: StepContext, *names: str) -> None:
    with context.ledger.transaction() as tx:
        for name in names:
            row = tx.add_slide(str(context.settings.watch.folder / name), time.time())
            tx.advance(row, SlideState.ARRIVED, now=time.time())


@contextmanager
def running(context: StepContext, executor: Sleeper) -> Iterator[Lanes]:
    stop = threading.Event()
    lanes = Lanes(context, executor, stop)
    lanes.start()
    try:
        yield lanes
    finally:
        stop.set()
        lanes.join(60)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def states(context: StepContext) -> list[str]:
    with context.ledger.transaction() as tx:
        return [row.state for row in tx.slides()]


def test_what_is_cheap_does_not_wait_for_what_is_dear(context: StepContext) -> None:
    ended = threading.Event()
    executor = Sleeper({}, held={"analyze": ended})
    with running(context, executor):
        arrive(context, "S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
        try:
            wait_for(lambda: "analyze" in executor.begun)
            arrive(context, "S26-2_A1_HE.svs")
            wait_for(lambda: states(context)[2] == SlideState.INSPECTED)
            assert "analyze" not in [name for name, _, _ in executor.ran]
        finally:
            ended.set()


def test_the_death_of_a_worker_takes_no_other_step_with_it(context: StepContext) -> None:
    executor = Sleeper({"inspect_slide": 0.5, "identify_slide": 0.5}, dies={"inspect_slide"})
    with running(context, executor):
        arrive(context, "S26-1_A1_HE.svs", "S26-2_A1_HE.svs")
        wait_for(lambda: states(context).count(SlideState.READ) >= 1)
        with context.ledger.transaction() as tx:
            rows = tx.slides()
            notes = [e.code for row in rows for e in tx.events(row.subject) if e.kind == "note"]
    assert notes == ["try-again"]
    assert sum(row.worker_crashes for row in rows) == 1
    assert sum(name == "identify_slide" for name, _, _ in executor.ran) == 2


def test_stat_comes_first_and_its_block_with_it(context: StepContext) -> None:
    arrive(context, "S26-1_A1_HE.svs", "S26-2_A1_HE.svs", "S26-3_A1_HE.svs")
    assert "come first" in mark_stat(context.settings, "slide-3", on=True)
    executor = Sleeper({})
    with running(context, executor):
        wait_for(lambda: states(context) == [SlideState.READ] * 3)
    with context.ledger.transaction() as tx:
        changes = [(e.at, e.id) for e in tx.events("slide-3") if e.to_state == "identified"]
        others = [(e.at, e.id) for e in tx.events("slide-1") if e.to_state == "identified"]
        assert changes < others
        # The case that the slide opened is STAT, and so is the partner that comes later.
        assert [case.stat for case in tx.cases()].count(True) == 1
    arrive(context, "S26-3_A1_HER2.svs")
    with running(context, executor):
        wait_for(lambda: SlideState.ARRIVED not in states(context))
    with context.ledger.transaction() as tx:
        assert [slide.stat for slide in tx.slides()] == [False, False, True, True]
    mark_stat(context.settings, "slide-4", on=False)
    with context.ledger.transaction() as tx:
        assert not any(row.stat for row in (*tx.slides(), *tx.cases()))


def test_the_oldest_gets_its_share(context: StepContext) -> None:
    arrive(context, "S26-1_A1_HE.svs", "S26-2_A1_HE.svs")
    mark_stat(context.settings, "slide-2", on=True)
    first = claim_work(context, "intake", oldest=True)
    assert first is not None
    assert first.job.row.id == 1
    second = claim_work(context, "intake", oldest=True)
    assert second is not None
    assert second.job.row.id == 2
    assert claim_work(context, "intake") is None
    assert claim_work(context, "gpu") is None


def test_a_case_is_aligned_ahead_of_the_networks_and_no_more(context: StepContext) -> None:
    arrive(context, *(f"S26-{n}_A1_{stain}.svs" for n in (1, 2, 3) for stain in ("HE", "HER2")))
    with running(context, Sleeper({})):
        wait_for(lambda: states(context) == [SlideState.READ] * 6)
    with context.ledger.transaction() as tx:
        tx.release_claims()
        for case in tx.cases():
            case.not_before = 0.0
            tx.advance(case, CaseState.HELD, now=1.0)
            tx.advance(case, CaseState.WAITING, now=1.0)
            tx.advance(case, CaseState.READY, now=1.0)
        for state in (CaseState.ALIGNED, CaseState.SCORED):
            tx.advance(tx.cases()[0], state, now=1.0)
    first = claim_work(context, "cpu")
    assert first is not None and (first.step.name, first.job.row.subject) == ("align", "case-2")
    with context.ledger.transaction() as tx:
        row = tx.case(2)
        assert row is not None
        row.claimed_by = ""
        tx.advance(row, CaseState.ALIGNED, now=2.0)
    second = claim_work(context, "cpu")
    assert second is not None and (second.step.name, second.job.row.subject) == ("write", "case-1")
    networks = claim_work(context, "gpu")
    assert networks is not None and networks.job.row.subject == "case-2"
    third = claim_work(context, "cpu")
    assert third is not None and (third.step.name, third.job.row.subject) == ("align", "case-3")


def close(context: StepContext, work: Work) -> None:
    """Close a step with its answer."""

    def finish(*_: object) -> None:
        raise AssertionError("an answer of an old claim was taken")

    if isinstance(work, CaseWork):
        close_case(context, work.job, finish)
    else:
        close_slide(context, work.job, finish)


def give_up(context: StepContext, work: Work) -> None:
    set_aside(context, work, RuntimeError("odd"))


@pytest.mark.parametrize("end", [release_work, give_up, close])
@pytest.mark.parametrize("subject", ["slide-1", "case-1"])
def test_an_answer_of_an_old_claim_is_dropped(
    context: StepContext, subject: str, end: Callable[[StepContext, Work], None]
) -> None:
    arrive(context, "S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    while (late := claim_work(context)) is not None and late.job.row.subject != subject:
        do_work(context, Sleeper({}), late)
    assert late is not None
    with context.ledger.transaction() as tx:
        tx.release_claims()  # the daemon was killed and started again
    again = claim_work(context)
    assert again is not None and again.job.row.subject == subject
    end(context, late)
    with context.ledger.transaction() as tx:
        row = tx.case(1) if subject == "case-1" else tx.slide(1)
        assert row is not None
        assert (row.claimed_by, row.claim_token) == ("test", again.job.row.claim_token)
        assert (row.state, row.reason) == (again.job.row.state, "")


def test_a_ledger_that_cannot_be_written_holds_the_lanes_and_loses_no_claim(
    context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when a step ends: its claim is freed later, and the step done again."""
    executor = Sleeper({})
    full = threading.Event()
    real = Transaction.advance

    def advance(self: Transaction, *given: Any, **more: Any) -> None:
        if full.is_set() and more.get("code") == "identified":
            raise DiskFullError("The disk is full.")
        real(self, *given, **more)

    monkeypatch.setattr(Transaction, "advance", advance)
    monkeypatch.setattr(DiskFullError, "wait_seconds", 0.2)
    full.set()
    with running(context, executor) as lanes:
        arrive(context, "S26-1_A1_HE.svs")
        wait_for(lambda: "disk is full" in str(lanes.signs()).lower() or _notes(context) > 0)
        assert states(context) == [SlideState.ARRIVED]
        full.clear()
        wait_for(lambda: states(context) == [SlideState.READ])


def _notes(context: StepContext) -> int:
    with context.ledger.transaction() as tx:
        return sum(e.kind == "note" for e in tx.events("slide-1"))


@pytest.mark.parametrize(
    ("err", "end"),
    [
        (LedgerError("of this row only"), SlideState.ARRIVED),
        (SystemError("in each way to end it"), SlideState.QUARANTINED),
    ],
)
def test_a_row_whose_end_cannot_be_written_holds_up_no_other(
    context: StepContext, monkeypatch: pytest.MonkeyPatch, err: Exception, end: SlideState
) -> None:
    """Trouble of the ledger blames no slide; any other error ends with a reason."""
    failures = list[str]()
    real = Transaction.advance

    def advance(self: Transaction, row: Any, *given: Any, **more: Any) -> None:
        twice = isinstance(err, LedgerError) or len(failures) < 6
        if row.subject == "slide-1" and twice:
            failures.append(str(more.get("code")))
            raise err
        real(self, row, *given, **more)

    monkeypatch.setattr(lanes_module, "TROUBLE_SECONDS", 0.05)
    arrive(context, "S26-1_A1_HE.svs", "S26-2_A1_HE.svs")
    monkeypatch.setattr(Transaction, "advance", advance)
    with running(context, Sleeper({})):
        wait_for(lambda: states(context) == [end, SlideState.READ] and len(failures) > 4)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_lane_is_told(context: StepContext) -> None:
    executor = Sleeper({})

    def leave(*_: Any) -> Any:
        raise SystemExit

    executor.run = leave  # type: ignore[method-assign]
    with running(context, executor) as lanes:
        wait_for(lambda: "its thread ended" in lanes.signs()["intake 1"].trouble)


def test_stat_is_the_blocks_before_there_is_a_case(context: StepContext) -> None:
    alone = replace(context, pairings=())
    arrive(context, "S26-1_A1_HE.svs")
    mark_stat(context.settings, "slide-1", on=True)
    with running(alone, Sleeper({})):
        wait_for(lambda: states(context) == [SlideState.READ])
        arrive(context, "S26-1_A1_HER2.svs")
        wait_for(lambda: states(context) == [SlideState.READ] * 2)
    with context.ledger.transaction() as tx:
        assert [slide.stat for slide in tx.slides()] == [True, True]
