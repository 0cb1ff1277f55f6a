"""Time left by measured rates, and arrivals against deliveries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from appliance.domain import HE, HER2
from appliance.findings.findings import Findings
from appliance.ledger.events import Event
from appliance.ledger.heartbeat import LaneSign
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.transaction import Transaction
from appliance.line import steps
from dashboard.flow import CASE_STEPS, FEWEST_STEPS, HOUR_S, HOURS, LANES, SLIDE_STEPS, read_flow
from dashboard.views.flow import flow_markup
from dashboard.wording import STEP_WORDS, about

if TYPE_CHECKING:
    from conftest import Lab


@pytest.fixture
def reader(lab: Lab) -> Iterator[LedgerReader]:
    made = LedgerReader(lab.settings.ledger_url)
    yield made
    made.close()


def test_the_steps_are_those_of_the_line() -> None:
    line = [*steps.SLIDE_STEPS, *steps.CASE_STEPS]
    assert {step.name: step.resource for step in line} == dict(LANES)
    assert LANES.keys() == STEP_WORDS.keys()
    first = {state: names[0] for state, names in {**SLIDE_STEPS, **CASE_STEPS}.items()}
    assert {step.from_state: step.name for step in line} == first
    for names in (*SLIDE_STEPS.values(), *CASE_STEPS.values()):
        order = [*LANES]
        assert list(names) == order[order.index(names[0]) :][: len(names)]


def took(lab: Lab, at: float, subject: str, *times: tuple[str, float, bool]) -> None:
    """Note what the daemon notes at the end of a step: its parts have one time."""

    def note(tx: Transaction, _now: float) -> None:
        for step, seconds, reused in times:
            tx.append_event(
                Event(
                    at=at,
                    subject=subject,
                    kind="step",
                    code="step-done",
                    step=step,
                    seconds=seconds,
                    reused=reused,
                )
            )

    lab.do(note)


def test_time_left_follows_the_newest_durations(
    lab: Lab, reader: LedgerReader, alive: None, findings: Findings
) -> None:
    now = time.time()
    for name in ("one", "two"):
        lab.move_slide(lab.arrive(f"{name}.svs"), SlideState.ARRIVED)
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    found = read_flow(reader, lab.settings, now)
    by_step = {stage.step: stage for stage in found.stages}
    assert (by_step["identify"].number, by_step["align"].number) == (2, 1)
    assert found.left_s is by_step["identify"].left_s is None
    assert "no rate yet" in flow_markup(found) and "about" not in flow_markup(found)
    for number in range(FEWEST_STEPS):
        took(lab, now - number, "slide-1", ("identify", 1.0, False))
        took(lab, now - number - 0.1, "slide-1", ("inspect", 2.0, False))
        took(lab, now - number - 0.2, "slide-1", ("tumor", 60.0, False))
        # Parts of one step are added; what was there already took no time.
        parts = (("tumor", 0.0, True), ("stain", 200.0 + number, False), ("score", 100.0, False))
        took(lab, now - number - 0.3, "case-1", *parts)
        took(lab, now - number - 0.35, "case-1", ("align", 5.0, False))
    found = read_flow(reader, lab.settings, now)
    assert {stage.step: stage.mean_s for stage in found.stages} == {
        "identify": 1.0, "inspect": 2.0, "read": 60.0, "align": 5.0, "analyze": 301.0,
        "write": None,
    }  # fmt: skip
    assert found.left_s is None  # nobody has seen a case being written
    for number in range(FEWEST_STEPS):
        took(lab, now - number - 0.4, "case-1", ("write", 10.0, False))
    found = read_flow(reader, lab.settings, now)
    # The lane of the networks decides: two slides to read, and the case. No case waits for slides.
    assert found.left_s == pytest.approx(2 * 60 + 301)
    assert 'data-testid="left">about 7 min' in flow_markup(found)
    # An old duration says nothing of today.
    later = read_flow(reader, lab.settings, now + 8 * 86400)
    assert later.left_s is None and {stage.mean_s for stage in later.stages} == {None}


@pytest.fixture
def alive(lab: Lab) -> None:
    lab.sign(**{"gpu 1": LaneSign(doing="", since=time.time())})


def test_nothing_is_promised_while_no_appliance_works(lab: Lab, reader: LedgerReader) -> None:
    lab.move_slide(lab.arrive("one.svs"), SlideState.ARRIVED)
    for number in range(FEWEST_STEPS):
        for step in LANES:
            took(lab, time.time() - number, f"slide-{step}", (step, 5.0, False))
    found = read_flow(reader, lab.settings)
    assert not found.alive and found.left_s is None
    assert "not while the appliance stands" in flow_markup(found)


def test_arrivals_and_deliveries_are_counted_by_the_hour(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    now = 1_750_000_000.0 // HOUR_S * HOUR_S + 1800
    for hours, number in ((30, 1), (5, 2), (0, 3)):
        lab.now = now - hours * HOUR_S
        for place in range(number):
            lab.arrive(f"{hours}-{place}.svs")
    lab.now = now - 2 * HOUR_S
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    hours = read_flow(reader, lab.settings, now).hours
    assert len(hours) == HOURS and hours[-1].at == now - 1800
    counted = {(now - 1800 - hour.at) // HOUR_S: (hour.arrived, hour.delivered) for hour in hours}
    assert {hour: found for hour, found in counted.items() if any(found)} == {
        5: (2, 0), 2: (2, 1), 0: (3, 0),
    }  # fmt: skip
    shown = flow_markup(read_flow(reader, lab.settings, now))
    assert "7 slides arrived, 1 case delivered; at most 3 in an hour" in shown


def test_a_time_to_come_claims_no_more_than_a_rate_tells() -> None:
    said = [about(seconds) for seconds in (20, 130, 700, 3400, 3500, 5000, 30_000, 200_000)]
    assert said == [
        "about a minute", "about 2 min", "about 10 min", "about 55 min", "about 1 h",
        "about 1.5 h", "about 8.5 h", "about 2 d",
    ]  # fmt: skip
