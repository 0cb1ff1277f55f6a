"""The line at work: ``python benchmarks/line.py --pairs 6``.

A daemon with the real networks works on small pairs. It has worked on one before the clock starts:
its processes run and have loaded their libraries, as those of an appliance that is started once and
works for weeks. Measured: seconds until a file with a bad name is told about while cases are worked
on (five times); seconds until each of 30 slides that come at once, with the last bad name, is
identified; and the wall time of the whole against what the machine had to do. The ledger is read
beside the daemon, every fifth of a second.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance.ledger.tables import EventRow
from appliance.settings.lanes import Lanes
from benchmarks.scanner.play import Simulation, simulate
from benchmarks.scanner.tissue import draw_sections
from benchmarks.trial.daemon import TrialDaemon, cpu_seconds, running
from benchmarks.trial.ledger import TrialLedger

STABLE_S = 5.0
"""Stability window of the trial."""
GRACE_S = 5.0
"""Seconds beyond the window within which a person has to be told."""
TRIES = 5
POLL_S, PAUSE_S = 0.2, 1.0
CPU_FACTOR, LANE_FACTOR = 1.25, 1.15
LANES: Mapping[str, str] = {
    "identify": "intake",
    "inspect": "cpu",
    "align": "cpu",
    "score": "gpu",
    "write": "cpu",
    "tumor": "gpu",
    "stain": "gpu",
}
"""Lane of each step as events name them; a step that is not listed has a lane of its own."""


def main() -> int:
    """Print the figures; return 0 only where all limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--at-once", type=int, default=30, help="slides that come at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most-minutes", type=float, default=40.0)
    parser.add_argument("--keep", type=Path, help="folder of the trial, which stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        return 0 if measure(folder, options, 60 * options.most_minutes) else 1


def measure(folder: Path, options: argparse.Namespace, most_s: float) -> bool:
    """Run the trial in `folder`; return whether all limits hold."""
    material = folder / "material"
    _write_material(material, options)
    daemon = TrialDaemon(folder / "site", quick=False, stable_s=STABLE_S)
    ledger = TrialLedger(daemon.state)
    slides = 2 * options.pairs + options.at_once + TRIES
    with running(daemon):
        wait_until(lambda: (daemon.state / "ledger.sqlite").exists(), 60)
        began = time.monotonic()
        _drop(material / "first", daemon)
        wait_until(lambda: _idle(ledger, 2), most_s)
        say(f"the first pair of a new daemon took {time.monotonic() - began:.0f} s")
        first = ledger.snapshot()
        used = cpu_seconds(daemon.pid)
        _drop(material / "pairs", daemon)
        began = time.monotonic() + STABLE_S  # before that nothing may be worked on
        told, identified = _told(material, daemon, ledger, 2 + 2 * options.pairs, most_s)
        done = wait_until(lambda: _idle(ledger, 2 + slides), most_s)
        wall_s = time.monotonic() - began
        used = cpu_seconds(daemon.pid) - used
    found = ledger.snapshot()
    before = {row.subject for row in first.rows}
    cases = [case for case in found.cases if case.subject not in before]
    delivered = sum(case.state == "delivered" for case in cases)
    subjects = [row.subject for row in found.rows if row.subject not in before]
    lanes = lane_seconds(ledger.events(subjects))
    cores = len(os.sched_getaffinity(0))
    limit_s = max(CPU_FACTOR * used / cores, LANE_FACTOR * max(lanes.values(), default=0.0))
    window_s = STABLE_S + GRACE_S
    say(f"stability window {STABLE_S:.0f} s, limit {window_s:.0f} s, {cores} cores")
    say("a bad name, told after (s): " + ", ".join(f"{s:.1f}" for s in told))
    say(
        f"{len(identified)} slides at once, identified after (s): median "
        f"{sorted(identified)[len(identified) // 2]:.1f}, worst {max(identified):.1f}"
    )
    say("busy (s): " + ", ".join(f"{lane} {s:.0f}" for lane, s in sorted(lanes.items())))
    say(
        f"wall {wall_s:.0f} s; CPU {used:.0f} s on {cores} cores; limit {limit_s:.0f} s; "
        f"{delivered} of {options.pairs} pairs delivered"
    )
    verdicts = {
        "a bad name is told in time": max(told) <= window_s,
        "slides at once are identified in time": max(identified) <= window_s,
        "the wall time is within its limit": wall_s <= limit_s,
        "all pairs are delivered": done and delivered == options.pairs,
    }
    for what, good in verdicts.items():
        say(f"  {'yes' if good else 'NO':<4}{what}")
    return all(verdicts.values())


def lane_seconds(events: Sequence[EventRow]) -> dict[str, float]:
    """Return the seconds that each lane was busy, from the events of its steps.

    Those of a lane with several processes are shared out among them.
    """
    processes = Lanes().model_dump()
    lanes: dict[str, float] = defaultdict(float)
    for event in events:
        if event.kind == "step" and not event.reused:
            lane = LANES.get(event.step, event.step)
            lanes[lane] += event.seconds / processes.get(lane, 1)
    return dict(lanes)


def _write_material(material: Path, options: argparse.Namespace) -> None:
    """Make all slides before the clock starts."""
    say("making slides")
    sections = draw_sections(("3+", "0"), lambda _what, _done, _total: None)
    for name, slides, seed in (
        ("pairs", 2 * options.pairs, options.seed),
        ("crowd", 2 * options.at_once, options.seed + 1),
        ("bad", 2 * TRIES, options.seed + 2),
        ("first", 2, options.seed + 3),
    ):
        wanted = Simulation(slides=slides, seed=seed, faults=())
        simulate(wanted, material / name, sections=sections)
    for path in (material / "crowd").glob("*_HER2.svs"):
        path.unlink()  # H&E alone: each is identified, read, and waits for its partner


def _told(
    material: Path, daemon: TrialDaemon, ledger: TrialLedger, slides: int, most_s: float
) -> tuple[list[float], list[float]]:
    """Drop bad names, one every `PAUSE_S` while steps run, and all of the crowd with the last.

    Return the seconds until each bad name is told, and until each slide of the crowd is identified.
    `slides` are those that came before.
    """
    bad = sorted((material / "bad").glob("*_HE.svs"))
    dropped: dict[str, float] = {}
    told: dict[str, float] = {}
    crowd: set[str] = set()
    wait_until(lambda: _busy(ledger) or _idle(ledger, slides), most_s)
    began = time.monotonic()
    last = began - PAUSE_S
    while (not crowd or len(told) < len(dropped)) and time.monotonic() - began < most_s:
        if not crowd and (not bad or time.monotonic() - last >= PAUSE_S):
            if not _busy(ledger):
                say("  nothing is worked on just now: take more pairs")
            if bad:
                _replace_barcode(bad[0])
                new = [daemon.scans / f"unnamed {len(dropped)}.svs"]
                shutil.copyfile(bad.pop(0), new[0])
            else:
                new = _drop(material / "crowd", daemon)
                crowd = {str(path) for path in new}
            last = time.monotonic()
            dropped |= {str(path): last for path in new}
        rows = ledger.snapshot().slides
        known = {row.path for row in rows if row.accession or row.state == "quarantined"}
        now = time.monotonic()
        told |= {key: now - at for key, at in dropped.items() if key in known and key not in told}
        time.sleep(POLL_S)
    seconds = {key: told.get(key, float("inf")) for key in dropped}
    return (
        [s for key, s in seconds.items() if key not in crowd],
        [s for key, s in seconds.items() if key in crowd],
    )


def _replace_barcode(path: Path) -> None:
    """Take the accession out of the slide's barcode, at the same length."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Barcode = S26-", b"Barcode = XXX "))


def _drop(source: Path, daemon: TrialDaemon) -> list[Path]:
    return [
        Path(shutil.copyfile(path, daemon.scans / path.name))
        for path in sorted(source.glob("*.svs"))
    ]


def _busy(ledger: TrialLedger) -> bool:
    found = ledger.snapshot()
    return any(row.claimed_by for row in found.rows)


def _idle(ledger: TrialLedger, slides: int) -> bool:
    found = ledger.snapshot()
    return len(found.slides) >= slides and not found.at_work


def wait_until(condition: Callable[[], bool], most_s: float) -> bool:
    """Wait for a condition; return whether it came true."""
    deadline = time.monotonic() + most_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
