"""Temperature of a slide-level system (Guo et al., arXiv 1706.04599), without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

SHARPER_SPREAD = 0.3
"""Standard deviation of the normal penalty on the logarithm of a temperature below 1."""
RANGE = (0.25, 10.0)
"""Least and largest temperature: few validation slides can ask for any."""


def fit_temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the temperature in `RANGE` of least negative log-likelihood of the classes `truth`
    (n,) under `logits` (n, classes), held near 1 from below; 1 without slides."""
    if len(truth) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        sharper = min(log_temperature, 0.0) / SHARPER_SPREAD
        nll = -float(scaled[np.arange(len(truth)), truth].mean())
        return nll + sharper**2 / (2 * len(truth))

    bounds = (float(np.log(RANGE[0])), float(np.log(RANGE[1])))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return round(float(np.exp(found.x)), 4)


def calibrated(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities (n, classes), whose rows sum to 1."""
    chances: NDArray[np.float64] = softmax(logits / temperature, axis=1)
    return chances
