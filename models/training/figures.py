"""Figures of merit from confusion matrices; torch-free. Rows of a matrix are truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion(
    truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Confusion matrix (classes, classes): rows truth, columns found."""
    pairs = truth.astype(np.int64).ravel() * classes + found.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def classification_figures(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, and precision, recall, specificity and F1 per class; JSON-ready."""
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
    return {
        "n": total,
        "accuracy": _ratio(int(np.trace(matrix)), total),
        "macro_f1": round(float(np.mean([c["f1"] for c in per_class.values()])), 4),
        "per_class": per_class,
        "confusion": matrix.tolist(),
    }


def segmentation_figures(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Pixel accuracy and IoU per class and mean; JSON-ready."""
    iou = {
        name: _ratio(int(matrix[k, k]), int(matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]))
        for k, name in enumerate(names)
    }
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    return {
        "pixels": int(matrix.sum()),
        "pixel_accuracy": _ratio(int(np.trace(matrix)), int(matrix.sum())),
        "mean_iou": round(float(np.mean(list(iou.values()))), 4),
        "iou": iou,
        "confusion_share": np.round(share, 4).tolist(),
    }


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
