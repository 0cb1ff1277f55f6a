"""``make bench``: shares of a case's time by step, from interleaved repeats in one run."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TANDEM = Path(sys.executable).with_name("tandem")
REPEATS = 3


def main() -> None:
    """Process one synthetic case `REPEATS` times and print each step's median and share."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run("synth", "--seed", "1", "--score", "2+", "--out", str(root / "case"))
        slides = [str(next((root / "case").glob(f"*_{stain}.svs"))) for stain in ("HE", "HER2")]
        seconds: dict[str, list[float]] = {}
        for repeat in range(REPEATS):
            text = run("process", *slides, "--out", str(root / f"out{repeat}"), "--json")
            for step in json.loads(text)["steps"]:
                seconds.setdefault(step["step"], []).append(step["seconds"])
    medians = {step: statistics.median(values) for step, values in seconds.items()}
    total = sum(medians.values())
    for step, median in medians.items():
        print(f"{step:<10}{median:7.2f} s {100 * median / total:5.1f} %")


def run(*arguments: str) -> str:
    """Run a tandem command and return its output."""
    command = [str(TANDEM), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
