"""``tandem evaluate``: the whole appliance, and the baseline beside it, on pairs with truth.

With a folder for the results each pair's is written as it ends, and a later run with the same
folder uses it (`appliance.evaluation.kept_results`).
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from appliance.assays.registry import tasks
from appliance.errors import SettingsError, TandemError, TransientError
from appliance.evaluation.case import FailedCase, JudgedCase, group_facts, judge_case
from appliance.evaluation.case_files import CaseFiles, find_cases, read_truth
from appliance.evaluation.kept_results import (
    RESULT_NAME,
    file_facts,
    load_result,
    result_key,
    run_facts,
    save_result,
)
from appliance.evaluation.pair_figures import summarize
from appliance.evaluation.pool import Watcher, report, run_all
from appliance.findings.classes import CLASS_NAMES
from appliance.readers.chosen_weights import with_chosen_weights
from appliance.settings.settings import Settings
from models.errors import DataSetError, ModelError
from models.synthesis.blocks import MPP
from models.synthesis.cohort import CaseDraw, draw_cohort
from models.synthesis.slides import synthesize_case

_OF_A_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM),
        errno.EINVAL,  # a place that a damaged file names
        None,  # of a library, about what a file holds
    }
)
"""Errors of the system that are one file's; others are of a disk, of a share or of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A case to judge in `folder`: given as `files`, or made there from `draw` first.

    `key` is that of its result in the folder; empty where nothing is kept.
    """

    name: str
    folder: Path
    files: CaseFiles | None = None
    draw: CaseDraw | None = None
    size_px: tuple[int, int] = (0, 0)
    mpp: float = MPP
    rough: bool = False
    key: str = ""


def evaluate_synthetic(
    seed: int,
    pairs: int,
    settings: Settings,
    *,
    size_px: tuple[int, int],
    mpp: float = MPP,
    rough: bool = False,
    out_dir: Path | None,
    workers: int | None,
    watch: Watcher,
) -> dict[str, Any]:
    """Make `pairs` cases (scores in balance, all scanners), process them, judge them.

    `size_px` (width, height) is that of slides at 0.2793 µm/px; slides at another `mpp` show the
    same tissue; `rough` draws it with uneven outlines and stain. `out_dir` keeps slides and
    results; without it they are deleted. All figures are synthetic.
    """
    settings = with_chosen_weights(settings, tasks())  # one set for all pairs and the summary
    with _folder(out_dir) as root:
        jobs = [
            Job(
                name=f"case {k + 1}",
                folder=root / f"case-{k + 1:03d}",
                draw=draw,
                size_px=size_px,
                mpp=mpp,
                rough=rough,
            )
            for k, draw in enumerate(draw_cohort(seed, pairs))
        ]
        cases, changed = _judged(jobs, settings, workers, out_dir is not None, watch)
    source = {"data": "synthetic", "seed": seed, "pairs": pairs, "mpp": mpp, "rough": rough}
    source |= {"size_px": list(size_px), "changed_meanwhile": changed}
    return summarize(cases, settings, source)


def evaluate_pairs(
    folder: Path,
    settings: Settings,
    *,
    out_dir: Path | None,
    workers: int | None,
    watch: Watcher,
) -> dict[str, Any]:
    """Process and judge given pairs: any folder below `folder` that ``tandem synth`` wrote.

    Raises
    ------
    DataSetError
        If there is no case with its truth.
    """
    settings = with_chosen_weights(settings, tasks())  # one set for all pairs and the summary
    files = find_cases(folder)
    with _folder(out_dir) as root:
        jobs = [
            Job(name=f"case {k + 1}", folder=root / f"case-{k + 1:03d}", files=case)
            for k, case in enumerate(files)
        ]
        cases, changed = _judged(jobs, settings, workers, out_dir is not None, watch)
    synthetic = all(case.facts.get("synthetic") for case in cases)
    source = {"data": "synthetic" if synthetic else "pairs", "pairs": len(files)}
    return summarize(cases, settings, source | {"changed_meanwhile": changed})


def _judged(
    jobs: list[Job], settings: Settings, workers: int | None, keep: bool, watch: Watcher
) -> tuple[list[JudgedCase | FailedCase], bool]:
    """Results of all jobs in their order: those that are there already, and the others' new.

    The second one of the two tells whether the weights of a reader, or a calibration, were changed
    meanwhile: the settings name their folders, and each pair reads what lies there.
    """
    found: dict[int, JudgedCase | FailedCase] = {}
    run = run_facts(settings) if keep else _facts_now(settings)
    if keep and run is not None:
        jobs = [replace(job, key=result_key(_pair_facts(job), run)) for job in jobs]
        found = _there(jobs, watch)
    left = [k for k in range(len(jobs)) if k not in found]
    new = run_all(
        partial(_work, settings=settings),
        [jobs[k] for k in left],
        workers=workers,
        what="pair",
        extensions=settings.extensions,
        watch=watch,
        say=_said,
        there=len(found),
    )
    found |= dict(zip(left, new, strict=True))
    changed = _facts_now(settings) != run
    if changed:
        watch.note(
            "weights or a calibration were changed meanwhile: the figures are of pairs before "
            "and after it. Run again."
        )
    return [found[k] for k in range(len(jobs))], changed


def _facts_now(settings: Settings) -> dict[str, Any] | None:
    """Facts of the run as they are now; None where they cannot be read."""
    try:
        return run_facts(settings)
    except (TandemError, ModelError, OSError):
        return None


def _there(jobs: list[Job], watch: Watcher) -> dict[int, JudgedCase | FailedCase]:
    """Results that an earlier run wrote, by number of the job; the others are told."""
    found: dict[int, JudgedCase | FailedCase] = {}
    other = damaged = 0
    for k, job in enumerate(jobs):
        result = load_result(job.folder, job.key)
        if isinstance(result, JudgedCase | FailedCase):
            found[k] = result
        other, damaged = other + (result == "other"), damaged + (result == "damaged")
    if other:
        watch.note(f"results of another configuration, to be run again: {other}")
    if damaged:
        watch.note(f"damaged results, to be run again: {damaged}")
    return found


def _pair_facts(job: Job) -> dict[str, Any]:
    """Facts of the pair itself on which its result depends."""
    if job.files is not None:
        return {"files": file_facts(job.files)}
    draw = None if job.draw is None else asdict(job.draw)
    return {"draw": draw, "size_px": list(job.size_px), "mpp": job.mpp, "rough": job.rough}


def _said(case: JudgedCase | FailedCase) -> str:
    """Result of a pair in a few words."""
    truth = CLASS_NAMES[case.score]
    if isinstance(case, FailedCase):
        return f"failed, truth {truth}"
    found = case.found["model"]
    score = "no score" if found < 0 else f"score {CLASS_NAMES[found]}"
    return f"{score}, truth {truth}" + (", for review" if case.review else "")


def _work(job: Job, settings: Settings) -> JudgedCase | FailedCase:
    """Judge the case of a job; keep its slides and its result if the job has a key.

    No result is kept if the weights, a calibration or the pair were changed meanwhile.
    """
    try:
        return _judge(job, settings)
    finally:
        if not job.key:
            shutil.rmtree(job.folder, ignore_errors=True)


def _judge(job: Job, settings: Settings) -> JudgedCase | FailedCase:
    results = job.folder / "results"
    (job.folder / RESULT_NAME).unlink(missing_ok=True)
    if job.files is None:
        shutil.rmtree(results, ignore_errors=True)  # of another configuration
    for left in results.glob(".tandem-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    files = job.files or _made(job)
    truth = read_truth(files.truth)
    case: JudgedCase | FailedCase
    try:
        case = judge_case(files, results, settings, report)
    except (TandemError, OSError) as problem:
        if not _is_the_pairs(problem):
            raise
        case = FailedCase(
            patient=files.truth.stem,
            score=CLASS_NAMES.index(truth["score"]),
            problem=(
                f"{type(problem).__name__}: {problem.strerror}"
                if isinstance(problem, OSError)
                else str(problem)
            ),
            facts=group_facts(truth),
        )
        if isinstance(problem, TransientError | OSError):
            return case  # not kept: another run may succeed
    if job.key and _still(job, settings):
        save_result(job.folder, job.key, case)
    return case


def _is_the_pairs(problem: TandemError | OSError) -> bool:
    """Return whether a pair fails by itself; a full disk or a lost share would fail all others."""
    if isinstance(problem, SettingsError):  # it has such a cause where the results have no place
        return not isinstance(problem.__cause__, OSError)
    return not isinstance(problem, OSError) or problem.errno in _OF_A_FILE


def _still(job: Job, settings: Settings) -> bool:
    """Return whether all that the job's key was made of is as it was."""
    try:
        return job.key == result_key(_pair_facts(job), run_facts(settings))
    except (TandemError, ModelError, OSError):
        return False


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
        mpp=job.mpp,
        rough=job.rough,
        workers=1,
        progress=lambda share: report("drawing", round(100 * share), 100),
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
