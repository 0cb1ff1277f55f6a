"""Memory and time by size of the slide, on slides made of repeated encoded tiles.

``python benchmarks/limits.py --read tumor`` reads slides of three tissue areas, one that is 90 %
glass, and one of 100,000 x 80,000 px beside a quarter of it, each in its own process. It prints
the line fitted to the times, and the memory above that of the libraries and the networks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from big_slide import MPP, make_big_slide

from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.inference import Network
from appliance.settings.settings_file import load_settings
from benchmarks.bench import TASKS, Reading, memory_mib, planned, read_plan


@dataclass(frozen=True, slots=True)
class Made:
    """Specification of a slide to make: edges in px, share (0-1) of tissue."""

    name: str
    width_px: int
    height_px: int
    tissue: float


TIMED = (
    Made("third", 24_576, 20_480, 0.2),
    Made("two thirds", 24_576, 20_480, 0.4),
    Made("whole", 24_576, 20_480, 0.6),
    Made("90 % glass", 49_152, 40_960, 0.1),
)
LARGE = (Made("quarter", 49_152, 40_960, 0.2), Made("large", 98_304, 81_920, 0.2))


def main(arguments: Sequence[str]) -> None:
    """Make the slides, read them, print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--read", choices=("tumor", "stain"), default="tumor")
    parser.add_argument("--folder", type=Path, help="keep the slides here and use them again")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(read_one(options.one, options.read)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        found = {made.name: _measured(made, options.read, folder) for made in (*TIMED, *LARGE)}
    for name, row in found.items():
        print(
            f"{name:<12}{row['tiles']:7d} tiles {row['seconds']:8.1f} s "
            f"{1000 * row['seconds'] / row['tiles']:6.2f} ms a tile, peak {row['above_mib']} MiB"
        )
    timed = [found[made.name] for made in TIMED[:3]]
    slope, start = np.polyfit([r["tiles"] for r in timed], [r["seconds"] for r in timed], 1)
    glass = found["90 % glass"]
    expected = start + slope * glass["tiles"]
    print(f"line: {start:.2f} s + {1000 * slope:.3f} ms a tile")
    print(f"90 % glass: {glass['seconds'] / expected:.2f} of what the line says")
    large, quarter = (found[name]["above_mib"] for name in ("large", "quarter"))
    print(f"peak, large over quarter: {large / quarter:.2f}")


def _measured(made: Made, reading: str, folder: Path) -> dict[str, Any]:
    stain = "he" if reading == "tumor" else "ihc"
    path = folder / f"{stain}-{made.width_px}x{made.height_px}-{made.tissue}-{MPP}.svs"
    if not path.exists():
        make_big_slide(
            path,
            stain=stain,
            width_px=made.width_px,
            height_px=made.height_px,
            tissue=made.tissue,
        )
    command = [sys.executable, __file__, "--read", reading, "--one", str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def read_one(slide: Path, reading: Reading) -> dict[str, Any]:
    """Read all tissue of a slide once, from opening it to the label map."""
    settings = load_settings(None)
    networks = [
        Network(chosen_weights(task, settings)[0], settings.models.device, settings.models.runtime)
        for task in TASKS[reading]
    ]
    batch_size = min(network.fitting_batch() for network in networks)
    before = memory_mib("VmRSS", reset=True)
    start = time.perf_counter()
    plan = planned(slide, sys.maxsize)
    read_plan(plan, reading, networks, batch_size)
    seconds = time.perf_counter() - start
    peak = memory_mib("VmHWM")
    if before is None or peak is None:
        raise SystemExit("memory is measured on Linux alone")
    return {"tiles": len(plan.tiles), "seconds": seconds, "above_mib": peak - before}


if __name__ == "__main__":
    main(sys.argv[1:])
