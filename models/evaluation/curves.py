"""ROC, reliability and decision curves: points to draw, ready for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

BINS = 15
"""Number of bins of equal width over the confidence 0-1 (Guo et al., ICML 2017)."""
THRESHOLDS = np.round(np.arange(0.01, 0.301, 0.01), 2)
"""Risk thresholds of the decision curve: up to 0.30, as in arXiv 2512.22335."""
ROC_POINTS = 200


def roc_points(
    positive: NDArray[np.bool_], probability: NDArray[np.float64]
) -> list[tuple[float, float]]:
    """(1 - specificity, sensitivity), rising, at most `ROC_POINTS`; empty if one class is
    absent."""
    if positive.all() or not positive.any():
        return []
    false_rate, true_rate, _ = roc_curve(positive, probability)
    chosen = np.unique(np.linspace(0, len(false_rate) - 1, ROC_POINTS).astype(int))
    return [(round(float(false_rate[k]), 4), round(float(true_rate[k]), 4)) for k in chosen]


def reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Nonempty bins: their limits, mean confidence, share correct and count."""
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        inside = number == k
        if inside.any():
            bins.append(
                {
                    "low": round(k / BINS, 4),
                    "high": round((k + 1) / BINS, 4),
                    "n": int(inside.sum()),
                    "confidence": round(float(confidence[inside].mean()), 4),
                    "accuracy": round(float(correct[inside].mean()), 4),
                }
            )
    return bins


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> float:
    """ECE: mean of |confidence - share correct| over `BINS`, weighted by their counts."""
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(number, weights=confidence - correct, minlength=BINS)
    return float(np.abs(gap).sum() / len(confidence)) if len(confidence) else float("nan")


def decision_curve(
    positive: NDArray[np.bool_], probability: NDArray[np.float64]
) -> dict[str, list[float]]:
    """Net benefit over `THRESHOLDS` of the model, of treat-all and of treat-none.

    At threshold t: true positives / N - false positives / N · t / (1 - t) (Vickers & Elkin, Med
    Decis Making 2006;26:565).
    """
    odds = THRESHOLDS / (1 - THRESHOLDS)
    treated = probability[None, :] >= THRESHOLDS[:, None]  # (thresholds, N)
    share = float(positive.mean())
    true, false = (treated & positive).mean(axis=1), (treated & ~positive).mean(axis=1)
    return {
        "threshold": THRESHOLDS.tolist(),
        "model": np.round(true - false * odds, 5).tolist(),
        "treat_all": np.round(share - (1 - share) * odds, 5).tolist(),
        "treat_none": [0.0] * len(THRESHOLDS),
    }
