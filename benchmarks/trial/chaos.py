"""Chaos: a site under faults, one after the other, while slides keep coming; then the judge."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread

from appliance.slides.files import fingerprint
from benchmarks.quick.assay import SECONDS_VARIABLE
from benchmarks.quick.clock import CLOCK_VARIABLE
from benchmarks.scanner.play import Simulation, simulate
from benchmarks.scanner.tissue import Sections
from benchmarks.trial.beside import TrialCluster, TrialDashboard
from benchmarks.trial.daemon import TrialDaemon, running
from benchmarks.trial.day import at_rest
from benchmarks.trial.disk import SmallDisk
from benchmarks.trial.faults import CLUSTER_FAULTS, FAULTS, copy_in, faketime_library
from benchmarks.trial.judge import Trial, judge_ends, judge_shelf
from benchmarks.trial.ledger import TrialLedger
from benchmarks.trial.odd import judge_odd
from benchmarks.trial.site import Site, SkipError

STABLE_S = 2.0
STEP_S = 0.7
"""Seconds that each quick reading takes, so that faults meet steps."""
_SETTINGS = """
# Chance may kill or stop the same step's worker often: no reason to set its slide aside.
worker_deaths = 50
[lanes]
attempts = 50
silent_seconds = {silent_s}
"""
RECOVERY_S = 600.0
"""Longest time until the line moves again after a fault."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """Parameters of a trial. `kinds` are names of `FAULTS`, with a `cluster` also of
    `CLUSTER_FAULTS`; `lock_s` and `stop_s` are durations.

    A pair of slides comes with every `faults_per_pair` faults, `pause_s` is their longest distance.
    `silent_s` is the longest silence of a worker. `settings` are further lines of the daemon's
    settings, whose section is ``[lanes]``.
    """

    faults: int
    seed: int
    kinds: Sequence[str]
    lock_s: float
    stop_s: float
    most_s: float
    pause_s: float = 3.0
    silent_s: float = 3.0
    faults_per_pair: int = 2
    settings: str = ""
    cluster: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Breaches; seconds of recovery by kind; faults that could not be done, by reason.

    `cpu_s` are seconds of CPU of the site, by kind of the fault that they followed.
    """

    wrong: list[str]
    recovery_s: dict[str, list[float]]
    cpu_s: dict[str, float]
    skipped: dict[str, int]
    pairs: int
    delivered: int
    objects: int


@dataclass(frozen=True, slots=True)
class Done:
    """Fields of `Outcome` that grow with each fault."""

    recovery_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    skipped: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


def chaos(
    folder: Path, wanted: Chaos, sections: Sections, *, disk: SmallDisk | None, say: Say
) -> Outcome:
    """Run a site under faults; `disk` is a small file system for its state, if there is one."""
    dice = random.Random(wanted.seed)  # noqa: S311
    truth = _material(folder / "material", wanted, sections)
    clock, environment = _clock(folder)
    cluster = TrialCluster(folder / "cluster") if wanted.cluster else None
    lanes = _SETTINGS.format(silent_s=wanted.silent_s) + wanted.settings
    daemon = TrialDaemon(
        folder / "site",
        quick=True,
        stable_s=STABLE_S,
        state=None if disk is None else disk.place / "state",
        environment=environment | {SECONDS_VARIABLE: str(STEP_S)},
        settings=f"{lanes}\n{cluster.section if cluster is not None else ''}",
    )
    site = Site(
        daemon=daemon,
        ledger=TrialLedger(daemon.state),
        dashboard=TrialDashboard(folder, daemon.config),
        cluster=cluster,
        dice=dice,
        lock_s=wanted.lock_s,
        stop_s=wanted.stop_s,
        disk=disk,
        clock=clock,
    )
    done = Done()
    if cluster is not None:
        cluster.set_up(daemon.config, {SECONDS_VARIABLE: str(STEP_S)})
    with running(daemon), _beside(site):
        _all_faults(site, wanted, folder / "material", truth, done, say)
        daemon.start()
        _all_seen(site, truth)
        at_rest(daemon, site.ledger, most_s=wanted.most_s, say=say)
        if not daemon.running:
            site.breaches.append("the daemon is not running at the end")
    site.breaches += [f"the daemon ended by itself: {code}" for code in daemon.own_deaths]
    found = site.ledger.snapshot()
    trial = Trial(truth=truth, scans=daemon.scans, found=found, events=())
    known = defaultdict(set)
    for entry in truth["slides"]:
        known[entry["accession"]].add(fingerprint(folder / "material" / entry["files"][0]))
    wrong = [*site.breaches, *judge_ends(trial), *judge_odd(found, site.odd)]
    wrong += judge_shelf(trial, daemon.shelf, known_bytes=known)
    wrong += _one_object_each(daemon.shelf)
    wrong += _broken_chain(daemon)
    wrong += site.ledger.lost(site.heads)
    return Outcome(
        wrong=wrong,
        recovery_s=dict(done.recovery_s),
        cpu_s=dict(done.cpu_s),
        skipped=dict(done.skipped),
        pairs=len(truth["cases"]),
        delivered=sum(case.state == "delivered" for case in found.cases),
        objects=len(list(daemon.shelf.glob("*.dcm"))),
    )


