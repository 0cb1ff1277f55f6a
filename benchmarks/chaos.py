"""Chaos: ``python benchmarks/chaos.py --seed 1 --faults 300``.

A daemon with quick steps works on simulated slides while faults are done to it: it and its workers
are killed and stopped, the share and the destination go away, the destination loses objects and
answers or refuses them, the disk fills or loses its power, the ledger is locked or damaged,
results are damaged, slides are overwritten while they are read, damaged files come, the dashboard
is killed, the clock moves. With ``--cluster`` the steps are done by two workers; they and their
scheduler are killed, too. Judged:
no slide is lost, no object is sent twice, none has a wrong accession or another file's result, the
daemon never ends by itself, and the chain of events is whole. Run it as root for the small disk,
with libfaketime installed for the clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.scanner.tissue import draw_sections
from benchmarks.trial.chaos import Chaos, chaos
from benchmarks.trial.disk import small_disk
from benchmarks.trial.faults import CLUSTER_FAULTS, FAULTS
from benchmarks.trial.site import LEDGER_LOCK_S


def main() -> int:
    """Print recovery figures and breaches; return 0 only without any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--cluster", action="store_true", help="its workers do the steps")
    parser.add_argument("--kinds", default="", help="names, with commas; all by default")
    parser.add_argument("--lock-s", type=float, default=LEDGER_LOCK_S)
    parser.add_argument("--stop-s", type=float, default=120.0, help="for a stopped worker")
    parser.add_argument("--most-minutes", type=float, default=30.0, help="after the last fault")
    parser.add_argument("--settings", default="", help="further lines of the settings [lanes]")
    parser.add_argument("--keep", type=Path, help="folder of the site, which stays")
    options = parser.parse_args()
    every = [*FAULTS, *(CLUSTER_FAULTS if options.cluster else ())]
    wanted = Chaos(
        faults=options.faults,
        seed=options.seed,
        kinds=options.kinds.split(",") if options.kinds else every,
        cluster=options.cluster,
        lock_s=options.lock_s,
        stop_s=options.stop_s,
        most_s=60 * options.most_minutes,
        settings=options.settings,
    )
    sections = draw_sections(("3+",), lambda _what, _done, _total: None)
    with tempfile.TemporaryDirectory() as temporary, small_disk(Path(temporary) / "disk") as disk:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = chaos(folder, wanted, sections, disk=disk, say=say)
    say(f"{'fault':<20}{'times':>6}{'median s':>10}{'worst s':>10}{'CPU s':>8}  until it moves")
    for kind, seconds in sorted(found.recovery_s.items()):
        median, cpu_s = statistics.median(seconds), found.cpu_s[kind] / len(seconds)
        say(f"{kind:<20}{len(seconds):>6}{median:>10.1f}{max(seconds):>10.1f}{cpu_s:>8.1f}")
    for why, times in sorted(found.skipped.items()):
        say(f"left out {times} times: {why}")
    say(f"{found.delivered} of {found.pairs} pairs delivered, {found.objects} objects")
    for sentence in found.wrong:
        say(f"    {sentence}")
    say(f"{len(found.wrong)} breaches")
    return 1 if found.wrong else 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
