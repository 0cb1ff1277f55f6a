"""Figures of judged pairs: on tiles, on slides, per case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.choice import choose_guideline
from appliance.assays.registry import tasks
from appliance.evaluation.case import JudgedCase
from appliance.evaluation.rois import rois
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import RESEARCH_USE
from appliance.readers.chosen_weights import chosen_weights
from appliance.settings.settings import Settings
from models.evaluation.figures import classification, headline, segmentation, slide_figures
from models.evaluation.judged import Judged, JudgedPixels, JudgedSlides
from models.spec import Task
from models.synthesis.tile_pairs import TUMOR_SHARE

SIDES = ("model", "baseline")
TUMOR_FROM, OTHER_UP_TO = 0.5, 0.05
"""Tumor share from which on a tile is tumor, and up to which it is not; tiles between them count
only in ``all``."""
MAJORITY = 0.5
"""Share of a tile's tumor px that its intensity class must exceed; else it has no single class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCase:
    """A case that the appliance could not score, with the reason: counts as wrong."""

    patient: str
    score: int
    problem: str


def summarize(
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
            # The worse of the two classifiers: a mean would hide it.
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
            for task in tasks()
            for _, spec in [chosen_weights(task, settings)]
        },
        "details": details,
        "rois": [row for case in judged for row in rois(case)],
        "cases": [_case_row(case) for case in cases],
    }


def _side(cases: Sequence[JudgedCase], side: str) -> dict[str, Any]:
    """Figures of one side on clear tiles; ``all`` holds those on tiles of every kind."""
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
    """The parts as one array; zeros of shape `empty` without parts."""
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
