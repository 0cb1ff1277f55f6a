"""Ceiling of coupled cases: what H&E morphology alone can tell of HER2 (`coupling`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from models.synthesis.coupling import CLASSES, STEPS, draw_aggressiveness


def posterior(aggressiveness: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Return what a perfect reader of the morphology knows: probabilities (N, 4) of the classes."""
    spread = max(float(np.sqrt(1 - strength**2)), 1e-6)
    likely = np.asarray(norm.logpdf(aggressiveness[:, None], strength * STEPS, spread))
    odds = np.exp(likely - likely.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return shares


def ceiling(strength: float, cases: int = 20_000, seed: int = 0) -> float:
    """Weighted one-vs-rest area under the ROC that a perfect reader of the morphology reaches."""
    rng = np.random.default_rng([seed, 0xCE11])
    grades = np.arange(cases) % CLASSES
    latent = np.array([draw_aggressiveness(int(g), strength, rng) for g in grades])
    odds = posterior(latent, strength)
    return float(roc_auc_score(grades, odds, multi_class="ovr", average="weighted"))
