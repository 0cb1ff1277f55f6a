"""Types of a step: its line in the table, its context, its job, its call and its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from appliance.domain import Pairing, Stain
from appliance.ledger.events import Event
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction
from appliance.line.executors import Resource
from appliance.line.outcomes import StepTime
from appliance.settings.settings import Settings

R = TypeVar("R", SlideRow, CaseRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The parts that steps need; `name` is the claiming daemon's, `pairings` the assays'."""

    ledger: Ledger
    settings: Settings
    name: str
    pairings: tuple[Pairing, ...]
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[R]):
    """A claimed row; `slides` are the current ones of a case, by stain."""

    row: R
    progress: ProgressFile
    slides: Mapping[Stain, SlideRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A plain function of a module and its arguments; both go to a worker process."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The value of a call (None where there was none) and its duration."""

    value: Any
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[R]):
    """A line of the table of steps.

    `run` prepares the call, None where the state changes without work. `finish` writes the outcome
    into the row and advances it, in one transaction. `resource` names the lane; the lane
    ``delivery`` is the outbox's. The deadline is `deadline_s` and `deadline_s_per_gib` for each GiB
    of the slides that the step reads, times `lanes.deadline_factor`. `beside_s` gives the seconds
    of readers that have a limit of their own within the step.
    """

    name: str
    subject: Literal["slide", "case"]
    from_state: SlideState | CaseState
    resource: Resource
    run: Callable[[StepContext, Job[R]], Call | None]
    finish: Callable[[Transaction, StepContext, R, Done, float], None]
    deadline_s: float
    deadline_s_per_gib: float
    beside_s: Callable[[Sequence[SlideRow], Settings], float] = lambda *_: 0.0


def time_of(step: str, done: Done) -> StepTime:
    """Return the time of a step that was not measured within."""
    return StepTime(step=step, seconds=done.seconds, reused=False)


def append_times(
    tx: Transaction, row: SlideRow | CaseRow, times: tuple[StepTime, ...], now: float
) -> None:
    """Append an event for each step of a row; it names the artifact, which retention reads."""
    for time_ in times:
        tx.append_event(
            Event(
                at=now,
                subject=row.subject,
                kind="step",
                code="step-done",
                step=time_.step,
                seconds=time_.seconds,
                reused=time_.reused,
                params={"key": time_.key} if time_.key else {},
            )
        )
