"""Figures of merit, ready for JSON; torch-free. Rows of a confusion matrix are the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import cohen_kappa_score

from models.evaluation.bootstrap import bootstrap
from models.evaluation.confusion import (
    SHOWN,
    classification_figures,
    confusion,
    segmentation_figures,
)
from models.evaluation.curves import (
    decision_curve,
    expected_calibration_error,
    reliability,
    roc_points,
)
from models.evaluation.judged import Judged, JudgedPixels, JudgedSlides
from models.spec import CLASSES, Task

POSITIVE = {Task.TUMOR: (1,), Task.INTENSITY: (2, 3)}
"""Positive classes of the decision curve: tumor; intensities that a lab acts on (2+, 3+)."""
TABLE_2 = {
    "accuracy": "accuracy",
    "precision": "macro_precision",
    "recall": "macro_recall",
    "f1": "macro_f1",
}
"""Figures of Table 2 of arXiv 2512.22335, by their names in details. Its sensitivity is recall."""


def auc(positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney); NaN if one class is absent."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(probability)[positive].sum() - n * (n + 1) / 2) / (n * m))


def classification(judged: Judged, task: Task, *, seed: int = 0) -> dict[str, Any]:
    """All figures of a network's classes of tiles, see `classification_of`."""
    return classification_of(judged, CLASSES[task], POSITIVE[task], seed=seed)


def classification_of(
    judged: Judged, names: Sequence[str], positive: Sequence[int], *, seed: int = 0
) -> dict[str, Any]:
    """All figures of a classifier of the classes `names`, with intervals by patient and curves.

    `macro_auc` is the mean of the one-vs-rest AUCs of the classes present, ``micro_auc`` and
    ``roc_pooled`` are those of all one-vs-rest decisions together. ``decision_curve`` is that of
    the classes `positive` together, ``decision_curves`` has one per class against the rest (Fig. 8
    of arXiv 2512.22335).
    Figures that are undefined on the data are None. `seed` is the bootstrap's.
    """
    classes = range(len(names))

    def scalars(chosen: NDArray[np.int64]) -> dict[str, float]:
        some = judged.where(chosen)
        figures = classification_figures(confusion(some.truth, some.found, len(names)), names)
        areas = [auc(some.truth == k, some.probability[:, k]) for k in classes]
        figures["macro_auc"] = _mean(areas)
        figures["ece"] = expected_calibration_error(*_confidence(some))
        wanted = ("accuracy", *(f"macro_{key}" for key in SHOWN), "macro_auc", "ece")
        return {name: float(figures[name]) for name in wanted}

    if not len(judged):
        return {"n": 0, "patients": 0}
    figures = classification_figures(confusion(judged.truth, judged.found, len(names)), names)
    areas = [auc(judged.truth == k, judged.probability[:, k]) for k in classes]
    for name, area in zip(names, areas, strict=True):
        figures["per_class"][name]["auc"] = _rounded(area)
    risk = judged.probability[:, list(positive)].sum(axis=1)
    is_class = judged.truth[:, None] == np.array(classes)  # (N, K)
    pooled = is_class.ravel(), judged.probability.ravel()
    return {
        **figures,
        "patients": len(np.unique(judged.patient)),
        "macro_auc": _rounded(_mean(areas)),
        "micro_auc": _rounded(auc(*pooled)),
        "ece": _rounded(expected_calibration_error(*_confidence(judged))),
        **_order(judged),
        "interval": bootstrap(judged.patient, scalars, seed=seed),
        "classes": list(names),
        "roc": {
            name: roc_points(is_class[:, k], judged.probability[:, k])
            for k, name in enumerate(names)
        },
        "roc_pooled": roc_points(*pooled),
        "reliability": reliability(*_confidence(judged)),
        "decision_curve": decision_curve(np.isin(judged.truth, positive), risk),
        "decision_curves": {
            name: decision_curve(is_class[:, k], judged.probability[:, k])
            for k, name in enumerate(names)
        },
    }


