"""Cross-validation of slide-level systems, in the shape of Tables 4 to 6 of arXiv 2503.22069.

Each fold of each system is a file of probabilities: a run that was stopped goes on, and figures
are made of these files alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.confusion import classification_figures, confusion
from models.evaluation.figures import auc, classification_of
from models.evaluation.judged import Judged
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import Fold, draw_folds, require_classes, slides_of
from models.slide_level.manifest import read_slide_manifest, reference_overview
from models.slide_level.system import SYSTEMS, Say, System
from models.slide_level.tasks import SLIDE_CLASSES, SlideLabel, SlideTask, class_of

FIGURES = ("auc", "f1", "accuracy")
POSITIVE = {
    SlideTask.BINARY: (1,),
    SlideTask.THREE_WAY: (2,),
    SlideTask.FOUR_WAY: (2, 3),
    SlideTask.ER: (1,),
    SlideTask.PR: (1,),
}
"""Classes that a laboratory acts on, together, for the decision curve."""
NOTICE = "For research use only. Systems saw slides at low resolution or tiles, never a patient."


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Plan of an evaluation: each system (by a name for tables) on each task in `folds` folds.

    The folds of a cohort that has its own are those, whatever `folds` says.
    `shifted` are slides of another scanner and staining run, which each fold's system answers too.
    """

    slides: Sequence[CohortSlide]
    systems: Mapping[str, System]
    tasks: Sequence[SlideTask]
    folds: int
    seed: int
    shifted: Sequence[CohortSlide] = ()
    settings: Mapping[str, Any]
    """Numbers that change answers, such as a recipe: a fold of other ones is run anew."""


def shuffled_labels(slides: Sequence[CohortSlide], seed: int) -> list[CohortSlide]:
    """Return the slides with the labels of each other, without their truth: what is learned from
    them is chance."""
    order = np.random.default_rng([seed, 0x5FFE]).permutation(len(slides))
    return [
        replace(slide, label=slides[k].label, truth=None)
        for slide, k in zip(slides, order, strict=True)
    ]


def evaluate_systems(plan: Plan, out: Path, say: Say) -> dict[str, Any]:
    """Run what is not there yet; return figures by task and system.

    Raises
    ------
    DataSetError
        If a fold has no slides of a class to learn from, before any is trained, or a picture is
        unusable.
    """
    tasks: dict[str, Any] = {}
    for task, folds in {task: _folds(plan, task) for task in plan.tasks}.items():
        systems = {}
        for name, system in plan.systems.items():
            answers = [_answer(plan, name, system, task, fold, out, say) for fold in folds]
            systems[name] = _figures(folds, answers, task)
            if plan.shifted:
                elsewhere = [np.array(answer["shifted"]) for answer in answers]
                systems[name]["shifted"] = _shifted(plan.shifted, elsewhere, task)
            means = {figure: systems[name][figure]["mean"] for figure in FIGURES}
            said = ("-" if mean is None else f"{mean:.3f}" for mean in means.values())
            words = (f"{figure} {value}" for figure, value in zip(means, said, strict=True))
            say(f"{task}, {name}: {', '.join(words)}")
        tasks[task.value] = {
            "classes": list(SLIDE_CLASSES[task]),
            "folds": len(folds),
            "systems": systems,
        }
    return {
        "folds": max(found["folds"] for found in tasks.values()),
        "seed": plan.seed,
        "slides": len(plan.slides),
        "patients": len({slide.patient for slide in plan.slides}),
        "tasks": tasks,
        "notice": NOTICE,
    }


def _folds(plan: Plan, task: SlideTask) -> list[Fold]:
    """Return the folds of a task; each has a slide of each class to learn from."""
    folds = draw_folds(plan.slides, task, folds=plan.folds, seed=plan.seed)
    for fold in folds:
        truth = [class_of(slide.label, task) for slide in fold.train]
        require_classes(f"fold {fold.number + 1}", truth, task)
    return folds


