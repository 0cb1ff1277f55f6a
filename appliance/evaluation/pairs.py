"""``tandem evaluate``: the whole appliance, and the baseline beside it, on pairs with truth."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.guideline import choose_guideline
from appliance.errors import TandemError
from appliance.evaluation.case import CaseFiles, JudgedCase, judge_case
from appliance.evaluation.pool import run_all
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import RESEARCH_USE
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.reading import Progress
from appliance.settings.settings import Settings
from appliance.words.say import tell_error
from models.errors import DataSetError
from models.evaluation.figures import classification, headline, segmentation, slide_figures
from models.evaluation.judged import Judged, JudgedPixels, JudgedSlides
from models.spec import CLASSES, Task
from models.synthesis.cohort import CaseDraw, draw_cohort
from models.synthesis.slides import synthesize_case
from models.synthesis.tile_pairs import TUMOR_SHARE

SIDES = ("model", "baseline")
TUMOR_FROM, OTHER_UP_TO = 0.5, 0.05
"""A tile with so much tumor is one, with so little is none; between them only ``all`` judges."""
MAJORITY = 0.5
"""A tile's intensity is the class of more than half of its tumor px; else it has no single one."""
ROI_TILES = 4
"""A region of interest is a square of so many tiles: 573 µm."""
ROI_LEAST = 8
"""Regions with fewer tissue tiles are not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A case to judge in `folder`: given as `files`, or drawn and made there first."""

    name: str
    folder: Path
    files: CaseFiles | None = None
    draw: CaseDraw | None = None
    size_px: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCase:
    """A case that the appliance could not score: wrong, and said why."""

    patient: str
    score: int
    problem: str


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
    """Make `pairs` cases (scores in balance, all scanners), process them, judge. Synthetic figures.

    `size_px` (width, height) of the slides; `out_dir` keeps slides and results, else they go.
    """
    with _folder(out_dir) as root:
        jobs = [
            Job(name=f"case {k + 1}", folder=root / f"case-{k + 1:03d}", draw=draw, size_px=size_px)
            for k, draw in enumerate(draw_cohort(seed, pairs))
        ]
        cases = _judged(jobs, settings, workers, out_dir is not None, progress)
    source = {"data": "synthetic", "seed": seed, "pairs": pairs, "size_px": list(size_px)}
    return summarise(cases, settings, source)


