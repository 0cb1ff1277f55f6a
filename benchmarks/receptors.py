"""ER and PR on generated pairs of slides: ``python benchmarks/receptors.py --assay er --pairs 20``.

Each pair (synthetic) has a known percentage of positive tumor nuclei, spread over 0 to 100 with
half of the pairs up to 15, and comes from one of the generator's scanners. The whole appliance
processes it as ``tandem process`` does. Printed: percentage and result beside the truth, reasons
for review, and at the end the largest and the mean error, and how many results are right.

``--her2 SCORE`` puts HER2 slides of a score into the receptor's slot instead: none may get a
result.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.assays.nuclear.guideline import load_guideline
from appliance.errors import TandemError
from appliance.line.process import process_pair
from appliance.readers.tile_pass import silent
from appliance.settings.settings import Settings
from models.synthesis.cohort import SCANNERS
from models.synthesis.plan import MIXES
from models.synthesis.receptors import RECEPTORS, synthesize_receptor_case
from models.synthesis.slides import SyntheticCase, synthesize_case

LOW_PERCENT = 15.0
"""Half of the pairs have at most this percentage: there the results change."""
NEAR = "near-threshold"
MOST_ERROR = 5.0
"""Percentage points within which a percentage counts as right."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A pair: true and found percentage, true and found result (None: none), codes of review."""

    truth: float
    found: float
    status: str
    said: str | None
    review: Sequence[str]

    @property
    def error(self) -> float:
        """Found less true percentage."""
        return self.found - self.truth

    @property
    def is_right(self) -> bool:
        """Return whether positive and negative are told apart, or the case goes to review."""
        negative = self.status == "negative"
        return (self.said is not None and (self.said == "negative") == negative) or (
            NEAR in self.review
        )


def drawn_percent(seed: int, pairs: int) -> list[float]:
    """Percentages of a cohort: evenly spread, half of them up to `LOW_PERCENT`, in random order."""
    rng = np.random.default_rng([seed, 0x4E4C])
    low = np.linspace(0, LOW_PERCENT, (pairs + 1) // 2)
    high = np.linspace(LOW_PERCENT, 100, pairs // 2 + 1)[1:]
    drawn: list[float] = rng.permutation(np.concatenate([low, high])).tolist()
    return drawn


def judge(case: SyntheticCase, assay: str, settings: Settings, out: Path) -> Judged:
    """Process a pair and compare with its truth, that of a HER2 slide being no result at all."""
    done = process_pair(
        case.he_path, case.ihc_path, out, settings, assay_name=assay, progress=silent
    ).summary
    truth = json.loads(case.truth_path.read_text())
    percent = float(truth.get("positive_percent", 0.0))
    guideline = load_guideline(done["guideline"])
    return Judged(
        truth=percent,
        found=100.0 - done["percent"]["negative"] if done["cells"] else 0.0,
        status=guideline.decide(percent).score,
        said=done["score"],
        review=[reason["code"] for reason in done["review"]],
    )


def made(options: argparse.Namespace, number: int, percent: float, folder: Path) -> SyntheticCase:
    """Make the pair of a number."""
    common = {
        "seed": options.seed * 1000 + number,
        "width_px": options.width,
        "height_px": options.height,
        "scanner": list(SCANNERS)[number % len(SCANNERS)],
    }
    if options.her2:
        return synthesize_case(folder, score=options.her2, **common)
    receptor = next(name for name in RECEPTORS if name.lower() == options.assay)
    return synthesize_receptor_case(folder, receptor=receptor, positive_percent=percent, **common)


def main() -> int:
    """Judge the pairs; return 0 if each is as the file's head says, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assay", choices=["er", "pr"], required=True)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first pair to judge")
    parser.add_argument("--last", type=int, default=None, help="number after the last one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=6144)
    parser.add_argument("--height", type=int, default=4608)
    parser.add_argument("--her2", choices=list(MIXES), help="score of HER2 slides to give instead")
    options = parser.parse_args()
    settings = Settings(extensions=(f"appliance.assays.{options.assay}.assay",))
    judged, failed = [], 0
    percents = list(enumerate(drawn_percent(options.seed, options.pairs)))
    for number, percent in percents[options.first : options.last]:
        with tempfile.TemporaryDirectory() as folder:
            case = made(options, number, percent, Path(folder))
            try:
                each = judge(case, options.assay, settings, Path(folder) / "out")
            except TandemError as problem:
                print(f"pair {number}: refused: {problem}", flush=True)
                failed += 1
                continue
        judged.append(each)
        print(
            f"pair {number}: truth {each.truth:.1f} % {each.status}, found {each.found:.1f} % "
            f"{each.said or 'no result'} {' '.join(each.review)}",
            flush=True,
        )
    return report(judged, failed, swapped=bool(options.her2))


def report(judged: Sequence[Judged], failed: int, *, swapped: bool) -> int:
    """Print the figures of all pairs, of which `failed` were refused; return 0 if as wanted."""
    count = len(judged) + failed
    if swapped:
        wrong = sum(each.said is not None for each in judged)
        print(f"HER2 slides in the receptor's slot with a result: {wrong} of {count}")
        return int(wrong > 0)
    errors = np.abs([each.error for each in judged] or [0.0])
    within = int((errors <= MOST_ERROR).sum())
    right = sum(each.is_right for each in judged)
    print(
        f"synthetic, {count} pairs: within {MOST_ERROR:g} points {within}, largest error "
        f"{errors.max():.1f}, mean {errors.mean():.2f}; positive and negative right or for review "
        f"near the limit {right}"
    )
    return int(within < count or right < count)


if __name__ == "__main__":
    sys.exit(main())