@contextmanager
def _beside(site: Site) -> Iterator[None]:
    """Start the cluster, where there is one; end it and the dashboard whatever happens."""
    try:
        if site.cluster is not None:
            site.cluster.start()
        yield
    finally:
        site.dashboard.end()
        if site.cluster is not None:
            site.cluster.end()


def _material(folder: Path, wanted: Chaos, sections: Sections) -> dict[str, Any]:
    """Make the pairs that come with the faults; return the truth."""
    slides = 2 * (wanted.faults // wanted.faults_per_pair + 1)
    scores = tuple({score for _, score in sections})
    simulation = Simulation(
        slides=slides, seed=wanted.seed, faults=(), target="QUICK", scores=scores
    )
    return simulate(simulation, folder, sections=sections)


def _clock(folder: Path) -> tuple[Path | None, dict[str, str]]:
    """Return the file that moves the daemon's clock, and the environment that heeds it."""
    library = faketime_library()
    if library is None:
        return None, {}
    file = folder / "clock"
    file.write_text("+0")
    return file, {
        "LD_PRELOAD": str(library),
        CLOCK_VARIABLE: str(file),
        # The default, 10 s, is too long for a fault of the clock. At each look it takes much CPU.
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def _all_faults(
    site: Site,
    wanted: Chaos,
    material: Path,
    truth: dict[str, Any],
    done: Done,
    say: Say,
) -> None:
    waiting = [
        [material / entry["files"][0] for entry in truth["slides"] if entry["accession"] == case]
        for case in (case["accession"] for case in truth["cases"])
    ]
    deck: list[str] = []
    for number in range(wanted.faults):
        if number % wanted.faults_per_pair == 0 and waiting:
            copy_in(waiting.pop(), site.daemon.scans)
        if number == 0:
            _first_slide(site.ledger)
        deck = deck or site.dice.sample(list(wanted.kinds), len(wanted.kinds))
        kind = deck.pop()
        time.sleep(site.dice.uniform(0.5, wanted.pause_s))
        cpu_s = site.cpu_s
        try:
            {**FAULTS, **CLUSTER_FAULTS}[kind](site)
        except SkipError as why:
            done.skipped[f"{kind}: {why}"] += 1
            continue
        seconds = _recovered(site)
        done.recovery_s[kind].append(seconds)
        done.cpu_s[kind] += site.cpu_s - cpu_s
        if seconds >= RECOVERY_S:
            site.breaches.append(f"the line did not move within {RECOVERY_S:.0f} s after {kind}")
        at_work = site.ledger.snapshot().at_work
        say(f"  {number + 1:>3} {kind}: {seconds:.1f} s, {at_work} at work")
    for pair in waiting:
        copy_in(pair, site.daemon.scans)


def _first_slide(ledger: TrialLedger) -> None:
    """Wait until the daemon has seen a slide: faults are for a site at work."""
    deadline = time.monotonic() + RECOVERY_S
    while not ledger.snapshot().slides and time.monotonic() < deadline:
        time.sleep(0.2)


def _all_seen(site: Site, truth: dict[str, Any]) -> None:
    """Wait until the ledger has each slide: what it lacks is not at work, and yet not at rest."""
    names = {Path(entry["files"][0]).name for entry in truth["slides"]}
    deadline = time.monotonic() + RECOVERY_S
    while site.daemon.running and time.monotonic() < deadline:
        if names <= {Path(row.path).name for row in site.ledger.snapshot().slides}:
            break
        time.sleep(0.2)


def _recovered(site: Site) -> float:
    """Return the seconds until a subject changes its state, or nothing is at work any more.

    A daemon that ended by itself is started again, as systemd does.
    """
    began = time.monotonic()
    before = site.ledger.snapshot()
    while time.monotonic() - began < RECOVERY_S:
        if not site.daemon.running:
            site.daemon.start()
        now = site.ledger.snapshot()
        if now.slides and (now.states != before.states or not now.at_work):
            break
        before = before if before.slides else now
        time.sleep(0.2)
    return time.monotonic() - began


def _one_object_each(shelf: Path) -> list[str]:
    """Judge that no block has two objects: its slides came once."""
    blocks: dict[tuple[str, str], set[str]] = defaultdict(set)
    scores = set()
    for path in shelf.glob("*.dcm"):
        report = dcmread(path)
        block = json.loads(report.DocumentTitle)["block"]
        blocks[str(report.AccessionNumber), block].add(path.name)
        scores.add(str(report.SeriesDescription).split()[-1])
    wrong = [f"a block has {len(names)} objects" for names in blocks.values() if len(names) > 1]
    if len(scores) > 1:  # all slides have the same tissue
        wrong.append(f"equal tissue has scores {sorted(scores)}: a damaged result was used")
    return wrong


def _broken_chain(daemon: TrialDaemon) -> list[str]:
    """Judge the chain of events, and each row against it, by the appliance's own command."""
    done = daemon.command("ledger", "verify")
    said = (done.stdout + done.stderr)[-600:]
    return [] if done.returncode == 0 else [f"the chain is broken: {said}"]
