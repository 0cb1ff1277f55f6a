"""Classes of the label map: names, counts and shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("0", "1+", "2+", "3+")
"""Scores of the label map's values 1, 2, 3, 4.

Value 0, background, is all that M does not take for tumor: glass, and also stroma, lymphocytes,
necrosis and benign epithelium, however they are stained. It is no score: unstained *tumor* is value
1. In arXiv 2512.22335 class 0 is the plain background alone.
"""

NUCLEAR_CLASSES = ("negative", "weak", "moderate", "strong")
"""Classes of the label map's values 1, 2, 3, 4 where an assay scores nuclei: their DAB."""


def count_classes(label_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of class k = 0..4 in a label map, int64 (5,): N{k} of Eq. 5-6."""
    return np.bincount(label_map.ravel(), minlength=5)[:5].astype(np.int64)


def percent_of_tumor(counts: NDArray[np.int64]) -> dict[str, float]:
    """Share (0-100) of each class 0, 1+, 2+, 3+ among the tumor pixels; zeros without any."""
    tumor = counts[1:5].astype(np.float64)
    total = tumor.sum()
    shares = 100.0 * tumor / total if total > 0 else np.zeros(4)
    return {name: float(share) for name, share in zip(CLASS_NAMES, shares, strict=True)}


def h_score(percent: Mapping[str, float]) -> float:
    """H-score by area: Σ intensity (0-3) x % of tumor area, 0-300. Reported; used by no rule."""
    return sum(grade * percent[name] for grade, name in enumerate(CLASS_NAMES))
