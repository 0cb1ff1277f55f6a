"""Figures of a confusion matrix, with numpy alone. Rows are the truth, columns the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = ("precision", "recall", "specificity", "f1")


def confusion(
    truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Confusion matrix (classes, classes): rows truth, columns found."""
    pairs = truth.astype(np.int64).ravel() * classes + found.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def classification_figures(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, and precision, recall, specificity and F1 per class and their means (macro)."""
    total = int(matrix.sum())
    per_class = {}
    for k, name in enumerate(names):
        hit = int(matrix[k, k])
        truth, found = int(matrix[k].sum()), int(matrix[:, k].sum())
        precision, recall = _ratio(hit, found), _ratio(hit, truth)
        per_class[name] = {
            "precision": precision,
            "recall": recall,
            "specificity": _ratio(total - truth - found + hit, total - truth),
            "f1": _ratio(2 * hit, truth + found),
            "n": truth,
        }

    def mean(key: str) -> float:
        # An absent class has no recall; a class that holds everything has no specificity.
        least, most = (0, total - 1) if key == "specificity" else (1, total)
        return _average([c[key] for c in per_class.values() if least <= c["n"] <= most])

    return {
        "n": total,
        "accuracy": _ratio(int(np.trace(matrix)), total),
        **{f"macro_{key}": mean(key) for key in SHOWN},
        "per_class": per_class,
        "confusion": matrix.tolist(),
    }


def segmentation_figures(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Pixel accuracy; IoU per class and its mean over the classes in truth or answers."""
    union = matrix.sum(axis=1) + matrix.sum(axis=0) - np.diag(matrix)
    iou = {name: _ratio(int(matrix[k, k]), int(union[k])) for k, name in enumerate(names)}
    seen = [value for value, px in zip(iou.values(), union, strict=True) if px]
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    return {
        "pixels": int(matrix.sum()),
        "pixel_accuracy": _ratio(int(np.trace(matrix)), int(matrix.sum())),
        "mean_iou": _average(seen),
        "iou": iou,
        "confusion_share": np.round(share, 4).tolist(),
    }


def _average(values: list[float]) -> float:
    return round(float(np.mean(values)), 4) if values else 0.0


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
