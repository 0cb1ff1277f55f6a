"""Folds of a cohort: stratified by class, patient-wise (arXiv 2503.22069, section 2.3).

With ten folds each one trains with 80 % of the patients, validates with 10 % and tests with 10 %,
which is the paper's division for multiple-instance learning as well as its 10-fold
cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import DataSetError
from models.slide_level.cohort import CohortSlide
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of

FOLDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Division of the slides of a task; no patient is in two parts."""

    number: int
    train: tuple[CohortSlide, ...]
    validation: tuple[CohortSlide, ...]
    test: tuple[CohortSlide, ...]


def slides_of(slides: Sequence[CohortSlide], task: SlideTask) -> list[CohortSlide]:
    """Return the slides that have a class in a task."""
    return [slide for slide in slides if class_of(slide.label, task) is not None]


def draw_folds(
    slides: Sequence[CohortSlide], task: SlideTask, *, folds: int = FOLDS, seed: int = 0
) -> list[Fold]:
    """Return the folds of a task; the cohort's own where it has them, else drawn.

    Fold n tests with part n, validates with part n + 1 and trains with the others. A patient's
    stratum is the highest class of their slides. Equal seeds give equal folds.

    Raises
    ------
    DataSetError
        If a class of the task has no slide, or there are fewer than three folds, or fewer patients
        than folds.
    """
    mine = slides_of(slides, task)
    found = {class_of(slide.label, task) for slide in mine}
    for number, name in enumerate(SLIDE_CLASSES[task]):
        if number not in found:
            raise DataSetError(f"no slide of class {name!r} for the task {task}. Add some.")
    part = _own_parts(mine) or drawn_parts(mine, task, folds, seed)
    count = max(part.values()) + 1
    if count < 3:
        raise DataSetError("fewer than three folds: training, validation and test need one each")
    chosen: list[Fold] = []
    for number in range(count):
        after = (number + 1) % count
        chosen.append(
            Fold(
                number=number,
                train=tuple(s for s in mine if part[s.patient] not in (number, after)),
                validation=tuple(s for s in mine if part[s.patient] == after),
                test=tuple(s for s in mine if part[s.patient] == number),
            )
        )
    return chosen


def require_classes(system: str, truth: Sequence[int | None], task: SlideTask) -> None:
    """Require a slide of each class among those that train a system.

    Raises
    ------
    DataSetError
        If a class has none, as a cohort's own folds may have it.
    """
    for number, name in enumerate(SLIDE_CLASSES[task]):
        if number not in truth:
            raise DataSetError(
                f"{system}: no slide of class {name!r} in the training part, for the task "
                f"{task}. Take more patients, or other folds."
            )


def _own_parts(slides: Sequence[CohortSlide]) -> dict[str, int]:
    """Part of each patient as the cohort divides them, numbered without gaps; empty if it does
    not."""
    given = {slide.patient: slide.fold for slide in slides if slide.fold is not None}
    numbers = {fold: number for number, fold in enumerate(sorted(set(given.values())))}
    return {patient: numbers[fold] for patient, fold in given.items()}


def drawn_parts(
    slides: Sequence[CohortSlide], task: SlideTask, folds: int, seed: int
) -> dict[str, int]:
    """Return the part, 0 to `folds` - 1, of each patient: stratified by class, even in number.

    Raises
    ------
    DataSetError
        If there are fewer patients than parts.
    """
    stratum: dict[str, int] = {}
    for slide in slides:
        own = class_of(slide.label, task) or 0
        stratum[slide.patient] = max(own, stratum.get(slide.patient, 0))
    if len(stratum) < folds:
        raise DataSetError(f"{len(stratum)} patients for {folds} folds. Use --folds with fewer.")
    names = sorted(stratum)
    order = [names[k] for k in np.random.default_rng([seed, 0xF01D]).permutation(len(names))]
    order.sort(key=lambda name: stratum[name])  # stable: stratum after stratum
    # Dealt in turn over the strata, so that each class and the whole are as even as they can be.
    return {name: k % folds for k, name in enumerate(order)}
