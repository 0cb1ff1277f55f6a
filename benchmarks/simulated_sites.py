"""Simulated sites: ``python benchmarks/simulated_sites.py --slides 500 --seeds 10``.

For each seed a daemon with quick steps consumes a folder that the simulated scanner fills, with
faults. Judged: every whole slide ends in one pair or with a reason, none is read before it is
whole, none twice, and the folder's bytes and times stay as they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.scanner.play import SCORES, Simulation
from benchmarks.scanner.tissue import draw_sections
from benchmarks.trial.day import simulated_day


def main() -> int:
    """Print a line per seed and all breaches; return 0 only without any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--profiles", default="aperio-svs,mirax,dicom")
    parser.add_argument("--speed", type=float, default=200.0)
    parser.add_argument("--fault-share", type=float, default=0.3)
    parser.add_argument("--most-minutes", type=float, default=30.0, help="after the last slide")
    parser.add_argument("--keep", type=Path, help="folder for the sites' folders, which stay")
    options = parser.parse_args()
    breaches: Counter[str] = Counter()
    sections = draw_sections(SCORES, lambda _what, _done, _total: None)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        wanted = Simulation(
            profiles=tuple(options.profiles.split(",")),
            slides=options.slides,
            seed=seed,
            fault_share=options.fault_share,
            speed=options.speed,
            target="QUICK",
        )
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.keep or Path(temporary)) / f"site-{seed}"
            most_s = 60 * options.most_minutes
            day = simulated_day(folder, wanted, sections, most_s=most_s, say=say)
        breaches.update(day.wrong)
        say(
            f"seed {seed}: {day.slides} slides, {day.delivered} of {day.pairs} pairs delivered, "
            f"{day.arrival_s:.0f} s of arrival, then {day.rest_s:.0f} s to rest, "
            f"{len(day.wrong)} breaches"
        )
        for sentence in day.wrong:
            say(f"    {sentence}")
    say(f"{sum(breaches.values())} breaches in {options.seeds} seeds")
    return 1 if breaches else 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
