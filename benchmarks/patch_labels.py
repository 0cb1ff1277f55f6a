"""Patches inherit the class of their annotation: how often it is wrong, and what that costs.

``python -m benchmarks.patch_labels --work DIR --patients 200 --resolution low``. Everything is
drawn (synthetic). In each fold the reader of arXiv 2503.22069, approach 3, learns once from
inherited labels and once from each patch's own score, and both are judged on the patches of other
patients, by either kind of label, and on their slides.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.datasets.drawn_patches import drawn_patches
from models.evaluation.readers import fold_figures
from models.patch_counts.examples import Labels, labeled_patches
from models.patch_counts.patches import UNLABELED, load_patches
from models.patch_counts.system import FittedPatchCounts, PatchCounts, system
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import Fold, draw_folds
from models.slide_level.low_resolution import slide_logits
from models.slide_level.tasks import SlideTask, class_of
from models.slide_level.temperature import calibrated
from models.synthesis.slide_cohort import draw_slides
from models.synthesis.slide_files import write_slides

TASK = SlideTask.FOUR_WAY
KINDS: tuple[Labels, ...] = ("inherited", "own")
_ALL = 10_000


def main() -> None:
    """Parse, draw what is missing, train, and print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the drawn cohort")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20011)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--resolution", choices=("low", "moderate"), default="low")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    draws = draw_slides(given.seed, given.patients)
    write_slides(given.work, draws, lambda *_: None, stains=["HER2"])
    slides = drawn_patches(given.work, draws, [given.resolution], lambda *_: None)
    print(
        f"{given.patients} patients, {given.resolution} resolution, {given.folds} folds: synthetic"
    )
    print(differing(slides, given.resolution))
    asked = system(f"patch-{given.resolution}-mlp")
    folds = draw_folds(slides, TASK, folds=given.folds, seed=given.seed)
    print("\n| learned from | judged | AUC | F1 | accuracy |\n|---|---|---|---|---|")
    for labels in KINDS:
        each = [judged(asked, labels, fold, given.seed + fold.number) for fold in folds]
        for what in each[0]:
            row = [spread([fold[what][name] for fold in each]) for name in each[0][what]]
            print(f"| {labels} labels | {what} | {' | '.join(row)} |")


def differing(slides: list[CohortSlide], resolution: str) -> str:
    """Return in words how many annotated patches have another score than their annotation."""
    sets = [load_patches(dict(slide.patches)[resolution]) for slide in slides]
    labels = np.concatenate([one.labels for one in sets])
    own = np.concatenate([one.own_labels() for one in sets])
    annotated, known = int((labels != UNLABELED).sum()), own != UNLABELED
    wrong = labels[known] != own[known]
    return (
        f"{len(labels)} patches, {annotated} annotated; of {known.sum()} with 5 % tumor or more "
        f"{wrong.sum()} ({100 * wrong.mean():.1f} %) have another score than their annotation"
    )


def judged(given: PatchCounts, labels: Labels, fold: Fold, seed: int) -> dict[str, dict[str, Any]]:
    """Return figures of a fold's test patches by both kinds of labels, and of its slides."""
    asked = replace(given, recipe=replace(given.recipe, labels=labels))
    fitted = asked.fit(fold.train, fold.validation, TASK, seed=seed, say=_silent)
    found = {f"patches, by {kind} labels": _patches(fitted, fold, kind) for kind in KINDS}
    truth = np.array([class_of(slide.label, TASK) for slide in fold.test], dtype=np.int64)
    return found | {"slides": fold_figures(truth, fitted.predict(fold.test), TASK)}


def _patches(fitted: FittedPatchCounts, fold: Fold, kind: Labels) -> dict[str, Any]:
    recipe = fitted.recipe
    pixels, truth = labeled_patches(
        fold.test, recipe.resolution, recipe.training.px, labels=kind, most=_ALL
    )
    return fold_figures(truth, calibrated(slide_logits(fitted.network, pixels), 1.0), TASK)


def spread(values: list[float]) -> str:
    """Return mean ± deviation over folds, in percent."""
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"


def _silent(_: str) -> None:
    pass


if __name__ == "__main__":
    main()