def _answer(
    plan: Plan,
    name: str,
    system: System,
    task: SlideTask,
    fold: Fold,
    out: Path,
    say: Say,
) -> dict[str, Any]:
    """Probabilities of a fold's test slides and of the shifted ones, kept in a file."""
    path = out / task.value / name / f"fold-{fold.number}.json"
    key = _key(plan, name, task, fold)
    if path.is_file():
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
            if kept["key"] == key:
                return kept
        except (ValueError, KeyError):
            say(f"{path}: damaged; the fold is run again")
    say(f"{task}, {name}, fold {fold.number + 1}: {len(fold.train)} slides train")
    fitted = system.fit(fold.train, fold.validation, task, seed=plan.seed + fold.number, say=say)
    shifted = slides_of(plan.shifted, task)
    answer = {
        "key": key,
        "slides": [slide.slide for slide in fold.test],
        "probability": fitted.predict(fold.test).tolist(),
        "shifted": fitted.predict(shifted).tolist() if shifted else [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(json.dumps(answer))
    hidden.replace(path)
    return answer


def _key(plan: Plan, name: str, task: SlideTask, fold: Fold) -> str:
    """Digest of all that a fold's answers depend on, but the code."""

    def known(slide: CohortSlide) -> list[Any]:
        paths = (slide.overview, slide.bag, *(path for _, path in slide.patches))
        files = [path.stat() for path in paths if path is not None]
        seen = [[file.st_size, file.st_mtime_ns] for file in files]
        return [slide.slide, slide.patient, asdict(slide.label), seen]

    parts = [[known(s) for s in part] for part in (fold.train, fold.validation, fold.test)]
    shifted = [known(s) for s in plan.shifted]
    begun = read_slide_manifest(reference_overview()).sha256  # systems may begin with it
    facts = [name, task, plan.seed, dict(plan.settings), begun, parts, shifted]
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _figures(
    folds: Sequence[Fold], answers: Sequence[Mapping[str, Any]], task: SlideTask
) -> dict[str, Any]:
    """Mean and deviation over folds of `FIGURES`, and all figures of the pooled answers."""
    each = []
    truths, chances, patients = [], [], []
    for fold, answer in zip(folds, answers, strict=True):
        truth, chance = _truth(fold.test, task), np.array(answer["probability"])
        each.append(fold_figures(truth, chance, task))
        truths.append(truth)
        chances.append(chance)
        patients += [slide.patient for slide in fold.test]
    judged = Judged(
        truth=np.concatenate(truths),
        probability=np.concatenate(chances),
        patient=np.array(patients),
    )
    wrong = judged.found != judged.truth
    names = SLIDE_CLASSES[task]
    slides = [slide for fold in folds for slide in fold.test]
    return {
        **_spread(each),
        "by_fold": each,
        "details": classification_of(judged, names, POSITIVE[task]),
        "misread": [
            {
                "slide": slides[k].slide,
                "label": names[judged.truth[k]],
                "found": names[judged.found[k]],
                "probability": round(float(judged.probability[k].max()), 3),
                "true": _class_name(slides[k].truth, task),
            }
            for k in np.flatnonzero(wrong)
        ],
    }


def _shifted(
    slides: Sequence[CohortSlide], answers: Sequence[NDArray[np.float64]], task: SlideTask
) -> dict[str, Any]:
    mine = slides_of(slides, task)
    return _spread([fold_figures(_truth(mine, task), chance, task) for chance in answers])


def fold_figures(
    truth: NDArray[np.int64], chance: NDArray[np.float64], task: SlideTask
) -> dict[str, float | None]:
    """Return AUC (mean of each class against the rest), macro F1 and accuracy, 0-1."""
    names = SLIDE_CLASSES[task]
    figures = classification_figures(confusion(truth, chance.argmax(axis=1), len(names)), names)
    areas = [auc(truth == k, chance[:, k]) for k in range(len(names))]
    defined = [area for area in areas if not np.isnan(area)]
    return {
        "auc": round(float(np.mean(defined)), 4) if defined else None,
        "f1": figures["macro_f1"],
        "accuracy": figures["accuracy"],
    }


def _spread(each: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean and standard deviation over folds (n - 1) of each figure; folds without it are left
    out, and it is None where none has it, as AUC of folds of one patient."""
    found = {}
    for name in FIGURES:
        values = [value for figures in each if (value := figures[name]) is not None]
        found[name] = {
            "mean": round(float(np.mean(values)), 4) if values else None,
            "deviation": _deviation(values),
        }
    return found


def _deviation(values: Sequence[float]) -> float | None:
    if not values:
        return None
    return round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else 0.0


def _truth(slides: Sequence[CohortSlide], task: SlideTask) -> NDArray[np.int64]:
    return np.array([class_of(slide.label, task) for slide in slides], dtype=np.int64)


def _class_name(label: SlideLabel | None, task: SlideTask) -> str | None:
    number = None if label is None else class_of(label, task)
    return None if number is None else SLIDE_CLASSES[task][number]


def plain_names() -> list[str]:
    """Names of the systems that every evaluation runs beside the others."""
    return [name for name, listed in SYSTEMS.items() if listed.approach == "plain"]
