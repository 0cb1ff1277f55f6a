"""Ceiling of coupled cases: what H&E morphology alone can tell of HER2 (`coupling`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from models.synthesis.coupling import CLASSES, CLONES, STEPS, draw_aggressiveness, draw_levels


def posterior(aggressiveness: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Return what a perfect reader of the morphology knows: probabilities (4,) of the classes.

    `aggressiveness` (K,) are the latent numbers of the slide's clones. Any of them may be the one
    that has the score of the slide; the others have any lower score (`coupling.draw_levels`).
    """
    spread = max(float(np.sqrt(1 - strength**2)), 1e-6)
    likely = np.asarray(norm.logpdf(aggressiveness[:, None], strength * STEPS, spread))
    each = np.exp(likely - likely.max(axis=1, keepdims=True))  # (K, 4)
    shares = [each[:, 0].prod()]
    for grade in range(1, CLASSES):
        lower = each[:, :grade].mean(axis=1)
        without = [np.delete(lower, k).prod() for k in range(len(lower))]
        shares.append(float((each[:, grade] * without).mean()))
    odds: NDArray[np.float64] = np.array(shares) / sum(shares)
    return odds


def ceiling(strength: float, cases: int = 20_000, seed: int = 0) -> float:
    """Weighted one-vs-rest area under the ROC that a perfect reader of the morphology reaches."""
    rng = np.random.default_rng([seed, 0xCE11])
    grades = np.arange(cases) % CLASSES
    odds = np.empty((cases, CLASSES))
    for number, grade in enumerate(grades.tolist()):
        levels = draw_levels(grade, int(rng.choice(CLONES)), rng).tolist()
        latent = np.array([draw_aggressiveness(level, strength, rng) for level in levels])
        odds[number] = posterior(latent, strength)
    return float(roc_auc_score(grades, odds, multi_class="ovr", average="weighted"))
