"""Ceiling of coupled cases: what H&E morphology alone can tell of HER2 (`coupling`).

What can be seen of a clone is its look. Part of each feature of a look is the patient's own, the
same in all clones (`coupling.OWN_SHARE`), and no reader can tell it from aggressiveness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from models.synthesis.coupling import (
    CLASSES,
    CLONES,
    FEATURES,
    OWN_SHARE,
    STEPS,
    draw_aggressiveness,
    draw_levels,
)

Floats = NDArray[np.float64]
OWN = float(np.sqrt(OWN_SHARE / (1 - OWN_SHARE) / FEATURES))
"""Deviation of what the patient's own adds to the aggressiveness of all clones, as the mean of all
features of a look shows it. They are equally good, so that no reading of them shows it better."""
_QUANTILES = (np.arange(25) + 0.5) / 25
_SHIFTS = OWN * norm.ppf(_QUANTILES)
"""Values that the patient's own may have, each equally likely."""
DRAWS = 20
"""Draws of the patient's own for each case whose ceiling is asked for."""
LEAST_SPREAD = 0.05
"""Least deviation between score and latent number that is reckoned with: near a strength of 1 no
value of `_SHIFTS` would fit."""


def posterior(seen: Floats, strength: float, shifts: Floats = _SHIFTS) -> Floats:
    """Return what a perfect reader of looks knows: probabilities (4,) of the slide's classes.

    `seen` (K,) is the aggressiveness of the slide's clones as their looks show it: each with the
    patient's own, which may be any of `shifts`. Any clone may be the one that has the score of the
    slide; the others have any lower score (`coupling.draw_levels`).
    """
    spread = max(float(np.sqrt(1 - strength**2)), LEAST_SPREAD)
    latent = seen - shifts[:, None]
    likely = np.asarray(norm.logpdf(latent[..., None], strength * STEPS, spread))  # (S, K, 4)
    shares = [likely[..., 0].sum(axis=1)]
    for grade in range(1, CLASSES):
        lower = logsumexp(likely[..., :grade], axis=2) - np.log(grade)
        others = lower.sum(axis=1, keepdims=True) - lower
        shares.append(logsumexp(likely[..., grade] + others, axis=1) - np.log(seen.size))
    odds: Floats = softmax(logsumexp(np.stack(shares), axis=1))
    return odds


def ceiling_of(
    aggressiveness: list[Floats], grades: NDArray[np.int64], strength: float, seed: int = 0
) -> float:
    """Return the weighted one-vs-rest area that a perfect reader of looks reaches on cases.

    `aggressiveness` (K,) are the latent numbers of each case's clones, `grades` (N,) the classes.
    The patient's own is drawn `DRAWS` times for each case, and the areas are averaged.
    """
    rng = np.random.default_rng([seed, 0xCE11])
    areas = []
    for _ in range(DRAWS):
        odds = [posterior(each + OWN * rng.normal(), strength) for each in aggressiveness]
        areas.append(roc_auc_score(grades, odds, multi_class="ovr", average="weighted"))
    return float(np.mean(areas))


def ceiling(strength: float, cases: int = 2_000, seed: int = 0) -> float:
    """Return `ceiling_of` many cases."""
    rng = np.random.default_rng([seed, 0xCE11])
    grades = np.arange(cases) % CLASSES
    latent = []
    for grade in grades.tolist():
        levels = draw_levels(grade, int(rng.choice(CLONES)), rng).tolist()
        latent.append(np.array([draw_aggressiveness(each, strength, rng) for each in levels]))
    return ceiling_of(latent, grades, strength, seed + 1)
