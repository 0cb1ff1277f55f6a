"""Figures of judged pairs: on tiles, on slides, per case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.assays.her2.choice import choose_guideline
from appliance.assays.registry import tasks
from appliance.evaluation.case import FailedCase, JudgedCase
from appliance.evaluation.judged_tiles import judged_tiles
from appliance.evaluation.rois import rois
from appliance.evaluation.subgroups import selective, subgroups
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import RESEARCH_USE
from appliance.readers.chosen_weights import chosen_weights
from appliance.settings.settings import Settings
from models.evaluation.figures import classification, headline, segmentation, slide_figures
from models.evaluation.judged import JudgedSlides
from models.evaluation.sides import side_names, titles
from models.spec import Task

SIDES = side_names(1)


def summarize(
    cases: Sequence[JudgedCase | FailedCase], settings: Settings, source: dict[str, Any]
) -> dict[str, Any]:
    """Quoted figures at the top, all others in ``subgroups``, ``details``, ``rois`` and
    ``cases``."""
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
        "sides": titles(["Tandem"]),
        "guideline": choose_guideline(settings.scoring).guideline.name,
        **quoted,
        **{f"selective.{key}": value for key, value in selective(cases).items()},
        "weights": {
            task.value: {"name": spec.name, "version": spec.version, "sha256": spec.sha256}
            for task in tasks()
            for _, spec in [chosen_weights(task, settings)]
        },
        "subgroups": subgroups(cases),
        "details": details,
        "rois": [row for case in judged for row in rois(case)],
        "cases": [_case_row(case) for case in cases],
    }


def _side(cases: Sequence[JudgedCase], side: str) -> dict[str, Any]:
    """Figures of one side on clear tiles; ``all`` holds those on tiles of every kind."""
    tiles = judged_tiles(cases, side)
    every = np.ones(len(tiles.matrices), dtype=bool)
    return {
        "tumor": classification(tiles.tumor, Task.TUMOR)
        | {"all": classification(tiles.he, Task.TUMOR)},
        "intensity": classification(tiles.intensity, Task.INTENSITY)
        | {"all": classification(tiles.ihc.where(tiles.is_tumor), Task.INTENSITY)},
        "segmentation": segmentation(tiles.segmentation)
        | {"all": segmentation(tiles.pixels(every))},
    }


def _slides(cases: Sequence[JudgedCase | FailedCase], side: str) -> JudgedSlides:
    found = [c.found[side] if isinstance(c, JudgedCase) else -1 for c in cases]
    return JudgedSlides(
        truth=np.array([c.score for c in cases], dtype=np.int64),
        found=np.array(found, dtype=np.int64),
        patient=np.array([c.patient for c in cases], dtype=np.str_),
    )


def _case_row(case: JudgedCase | FailedCase) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.patient, "truth": CLASS_NAMES[case.score]}
    about: dict[str, Any] = {
        key: case.facts[key] for key in ("organ", "scanner", "mpp") if key in case.facts
    }
    if isinstance(case, FailedCase):
        return row | {"score": None, "problem": case.problem} | about
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
        **about,
    }


def _score(grade: int) -> str | None:
    return None if grade < 0 else CLASS_NAMES[grade]
