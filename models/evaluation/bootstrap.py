"""Confidence intervals by resampling patients; tiles of one patient are not independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 500
LEVEL = 0.95

Statistic = Callable[[NDArray[np.int64]], Mapping[str, float]]
"""Function from row numbers, which may repeat, to the figures of these rows."""


def bootstrap(
    patient: NDArray[Any], statistic: Statistic, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """Percentile interval [low, high] at `LEVEL` of each figure that `statistic` returns.

    `patient` (N,): whole patients are drawn with replacement. A single patient gives no interval
    and an empty result. A resample in which a figure is undefined (NaN) does not count for it.
    """
    _, group = np.unique(patient, return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    if len(members) < 2:
        return {}
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        chosen = rng.integers(len(members), size=len(members))
        for name, value in statistic(np.concatenate([members[k] for k in chosen])).items():
            draws.setdefault(name, []).append(value)
    tail = 100 * (1 - LEVEL) / 2
    intervals = {}
    for name, values in draws.items():
        defined = [v for v in values if not np.isnan(v)]
        if defined:
            low, high = np.percentile(defined, [tail, 100 - tail])
            intervals[name] = [round(float(low), 4), round(float(high), 4)]
    return intervals
