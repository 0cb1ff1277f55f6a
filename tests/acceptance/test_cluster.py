"""A cluster on loopback whose workers and scheduler are killed: all delivered once, same bytes."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.cluster import Cluster, wait_for

from benchmarks.quick.assay import SECONDS_VARIABLE
from benchmarks.quick.recorder import RECORD_NAME
from benchmarks.scanner.play import Simulation, simulate
from benchmarks.scanner.tissue import Sections
from benchmarks.trial.daemon import TrialDaemon, running, step_workers
from benchmarks.trial.day import at_rest
from benchmarks.trial.ledger import TrialLedger

PAIRS = 8
KILL_EVERY_S = 20.0
VICTIMS = ("one", "scheduler", "two", "one")
MOST_S = 1200.0
WORKERS = ("one", "two")
SLOTS = ("--intake", 1, "--cpu", 1, "--gpu", 1)
READING_SECONDS = {SECONDS_VARIABLE: "2"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder, READING_SECONDS)
    yield made
    made.close()


def stores(daemon: TrialDaemon) -> Counter[str]:
    """Return how often each object was stored."""
    lines = (daemon.shelf / RECORD_NAME).read_text().splitlines()
    return Counter(json.loads(line)["uid"] for line in lines)


def content(daemon: TrialDaemon) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in daemon.shelf.glob("*.dcm")}


def delivered_of(ledger: TrialLedger) -> int:
    return sum(row.state == "delivered" for row in ledger.snapshot().cases)


@pytest.mark.slow
def test_workers_and_scheduler_are_killed_and_all_is_delivered_once(
    cluster: Cluster, sections: Sections, tmp_path: Path
) -> None:
    wanted = Simulation(slides=2 * PAIRS, seed=3, fault_share=0.0, scores=("3+",), target="QUICK")
    daemon = TrialDaemon(tmp_path / "far", quick=True, settings=cluster.settings())
    truth = simulate(wanted, daemon.scans, sections=sections)
    assert len(truth["cases"]) == PAIRS
    cluster.start("scheduler", daemon.config)
    for name in WORKERS:
        cluster.start(name, daemon.config, *SLOTS)
    for name in WORKERS:  # one that comes late finds the work done
        wait_for(
            lambda name=name: f"worker {name} connected" in cluster.log(name),
            f"worker {name} did not connect",
        )
    ledger = TrialLedger(daemon.state)
    with running(daemon):
        began = time.monotonic()
        kills, delivered, used = 0, 0, set()
        while delivered < PAIRS:
            assert time.monotonic() - began < MOST_S, (ledger.snapshot().states, daemon.log[-3000:])
            assert daemon.running, daemon.log[-3000:]
            time.sleep(0.5)
            # A process for each lane that had a step; one may be there to warm up.
            used |= {name for name in WORKERS if len(step_workers(cluster.pid(name))) > 1}
            delivered = delivered_of(ledger)
            # By progress too: on a fast machine all is delivered before the second time.
            share = (kills + 1) / (len(VICTIMS) + 1)
            due = time.monotonic() - began > KILL_EVERY_S * (kills + 1)
            if kills < len(VICTIMS) and (due or delivered >= share * PAIRS):
                victim = VICTIMS[kills]
                cluster.end(victim)
                cluster.start(victim, daemon.config, *SLOTS)
                kills += 1
        found = at_rest(daemon, ledger, most_s=240)
    assert kills >= 2
    assert {row.state for row in found.cases} == {"delivered"}
    assert {row.state for row in found.slides} == {"read"}
    assert set(stores(daemon).values()) == {1}
    assert len(stores(daemon)) == PAIRS
    assert used == set(WORKERS)

    near = TrialDaemon(tmp_path / "near", quick=True)
    shutil.copytree(daemon.scans, near.scans, dirs_exist_ok=True)
    with running(near):
        own = TrialLedger(near.state)
        wait_for(lambda: delivered_of(own) == PAIRS, "the local executor did not end", MOST_S)
    assert content(near) == content(daemon)
