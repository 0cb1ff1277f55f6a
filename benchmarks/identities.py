"""Identities of simulated slides: ``python benchmarks/identities.py --slides 500 --seed 1``.

Slides of three scanners, named by seven conventions of laboratories, a tenth of them with a planted
conflict (``tandem simulate scanner --naming all --faults conflicts --fault-share 0.1``). Each is
identified as the daemon does it. Judged: no wrong identity, every planted conflict is held, and at
most 2 % of the plain slides are asked about.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from appliance.errors import SlideError
from appliance.intake.identity.evidence import Outcome
from appliance.line.analyze_slide import identify_slide
from appliance.settings.settings import Settings
from benchmarks.scanner.plan import NAMINGS
from benchmarks.scanner.play import SCORES, Simulation, simulate
from benchmarks.scanner.tissue import Sections, draw_sections

MOST_ASKED = 0.02
"""Share of plain slides that a person may be asked about."""


def main() -> int:
    """Print the counts of each seed; return 0 only where all limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    parser.add_argument("--profiles", default="aperio-svs,mirax,dicom")
    parser.add_argument("--conflicts", type=float, default=0.1, help="share with a conflict")
    options = parser.parse_args()
    sections = draw_sections(SCORES, lambda _what, _done, _total: None)
    good = True
    for seed in range(options.seed, options.seed + options.seeds):
        wanted = Simulation(
            profiles=tuple(options.profiles.split(",")),
            slides=options.slides,
            seed=seed,
            faults=("conflicts",),
            fault_share=options.conflicts,
            namings=tuple(NAMINGS),
        )
        good &= _judge_seed(wanted, sections)
    return 0 if good else 1


def _judge_seed(wanted: Simulation, sections: Sections) -> bool:
    """Identify all slides of a simulation; return whether the limits hold."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        truth = simulate(wanted, folder / "scans", sections=sections)
        began = time.perf_counter()
        settings = Settings(state_dir=folder / "state")
        ends = Counter(_end(entry, folder / "scans", settings) for entry in truth["slides"])
        seconds = time.perf_counter() - began
    planted = sum(entry["fault"] == "conflicts" for entry in truth["slides"])
    plain = len(truth["slides"]) - planted
    print(
        f"seed {wanted.seed}: {len(truth['slides'])} slides, {ends['wrong']} wrong identities; "
        f"{ends['held']} of {planted} planted conflicts held; {ends['asked']} of {plain} plain "
        f"slides asked about; {1000 * seconds / len(truth['slides']):.0f} ms a slide",
        flush=True,
    )
    return not ends["wrong"] and ends["held"] == planted and ends["asked"] <= MOST_ASKED * plain


def _end(entry: dict[str, Any], scans: Path, settings: Settings) -> str:
    """Return how a slide ended: right, wrong, held (its conflict) or asked."""
    try:
        found = identify_slide(scans / entry["files"][0], settings).verdict
    except SlideError:
        return "asked"
    if found.outcome is not Outcome.IDENTIFIED:
        is_planted = entry["fault"] == "conflicts" and found.outcome is Outcome.CONFLICT
        return "held" if is_planted else "asked"
    said = (found.accession, found.block, found.stain)
    is_right = said == (entry["accession"], entry["block"], entry["stain"])
    return "right" if is_right and entry["fault"] != "conflicts" else "wrong"


if __name__ == "__main__":
    sys.exit(main())
