"""Training of a slide-level system: its weights, their figures on other patients, their card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DataSetError
from models.evaluation.confusion import classification_figures, confusion
from models.evaluation.readers import fold_figures
from models.mil.bag import load_bag
from models.patch_counts.examples import read_patches
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import FOLDS, Fold, draw_folds, slides_of
from models.slide_level.foreground import read_section
from models.slide_level.manifest import SlideSpec, add_figures
from models.slide_level.plain import PX
from models.slide_level.system import BAGS, PATCHES, SYSTEMS, Say, System
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.spec import CARD_NAME
from models.training.replacing import replaced, require_writable

_QUESTIONS = {
    SlideTask.BINARY: "whether a whole HER2 slide is negative or positive",
    SlideTask.THREE_WAY: "whether a whole HER2 slide is 0, low or high",
    SlideTask.FOUR_WAY: "the HER2 score of a whole slide",
    SlideTask.ER: "whether a whole ER slide is positive",
    SlideTask.PR: "whether a whole PR slide is positive",
}


def train_reader(
    system: System,
    slides: Sequence[CohortSlide],
    task: SlideTask,
    out: Path,
    *,
    seed: int,
    data: str,
    say: Say,
) -> SlideSpec:
    """Train with 80 % of the patients, stop and calibrate with 10 %, judge on 10 %.

    Of a cohort with its own folds the first judges, the second stops and the others train.
    `data` says what the slides are, for the card. Returns the spec with its figures. Weights,
    manifest and card come into `out` together: after an error it is as it was.

    Raises
    ------
    DataSetError
        If the cohort lacks a class or patients, a file is unusable, or `out` cannot be written;
        before the training as far as it can be known.
    """
    patients = {slide.patient for slide in slides_of(slides, task) if slide.fold is None}
    if 0 < len(patients) < FOLDS:
        raise DataSetError(
            f"{len(patients)} patients with a class in the task {task}; to train needs {FOLDS}. "
            "Add some, or divide them by a column fold of the cohort."
        )
    fold = draw_folds(slides, task, seed=seed)[0]
    names = SLIDE_CLASSES[task]
    truth = np.array([class_of(slide.label, task) for slide in fold.test], dtype=np.int64)
    _require_readable(system.name, fold)
    require_writable(out)
    fitted = system.fit(fold.train, fold.validation, task, seed=seed, say=say)
    chance = fitted.predict(fold.test)
    found = classification_figures(confusion(truth, chance.argmax(axis=1), len(names)), names)
    figures = {
        "data": data,
        "test_slides": len(truth),
        "division": _divided(fold, own=slides[0].fold is not None),
        **fold_figures(truth, chance, task),
        # Of a class that nobody judged there is no figure.
        "per_class_f1": {k: v["f1"] if v["n"] else None for k, v in found["per_class"].items()},
    }
    with replaced(out) as part:
        fitted.save(part)
        spec = add_figures(part, figures)
        (part / CARD_NAME).write_text(_card(spec, seed))
    return spec


def _require_readable(name: str, fold: Fold) -> None:
    """Read before hours of training what they would end without: all bags, and what judges."""
    if SYSTEMS[name].approach == BAGS:
        _require_bags([*fold.train, *fold.validation, *fold.test])
        return
    for slide in fold.test:
        if SYSTEMS[name].approach == PATCHES:
            read_patches(slide, name.split("-")[1], PX)
        else:
            read_section(slide.overview, PX)


def _require_bags(slides: Sequence[CohortSlide]) -> None:
    """Require a bag of each slide, all by one encoder."""
    first: tuple[str, str] | None = None
    for slide in slides:
        if slide.bag is None:
            raise DataSetError(
                f"{slide.slide}: no bag of tiles. Encode the cohort's slides and name them in the "
                "column bag."
            )
        encoder = load_bag(slide.bag).encoder
        name, wanted = first = first or (slide.bag.name, encoder)
        if encoder != wanted:
            raise DataSetError(
                f"{slide.bag}: its tiles were encoded by {encoder[:12]}…, those of {name} by "
                f"{wanted[:12]}…. Encode all slides with one encoder."
            )


def _divided(fold: Fold, *, own: bool) -> str:
    """Words on the slides and patients of each part of a division."""
    parts = {"trained": fold.train, "stopped and calibrated": fold.validation, "judged": fold.test}
    words = [
        f"{len(part)} slides of {len({slide.patient for slide in part})} patients {did}"
        for did, part in parts.items()
    ]
    return ", ".join(words) + (", by the cohort's own folds" if own else "")


def _card(spec: SlideSpec, seed: int) -> str:
    figures: dict[str, Any] = spec.figures
    rows = [(name, figures[name]) for name in ("auc", "f1", "accuracy")]
    each = figures["per_class_f1"].items()
    rows += [(f"F1 {name}", "no slide" if value is None else value) for name, value in each]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    trained = "; ".join(f"{name} {value}" for name, value in spec.trained.items())
    if spec.trained.get("best_epoch") == 0:
        trained += (
            ". **These are the weights that it began with**, of drawn slides: no epoch was better "
            "on the validation slides by more than a standard error"
        )
    return f"""# {spec.name} {spec.version}

Answers {_QUESTIONS[spec.task]} ({", ".join(spec.classes)}).

**Intended use: research only.** Not for diagnostic use. It is a second reader: it decides no score.
A site replaces these weights by its own.

**System.** {spec.system}; input {spec.input}; numbers in `manifest.json`.

**Data.** {figures["data"]} Of those with a class in this task {figures["division"]}.

**Training.** {trained}. To make it again: `tandem train reader {spec.system} --task {spec.task}
--seed {seed} --out DIR` with the cohort named above.

**Figures** on {figures["test_slides"]} slides of patients that neither trained nor stopped it:

| figure | value |
|---|---|
{table}

**Calibration.** Temperature {spec.temperature}, on the validation slides.

**Limits.** Labels of single readers err, and the network learns their errors. It sees stain, not
cells: a run or a scanner that it does not know may shift its answers. It was not judged on real
slides unless the data above says so.
"""
