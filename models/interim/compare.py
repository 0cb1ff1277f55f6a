"""Figures of variants of the interim reader on the same cases, in the paper's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from models.evaluation.bootstrap import RESAMPLES, bootstrap

Values = NDArray[np.float64]
COLUMNS = ("ACC", "M-AUC", "W-AUC", "M-F1", "W-F1")
"""Accuracy, macro and weighted one-vs-rest AUC, macro and weighted F1: Table 2, in its order."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers of one training: `label` int (N,), `probabilities` float64 (N, classes)."""

    label: NDArray[np.int64]
    probabilities: Values


def figures(judged: Judged) -> dict[str, float]:
    """Return the columns; an AUC is NaN where a class has no case."""
    label, found = judged.label, judged.probabilities.argmax(axis=1)
    classes = judged.probabilities.shape[1]
    known = len(np.unique(label)) == classes
    areas = [
        float(roc_auc_score(label, judged.probabilities, multi_class="ovr", average=average))
        if known
        else float("nan")
        for average in ("macro", "weighted")
    ]
    f1 = [
        float(f1_score(label, found, average=average, labels=range(classes), zero_division=0))
        for average in ("macro", "weighted")
    ]
    return dict(zip(COLUMNS, (float(accuracy_score(label, found)), *areas, *f1), strict=True))


def mean_figures(repeats: Sequence[Judged]) -> dict[str, float]:
    """Return the mean of each column over trainings of one variant by other seeds."""
    each = [figures(judged) for judged in repeats]
    return {name: float(np.mean([row[name] for row in each])) for name in COLUMNS}


def interval(
    repeats: Sequence[Judged], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """Return the 95 % interval of each mean column, by resampling cases."""
    return bootstrap(
        np.arange(len(repeats[0].label)),
        lambda rows: mean_figures(_some(repeats, rows)),
        seed=seed,
        resamples=resamples,
    )


def paired(
    one: Sequence[Judged],
    other: Sequence[Judged],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, list[float]]:
    """Return the 95 % interval of each mean column of `other` minus `one`, by resampling cases.

    Raises
    ------
    ValueError
        If two trainings did not judge the same cases.
    """
    label = one[0].label
    if not all(np.array_equal(label, judged.label) for judged in (*one, *other)):
        raise ValueError("the variants judged different cases")

    def difference(rows: NDArray[np.int64]) -> dict[str, float]:
        before, after = (mean_figures(_some(repeats, rows)) for repeats in (one, other))
        return {name: after[name] - before[name] for name in COLUMNS}

    return bootstrap(np.arange(len(label)), difference, seed=seed, resamples=resamples)


def _some(repeats: Sequence[Judged], rows: NDArray[np.int64]) -> list[Judged]:
    return [Judged(each.label[rows], each.probabilities[rows]) for each in repeats]