def segmentation(judged: JudgedPixels, *, seed: int = 0) -> dict[str, Any]:
    """All figures of label maps, with intervals by patient."""
    names = CLASSES[Task.SEGMENTATION]

    def scalars(chosen: NDArray[np.int64]) -> dict[str, float]:
        figures = segmentation_figures(judged.matrices[chosen].sum(axis=0), names)
        return {name: float(figures[name]) for name in ("pixel_accuracy", "mean_iou")}

    return {
        "n": len(judged),
        "patients": len(np.unique(judged.patient)),
        **segmentation_figures(judged.matrices.sum(axis=0), names),
        "interval": bootstrap(judged.patient, scalars, seed=seed),
        "classes": list(names),
    }


def slide_figures(judged: JudgedSlides, *, classes: int = 4, seed: int = 0) -> dict[str, Any]:
    """Figures of slide scores of `classes` grades; `exact` and `within_one` are numbers of slides.

    A slide without score counts as wrong by more than one class. `confusion` has a last column for
    such slides.
    """
    distance = np.where(judged.found < 0, 9, np.abs(judged.truth - judged.found))

    def scalars(chosen: NDArray[np.int64]) -> dict[str, float]:
        return {
            "accuracy": float((distance[chosen] == 0).mean()),
            "within_one_share": float((distance[chosen] <= 1).mean()),
            "kappa_quadratic": kappa(judged.truth[chosen], judged.found[chosen], classes),
        }

    if not len(judged):
        return {"n": 0, "exact": 0, "within_one": 0}
    everything = {k: _rounded(v) for k, v in scalars(np.arange(len(judged))).items()}
    columns = np.where(judged.found < 0, classes, judged.found)
    return {
        "n": len(judged),
        "exact": int((distance == 0).sum()),
        "within_one": int((distance <= 1).sum()),
        **everything,
        "interval": bootstrap(judged.patient, scalars, seed=seed),
        "confusion": confusion(judged.truth, columns, classes + 1)[:classes].tolist(),
    }


def headline(task: Task, figures: dict[str, Any]) -> dict[str, float | None]:
    """Main figures under their dotted names: ``tumor.auc``, ``calibration.ece``."""
    quoted = {
        Task.TUMOR: TABLE_2 | {"auc": "macro_auc"},
        Task.INTENSITY: TABLE_2
        | {
            "specificity": "macro_specificity",
            "auc": "macro_auc",
            "kappa_quadratic": "kappa_quadratic",
            "spearman": "spearman",
        },
        Task.SEGMENTATION: {"mean_iou": "mean_iou"},
    }[task]
    found = {f"{task}.{name}": figures.get(key) for name, key in quoted.items()}
    return found | ({"calibration.ece": figures["ece"]} if "ece" in figures else {})


def kappa(truth: NDArray[np.int64], found: NDArray[np.int64], classes: int = 4) -> float:
    """Cohen's kappa with quadratic weights over the grades; rows without answer are left out.

    NaN if truth and answers are one and the same grade throughout.
    """
    there = found >= 0
    if len(np.unique(np.concatenate([truth[there], found[there]]))) < 2:
        return float("nan")
    grades = list(range(classes))
    return float(cohen_kappa_score(truth[there], found[there], labels=grades, weights="quadratic"))


def mean_class(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected class number, float (N,); it lies between classes, unlike the most probable
    class."""
    mean: NDArray[np.float64] = probability @ np.arange(probability.shape[1])
    return mean


def _order(judged: Judged) -> dict[str, float | None]:
    """Figures of ordered classes: quadratic kappa, and Spearman's correlation of the mean class."""
    if judged.probability.shape[1] < 3:
        return {}
    mean = mean_class(judged.probability)
    varied = len(np.unique(judged.truth)) > 1 and len(np.unique(mean)) > 1
    return {
        "kappa_quadratic": _rounded(kappa(judged.truth, judged.found)),
        "spearman": _rounded(float(spearmanr(judged.truth, mean)[0])) if varied else None,
    }


def _confidence(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return judged.probability.max(axis=1), judged.found == judged.truth


def _mean(values: list[float]) -> float:
    defined = [v for v in values if not np.isnan(v)]
    return float(np.mean(defined)) if defined else float("nan")


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
