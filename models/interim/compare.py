"""Figures of variants of the interim reader on the same cases, in the paper's columns."""

from __future__ import annotations

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
    """Answers of one variant: `label` int (N,), `probabilities` float64 (N, classes)."""

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


def interval(
    judged: Judged, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """Return the 95 % interval of each column, by resampling cases."""
    return bootstrap(
        np.arange(len(judged.label)),
        lambda rows: figures(Judged(judged.label[rows], judged.probabilities[rows])),
        seed=seed,
        resamples=resamples,
    )


def paired(
    one: Judged, other: Judged, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """Return the 95 % interval of each column of `other` minus `one`, by resampling cases.

    Raises
    ------
    ValueError
        If the two did not judge the same cases.
    """
    if not np.array_equal(one.label, other.label):
        raise ValueError("the two variants judged different cases")

    def difference(rows: NDArray[np.int64]) -> dict[str, float]:
        before, after = (
            figures(Judged(each.label[rows], each.probabilities[rows])) for each in (one, other)
        )
        return {name: after[name] - before[name] for name in COLUMNS}

    return bootstrap(np.arange(len(one.label)), difference, seed=seed, resamples=resamples)