def evaluate_pairs(
    folder: Path,
    settings: Settings,
    *,
    out_dir: Path | None,
    workers: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """The same on given pairs: any folder below `folder` that ``tandem synth`` wrote.

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
    return summarise(cases, settings, source)


def find_cases(folder: Path) -> list[CaseFiles]:
    """Cases in `folder`: ``truth/CASE.json`` with ``CASE_HE.*`` and ``CASE_HER2.*`` above it.

    Raises
    ------
    DataSetError
        If there is none, or one lacks a slide.
    """
    cases = []
    for truth in sorted(folder.rglob("truth/*.json")):
        home = truth.parent.parent
        he, ihc = (_slide(home, f"{truth.stem}_{stain}") for stain in ("HE", "HER2"))
        if he is None or ihc is None:
            raise DataSetError(f"{truth}: no {truth.stem}_HE.* and {truth.stem}_HER2.* in {home}.")
        cases.append(CaseFiles(he=he, ihc=ihc, truth=truth))
    if not cases:
        raise DataSetError(
            f"{folder}: no pairs with truth (truth/CASE.json beside CASE_HE.svs and "
            "CASE_HER2.svs, as `tandem synth` writes them). For tiles: tandem evaluate tiles."
        )
    return cases


def _slide(home: Path, stem: str) -> Path | None:
    return min(home.glob(f"{stem}.*"), default=None)


def summarise(
    cases: Sequence[JudgedCase | FailedCase], settings: Settings, source: dict[str, Any]
) -> dict[str, Any]:
    """Quoted figures at the top, all others in ``details``, ``rois`` and ``cases``."""
    judged = [case for case in cases if isinstance(case, JudgedCase)]
    quoted: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for side in SIDES:
        figures = _side(judged, side)
        slides = slide_figures(_slides(cases, side))
        before = "" if side == "model" else "baseline."
        errors = [figures[task.value].get("ece") for task in (Task.TUMOR, Task.INTENSITY)]
        found = {
            **headline(Task.TUMOR, figures["tumor"]),
            **headline(Task.INTENSITY, figures["intensity"]),
            **headline(Task.SEGMENTATION, figures["segmentation"]),
            **{f"slide.{key}": slides[key] for key in ("n", "exact", "within_one")},
            "slide.kappa_quadratic": slides.get("kappa_quadratic"),
            # The worse of the two classifiers: one number may not hide the other.
            "calibration.ece": max((e for e in errors if e is not None), default=None),
        }
        quoted |= {f"{before}{name}": value for name, value in found.items()}
        details[side] = figures | {"slide": slides}
    return {
        "notice": RESEARCH_USE,
        **source,
        "guideline": choose_guideline(settings.scoring).guideline.name,
        **quoted,
        "weights": {
            task.value: {"name": spec.name, "version": spec.version, "sha256": spec.sha256}
            for task in Task
            for _, spec in [chosen_weights(task, settings)]
        },
        "details": details,
        "rois": [row for case in judged for row in rois(case)],
        "cases": [_case_row(case) for case in cases],
    }


def rois(case: JudgedCase) -> list[dict[str, Any]]:
    """Real and predicted numbers of tiles per region of interest (Table 3 of arXiv 2512.22335).

    Regions are squares of the H&E grid; an IHC tile belongs to that of its partner.
    """
    he_roi, ihc_roi = case.he_place // ROI_TILES, case.ihc_partner // ROI_TILES
    tumor = {"real": case.he_share >= TUMOR_SHARE, "predicted": case.he_said["model"][:, 1] >= 0.5}
    stain = {
        "real": case.ihc_counts[:, 1:].argmax(axis=1),
        "predicted": case.ihc_said["model"].argmax(axis=1),
    }
    rows: list[dict[str, Any]] = []
    for x, y in np.unique(he_roi, axis=0).tolist():
        he = (he_roi == (x, y)).all(axis=1)
        if he.sum() < ROI_LEAST:
            continue
        ihc = (ihc_roi == (x, y)).all(axis=1)
        row: dict[str, Any] = {"roi": f"{case.patient}-R{len(rows) + 1}"}
        for side in ("real", "predicted"):
            row[side] = {
                "tumor": int(tumor[side][he].sum()),
                "normal": int((~tumor[side][he]).sum()),
            }
            numbers = np.bincount(stain[side][ihc], minlength=4)
            row[side] |= dict(zip(CLASSES[Task.INTENSITY], numbers.tolist(), strict=True))
        rows.append(row)
    return rows


def _side(cases: Sequence[JudgedCase], side: str) -> dict[str, Any]:
    """Figures of one side on all tiles; ``all`` holds those on tiles of every kind."""
    share = _joined([c.he_share for c in cases], (0,))
    he = _gathered(cases, [c.he_said[side] for c in cases], share >= TUMOR_SHARE, 2)
    clear = (share >= TUMOR_FROM) | (share <= OTHER_UP_TO)
    counts = _joined([c.ihc_counts for c in cases], (0, 5))
    tumor_px, tile_px = counts[:, 1:].sum(axis=1), np.maximum(counts.sum(axis=1), 1)
    leading = counts[:, 1:].max(axis=1) if len(counts) else np.zeros(0)
    grade = counts[:, 1:].argmax(axis=1) if len(counts) else np.zeros(0, np.int64)
    ihc = _gathered(cases, [c.ihc_said[side] for c in cases], grade, 4)
    tumor_tile = tumor_px >= TUMOR_SHARE * tile_px
    single = (tumor_px >= TUMOR_FROM * tile_px) & (leading > MAJORITY * tumor_px)
    matrices = _joined([c.matrices[side] for c in cases], (0, 5, 5))

    def pixels(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return segmentation(JudgedPixels(matrices=matrices[chosen], patient=ihc.patient[chosen]))

    return {
        "tumor": classification(he.where(clear), Task.TUMOR)
        | {"all": classification(he, Task.TUMOR)},
        "intensity": classification(ihc.where(single), Task.INTENSITY)
        | {"all": classification(ihc.where(tumor_tile), Task.INTENSITY)},
        "segmentation": pixels(tumor_tile) | {"all": pixels(np.ones(len(matrices), dtype=bool))},
    }


def _gathered(
    cases: Sequence[JudgedCase],
    said: list[NDArray[np.float32]],
    truth: NDArray[Any],
    classes: int,
) -> Judged:
    patients = [np.repeat(c.patient, len(s)) for c, s in zip(cases, said, strict=True)]
    return Judged(
        truth=truth.astype(np.int64),
        probability=_joined(said, (0, classes)).astype(np.float64),
        patient=_joined(patients, (0,)).astype(np.str_),
    )


def _joined(parts: list[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(empty)


def _slides(cases: Sequence[JudgedCase | FailedCase], side: str) -> JudgedSlides:
    found = [c.found[side] if isinstance(c, JudgedCase) else -1 for c in cases]
    return JudgedSlides(
        truth=np.array([c.score for c in cases], dtype=np.int64),
        found=np.array(found, dtype=np.int64),
        patient=np.array([c.patient for c in cases], dtype=np.str_),
    )


def _case_row(case: JudgedCase | FailedCase) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.patient, "truth": CLASS_NAMES[case.score]}
    if isinstance(case, FailedCase):
        return row | {"score": None, "problem": case.problem}
    return row | {
        "score": _score(case.found["model"]),
        "paper_score": _score(case.paper_score),
        "baseline": _score(case.found["baseline"]),
        "review": list(case.review),
        "percent": {
            side: {name: round(p, 2) for name, p in shares.items()}
            for side, shares in case.percent.items()
        },
        "unscored_tumor_tiles": case.unscored_tumor_tiles,
        **{key: value for key, value in case.facts.items() if key in ("organ", "scanner")},
    }


def _score(grade: int) -> str | None:
    return None if grade < 0 else CLASS_NAMES[grade]


def _judged(
    jobs: list[Job], settings: Settings, workers: int | None, keep: bool, progress: Progress
) -> list[JudgedCase | FailedCase]:
    work = partial(_work, settings=settings, keep=keep)
    return run_all(work, jobs, workers=workers, what="pairs", progress=progress)


def _work(job: Job, settings: Settings, keep: bool) -> JudgedCase | FailedCase:
    files = job.files or _made(job)
    results = job.folder / "results"
    try:
        return judge_case(files, results, settings)
    except TandemError as problem:
        score = json.loads(files.truth.read_text())["score"]
        return FailedCase(
            patient=files.truth.stem, score=CLASS_NAMES.index(score), problem=tell_error(problem)
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
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
        yield out_dir
        return
    with tempfile.TemporaryDirectory(prefix="tandem-evaluate-") as scratch:
        yield Path(scratch)
