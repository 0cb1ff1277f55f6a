"""Work under way and how long it may take; arrivals and deliveries by the hour."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from sqlalchemy import func, text
from sqlalchemy import select as columns
from sqlmodel import SQLModel, col

from appliance.ledger.heartbeat import life, read_sign
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow, SlideRow
from appliance.settings.settings import Settings

HOUR_S = 3600
HOURS = 24
"""Clock hours of the chart, the present one among them."""
NEWEST_EVENTS = 5000
"""Newest events among which durations are looked for: the table has no index by time."""
RECENT_S = 7 * 86400.0
"""Age from which a duration says nothing of today."""
NEWEST_STEPS = 50
"""Newest durations of a step whose mean is its rate."""
FEWEST_STEPS = 3
"""Fewer durations than these are no rate."""
SLIDE_STEPS: Mapping[SlideState, tuple[str, ...]] = {
    SlideState.ARRIVED: ("identify", "inspect", "read"),
    SlideState.IDENTIFIED: ("inspect", "read"),
    SlideState.INSPECTED: ("read",),
}
CASE_STEPS: Mapping[CaseState, tuple[str, ...]] = {
    CaseState.READY: ("align", "analyze", "write"),
    CaseState.ALIGNED: ("analyze", "write"),
    CaseState.SCORED: ("write",),
}
"""Steps that a slide or case in a state has before it: those of `appliance.line.steps`."""
LANES: Mapping[str, str] = {
    "identify": "intake",
    "inspect": "cpu",
    "read": "gpu",
    "align": "cpu",
    "analyze": "gpu",
    "write": "cpu",
}
"""Lane in which each step is done, in the order of the line."""
_CLAIMED = text("claimed_by != ''")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Slides or cases whose next step is `step`: how many, and of these how many at work now.

    `mean_s` is the mean duration (s) of the newest `measured` ones, None without a rate; `left_s`
    the time (s) until all of them have done this step, None where it cannot be told.
    """

    step: str
    number: int
    at_work: int
    measured: int
    mean_s: float | None
    left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """An hour of the clock (UTC) that began at `at` (s since epoch): slides that came, cases that
    were delivered in it.
    """

    at: float
    arrived: int
    delivered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Work now and in the last hours, oldest first; `left_s`: time (s) until all of it is written.

    `left_s` is None where a step has no rate, or no appliance works. `alive`: one does.
    """

    stages: tuple[Stage, ...]
    hours: tuple[Hour, ...]
    left_s: float | None
    alive: bool


def read_flow(reader: LedgerReader, settings: Settings, now: float | None = None) -> Flow:
    """Return the flow at `now` (s since epoch); each query reads an index or a bounded range.

    Raises
    ------
    LedgerError
        If the ledger is damaged or locked.
    """
    now = time.time() if now is None else now
    sign = read_sign(settings)
    alive = life(settings).alive
    slots: dict[str, int] = defaultdict(int)
    for name in sign.lanes if sign is not None else ():
        slots[name.split()[0]] += 1  # "gpu 1", "gpu 2"
    with reader.reading() as tx:
        slides, slides_at_work = _numbers(tx, SlideRow)
        cases, cases_at_work = _numbers(tx, CaseRow)
        means = _means(tx, now)
        hours = _hours(tx, now)
    first = {
        steps[0]: (slides[state], slides_at_work[state]) for state, steps in SLIDE_STEPS.items()
    }
    first |= {steps[0]: (cases[state], cases_at_work[state]) for state, steps in CASE_STEPS.items()}
    stages = tuple(_stage(step, first[step], means, slots if alive else {}) for step in LANES)
    waiting = (
        slides[SlideState.ARRIVED] + slides[SlideState.IDENTIFIED] + slides[SlideState.INSPECTED]
    )
    # Two slides that are read make a case that is scored.
    to_come = min(cases[CaseState.WAITING], -(-waiting // 2))
    ahead: dict[str, int] = defaultdict(int)
    for state, steps in SLIDE_STEPS.items():
        for step in steps:
            ahead[step] += slides[state]
    for case_state, steps in CASE_STEPS.items():
        for step in steps:
            ahead[step] += cases[case_state] + (to_come if case_state is CaseState.READY else 0)
    return Flow(
        stages=stages,
        hours=hours,
        left_s=_left(ahead, means, slots) if alive else None,
        alive=alive,
    )


def _numbers(
    tx: Queries, table: type[SlideRow] | type[CaseRow]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of rows by state that have steps before them, and of those at work."""
    state = col(table.state)
    states = [*SLIDE_STEPS] if table is SlideRow else [*CASE_STEPS, CaseState.WAITING]
    connection = tx.session.connection()
    # A sum of one query for each state: each reads its part of the index alone.
    found: dict[str, int] = {
        each: connection.execute(columns(func.count()).where(state == each)).scalar_one()
        for each in states
    }
    claimed: dict[str, int] = defaultdict(int)
    for (each,) in connection.execute(columns(state).where(_CLAIMED)):
        claimed[each] += 1
    return found, claimed


