"""``tandem evaluate --traps``: misleading cases through the whole appliance.

``control``: a tumor of score 0 beside 3+ control tissue must stay 0. ``failed-control``: the same
with the unstained control tissue of a run that failed must go to review. ``heterogeneity``: tumor
of 1+ with 10 ± 2 % of 3+ in it must be scored right or go to review. All figures are synthetic.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from appliance.assays.her2.choice import choose_guideline
from appliance.assays.registry import tasks
from appliance.domain import HER2, Identity
from appliance.errors import TandemError
from appliance.evaluation.pool import Watcher, report, run_all
from appliance.findings.codec import load_findings
from appliance.findings.findings import RESEARCH_USE, Findings
from appliance.findings.reasons import Reason
from appliance.line.analyze_case import analyze_case
from appliance.line.analyze_slide import inspect_slide, open_facts
from appliance.line.outcomes import ReadSlide, artifact_folder
from appliance.readers.chosen_weights import with_chosen_weights
from appliance.settings.settings import Settings
from models.synthesis.slides import SyntheticCase, synthesize_case

Trap = Literal["control", "failed-control", "heterogeneity"]
SEEDS_PER_RUN, SEEDS_PER_TRAP = 100_000, 10_000
STRONG_SHARE = (0.08, 0.12)
"""Share of 3+ cells in a heterogeneous tumor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprung:
    """Result of a trap.

    `expected` is the guideline's score of the true shares (0-100), `control` the strongest class of
    the control tissue, `problem` the reason why there is no score.
    """

    trap: Trap
    seed: int
    expected: str
    true_percent: dict[str, float]
    score: str | None = None
    review: tuple[str, ...] = ()
    percent: dict[str, float] = field(default_factory=dict)
    control: str | None = None
    problem: str = ""

    @property
    def right(self) -> bool:
        """Return whether the score is that of the truth."""
        return self.score == self.expected


def evaluate_traps(
    seed: int,
    pairs: int,
    settings: Settings,
    *,
    size_px: tuple[int, int],
    workers: int | None,
    watch: Watcher,
) -> dict[str, Any]:
    """Make `pairs` cases of each trap, score them, and count the wrong answers."""
    first = seed * SEEDS_PER_RUN
    jobs: list[tuple[Trap, int]] = [
        (trap, first + SEEDS_PER_TRAP * number + k)
        for number, trap in enumerate(get_args(Trap))
        for k in range(pairs)
    ]
    networks = tasks()
    work = partial(spring, settings=with_chosen_weights(settings, networks), size_px=size_px)
    found = run_all(
        work,
        jobs,
        workers=workers,
        what="trap",
        extensions=settings.extensions,
        watch=watch,
        say=_said,
    )
    return {
        "notice": RESEARCH_USE,
        "data": "synthetic",
        "seed": seed,
        "pairs": pairs,
        "size_px": list(size_px),
        **summarize(found),
        "cases": [_row(case) for case in found],
    }


def summarize(found: Sequence[Sprung]) -> dict[str, Any]:
    """Quoted figures."""
    errors = [
        abs(case.percent["3+"] - case.true_percent["3+"])
        for case in found
        if case.trap == "heterogeneity" and case.percent
    ]
    by = {trap: [case for case in found if case.trap == trap] for trap in get_args(Trap)}
    control, failed, mixed = by["control"], by["failed-control"], by["heterogeneity"]
    return {
        "control.n": len(control),
        "control.found": sum(case.control is not None for case in control),
        "control.scored_zero": sum(case.score == "0" for case in control),
        "control.false_alarms": sum(Reason.CONTROL_FAILED in case.review for case in control),
        "failed_control.n": len(failed),
        "failed_control.reviewed": sum(Reason.CONTROL_FAILED in case.review for case in failed),
        "heterogeneity.n": len(mixed),
        "heterogeneity.right": sum(case.right for case in mixed),
        "heterogeneity.error_points_median": round(float(np.median(errors)), 2) if errors else None,
        "heterogeneity.error_points_most": round(max(errors), 2) if errors else None,
        "heterogeneity.reviewed": sum(bool(case.review) for case in mixed),
        "heterogeneity.confidently_wrong": sum(
            not case.right and not case.review for case in mixed
        ),
    }


def spring(job: tuple[Trap, int], settings: Settings, size_px: tuple[int, int]) -> Sprung:
    """Make the case of a trap and its seed, and score it."""
    trap, seed = job
    with tempfile.TemporaryDirectory(prefix="tandem-trap-") as scratch:
        folder = Path(scratch)
        case = _made(trap, seed, folder, size_px)
        truth = json.loads(case.truth_path.read_text())
        expected = choose_guideline(settings.scoring).guideline.score(truth["percent"]).value
        sprung = Sprung(trap=trap, seed=seed, expected=expected, true_percent=truth["percent"])
        try:
            findings = _scored(case, settings.model_copy(update={"state_dir": folder / "state"}))
        except TandemError as problem:
            return replace(sprung, problem=str(problem))
    return replace(
        sprung,
        score=findings.score,
        review=tuple(reason.code for reason in findings.review),
        percent=findings.percent,
        control=None if findings.control is None else findings.control.strongest,
    )


def _made(trap: Trap, seed: int, folder: Path, size_px: tuple[int, int]) -> SyntheticCase:
    strong = float(np.random.default_rng([seed, 0x7AB]).uniform(*STRONG_SHARE))
    mixed = trap == "heterogeneity"
    return synthesize_case(
        folder,
        seed=seed,
        score="2+" if mixed else "0",
        mix=(0.2 * (1 - strong), 0.8 * (1 - strong), 0.0, strong) if mixed else None,
        control="failed" if trap == "failed-control" else "works",
        width_px=size_px[0],
        height_px=size_px[1],
        workers=1,
        progress=lambda share: report("drawing", round(100 * share), 100),
    )


def _scored(case: SyntheticCase, settings: Settings) -> Findings:
    slides = []
    for path in (case.he_path, case.ihc_path):
        facts = open_facts(path)
        slides.append(ReadSlide(facts=facts, inspect_key=inspect_slide(facts, settings).key))
    identity = Identity(accession=case.accession, block=case.block, stain=HER2)
    scored = analyze_case("her2", identity, slides[0], slides[1], settings, report)
    return load_findings(artifact_folder(scored.key, settings))


def _said(case: Sprung) -> str:
    """Result of a trap in a few words."""
    score = "no score" if case.score is None else f"score {case.score}"
    return f"{case.trap}, {score}, truth {case.expected}" + (", for review" * bool(case.review))


def _row(case: Sprung) -> dict[str, Any]:
    return {
        "trap": case.trap,
        "seed": case.seed,
        "expected": case.expected,
        "score": case.score,
        "review": list(case.review),
        "percent": {
            side: {name: round(p, 2) for name, p in shares.items()}
            for side, shares in (("truth", case.true_percent), ("found", case.percent))
        },
        "control": case.control,
        "problem": case.problem,
    }
