"""A simulated day: the daemon runs, the scanner writes, the line comes to rest, the judge says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.line.child import START_SECONDS
from benchmarks.scanner.play import Simulation, simulate
from benchmarks.scanner.tissue import Sections
from benchmarks.trial.daemon import RESCAN_S, TrialDaemon, running
from benchmarks.trial.judge import Trial, bytes_of_slides, footprint, judge, judge_shelf
from benchmarks.trial.ledger import Snapshot, TrialLedger

STUCK_S = 2.5 * START_SECONDS
"""Seconds without a change from which a line that has work is stuck: longer than it takes to give
up a worker whose start stays unheard, and to start another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Outcome of a day: breaches of the truth, and figures in seconds."""

    wrong: list[str]
    slides: int
    pairs: int
    delivered: int
    arrival_s: float
    rest_s: float


def simulated_day(
    folder: Path,
    wanted: Simulation,
    sections: Sections,
    *,
    most_s: float,
    say: Callable[[str], None] = lambda _: None,
) -> Day:
    """Run a day with the quick steps; `most_s` is the longest wait after the last slide."""
    daemon = TrialDaemon(folder, quick=True)
    ledger = TrialLedger(daemon.state)
    with running(daemon):
        began = time.monotonic()
        truth = simulate(wanted, daemon.scans, sections=sections)
        before = footprint(daemon.scans)
        written = time.monotonic()
        say(f"{len(truth['slides'])} slides written in {written - began:.0f} s")
        at_rest(daemon, ledger, most_s=most_s, say=say)
        rest_s = time.monotonic() - written
        alive = daemon.running
    found = ledger.snapshot()
    events = ledger.events([row.subject for row in found.slides])
    trial = Trial(truth=truth, scans=daemon.scans, found=found, events=events)
    wrong = judge(trial)
    # A slide that is overwritten later had other bytes when it was delivered first.
    if not any(entry["variant"] == "over-the-first" for entry in truth["slides"]):
        known = bytes_of_slides(truth, daemon.scans)
        wrong += judge_shelf(trial, daemon.shelf, known_bytes=known)
    if footprint(daemon.scans) != before:
        wrong.append("the scanner's folder was touched")
    if not alive:
        wrong.append(f"the daemon ended by itself: {daemon.own_deaths}")
    return Day(
        wrong=wrong,
        slides=len(truth["slides"]),
        pairs=sum(len(case["read"]) == 2 for case in truth["cases"]),
        delivered=sum(row.state == "delivered" for row in found.cases),
        arrival_s=written - began,
        rest_s=rest_s,
    )


def at_rest(
    daemon: TrialDaemon,
    ledger: TrialLedger,
    *,
    most_s: float,
    say: Callable[[str], None] = lambda _: None,
) -> Snapshot:
    """Wait until nothing is at work and nothing new was seen for a while; return the last look.

    Ends early where the daemon is gone, or where what is at work has not moved for long.
    """
    quiet_s = daemon.stable_s + RESCAN_S + 3.0
    began = changed = told = time.monotonic()
    last = Snapshot()
    while time.monotonic() - began < most_s and daemon.running:
        time.sleep(0.5)
        now, look = time.monotonic(), ledger.snapshot()
        if look.states != last.states:
            last, changed = look, now
        elif now - changed > (STUCK_S if look.at_work else quiet_s):
            break
        if now - told > 15:
            told = now
            say(f"  {now - began:4.0f} s, {look.at_work} at work")
    return last