def _means(tx: Queries, now: float) -> dict[str, tuple[float, int]]:
    """Return the mean duration (s) of each step, and of how many; reused results do not count.

    The events of one step of the line have one subject and one time: `analyze` is `stain` and
    `score`.
    """
    event = SQLModel.metadata.tables[str(EventRow.__tablename__)].c
    newest = (
        columns(event.subject, event.at, event.kind, event.step, event.seconds, event.reused)
        .order_by(event.id.desc())
        .limit(NEWEST_EVENTS)
    )
    took: dict[tuple[str, float], dict[str, float]] = {}
    for subject, at, kind, step, seconds, reused in tx.session.connection().execute(newest):
        if kind == "step" and not reused and at > now - RECENT_S:
            took.setdefault((subject, at), {})[step] = seconds
    found: dict[str, list[float]] = defaultdict(list)
    for (subject, _), steps in took.items():
        first = next(iter(steps))
        name = first if first in LANES else "analyze" if subject.startswith("case-") else "read"
        found[name].append(sum(steps.values()))
    return {
        name: (fmean(seconds[:NEWEST_STEPS]), len(seconds[:NEWEST_STEPS]))
        for name, seconds in found.items()
        if len(seconds) >= FEWEST_STEPS
    }


def _stage(
    step: str,
    numbers: tuple[int, int],
    means: Mapping[str, tuple[float, int]],
    slots: Mapping[str, int],
) -> Stage:
    number, at_work = numbers
    mean_s, measured = means.get(step, (None, 0))
    return Stage(
        step=step,
        number=number,
        at_work=at_work,
        measured=measured,
        mean_s=mean_s,
        left_s=_left({step: number}, means, slots) if slots else None,
    )


def _left(
    ahead: Mapping[str, int], means: Mapping[str, tuple[float, int]], slots: Mapping[str, int]
) -> float | None:
    """Return the time (s) until all steps ahead are done; None where one has no rate.

    Lanes work at the same time, so the busiest one decides; it takes at least one of each step, one
    after the other.
    """
    steps = [step for step, number in ahead.items() if number]
    if any(step not in means for step in steps):
        return None
    lanes: dict[str, float] = defaultdict(float)
    for step in steps:
        lanes[LANES[step]] += ahead[step] * means[step][0] / max(1, slots.get(LANES[step], 1))
    return max([*lanes.values(), sum(means[step][0] for step in steps)], default=0.0)


def _hours(tx: Queries, now: float) -> tuple[Hour, ...]:
    """Return the last `HOURS` clock hours.

    A slide that came in this time has changed in it, too: the index by state and change is read.
    """
    begin = (int(now) // HOUR_S - HOURS + 1) * HOUR_S
    connection = tx.session.connection()
    came, changed = col(SlideRow.created_at), col(SlideRow.changed_at)
    arrived: dict[int, int] = defaultdict(int)
    for (at,) in connection.execute(
        columns(came).where(col(SlideRow.state).in_([*SlideState]), changed >= begin, came >= begin)
    ):
        arrived[int(at) // HOUR_S] += 1
    delivered: dict[int, int] = defaultdict(int)
    for (at,) in connection.execute(
        columns(col(CaseRow.changed_at)).where(
            col(CaseRow.state) == CaseState.DELIVERED, col(CaseRow.changed_at) >= begin
        )
    ):
        delivered[int(at) // HOUR_S] += 1
    first = begin // HOUR_S
    return tuple(
        Hour(at=hour * HOUR_S, arrived=arrived[hour], delivered=delivered[hour])
        for hour in range(first, first + HOURS)
    )
