"""``tandem evaluate``: the whole appliance, and the baseline beside it, on pairs with truth."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from appliance.errors import TandemError
from appliance.evaluation.case import JudgedCase, judge_case
from appliance.evaluation.case_files import CaseFiles, find_cases
from appliance.evaluation.pair_figures import FailedCase, summarize
from appliance.evaluation.pool import run_all
from appliance.findings.classes import CLASS_NAMES
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings
from models.errors import DataSetError
from models.synthesis.cohort import CaseDraw, draw_cohort
from models.synthesis.slides import synthesize_case


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A case to judge in `folder`: given as `files`, or made there from `draw` first."""

    name: str
    folder: Path
    files: CaseFiles | None = None
    draw: CaseDraw | None = None
    size_px: tuple[int, int] = (0, 0)


def evaluate_synthetic(
    seed: int,
    pairs: int,
    settings: Settings,
    *,
    size_px: tuple[int, int],
    out_dir: Path | None,
    workers: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Make `pairs` cases (scores in balance, all scanners), process them, judge them.

    `size_px` (width, height) is that of the slides. `out_dir` keeps slides and results; without it
    they are deleted. All figures are synthetic.
    """
    with _folder(out_dir) as root:
        jobs = [
            Job(name=f"case {k + 1}", folder=root / f"case-{k + 1:03d}", draw=draw, size_px=size_px)
            for k, draw in enumerate(draw_cohort(seed, pairs))
        ]
        cases = _judged(jobs, settings, workers, out_dir is not None, progress)
    source = {"data": "synthetic", "seed": seed, "pairs": pairs, "size_px": list(size_px)}
    return summarize(cases, settings, source)


def evaluate_pairs(
    folder: Path,
    settings: Settings,
    *,
    out_dir: Path | None,
    workers: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Process and judge given pairs: any folder below `folder` that ``tandem synth`` wrote.

    Raises
    ------
    DataSetError
        If there is no case with its truth.
    """
    files = find_cases(folder)
    with _folder(out_dir) as root:
        jobs = [
            Job(name=f"case {k + 1}", folder=root / f"case-{k + 1:03d}", files=case)
            for k, case in enumerate(files)
        ]
        cases = _judged(jobs, settings, workers, out_dir is not None, progress)
    synthetic = all(isinstance(c, JudgedCase) and c.facts.get("synthetic") for c in cases)
    source = {"data": "synthetic" if synthetic else "pairs", "pairs": len(files)}
    return summarize(cases, settings, source)


def _judged(
    jobs: list[Job], settings: Settings, workers: int | None, keep: bool, progress: Progress
) -> list[JudgedCase | FailedCase]:
    work = partial(_work, settings=settings, keep=keep)
    return run_all(
        work, jobs, workers=workers, what="pairs", extensions=settings.extensions, progress=progress
    )


def _work(job: Job, settings: Settings, keep: bool) -> JudgedCase | FailedCase:
    files = job.files or _made(job)
    results = job.folder / "results"
    try:
        return judge_case(files, results, settings)
    except TandemError as problem:
        score = json.loads(files.truth.read_text())["score"]
        return FailedCase(
            patient=files.truth.stem, score=CLASS_NAMES.index(score), problem=str(problem)
        )
    finally:
        if not keep:
            shutil.rmtree(job.folder, ignore_errors=True)


def _made(job: Job) -> CaseFiles:
    if job.draw is None:
        raise DataSetError(f"{job.name}: neither slides nor a draw to make them from.")
    case = synthesize_case(
        job.folder,
        seed=job.draw.seed,
        score=job.draw.score,
        organ=job.draw.organ,
        scanner=job.draw.scanner,
        width_px=job.size_px[0],
        height_px=job.size_px[1],
        workers=1,
    )
    return CaseFiles(he=case.he_path, ihc=case.ihc_path, truth=case.truth_path)


@contextmanager
def _folder(out_dir: Path | None) -> Iterator[Path]:
    """`out_dir`, created; without it a temporary folder."""
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
        yield out_dir
        return
    with tempfile.TemporaryDirectory(prefix="tandem-evaluate-") as scratch:
        yield Path(scratch)
