"""Ceiling of coupled cases: what H&E morphology alone can tell of HER2 (`coupling`).

What can be seen of a clone is its look. Part of each feature of a look is the patient's own, the
same in all clones (`coupling.OWN_SHARE`), and no reader can tell it from aggressiveness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
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
"""What the patient's own may be, equally likely each."""
DRAWS = 20


def posterior(seen: Floats, strength: float, shifts: Floats = _SHIFTS) -> Floats:
    """Return what a perfect reader of looks knows: probabilities (4,) of the slide's classes.

    `seen` (K,) is the aggressiveness of the slide's clones as their looks show it: each with the
    patient's own, which may be any of `shifts`. Any clone may be the one that has the score of the
    slide; the others have any lower score (`coupling.draw_levels`).
    """
    spread = max(float(np.sqrt(1 - strength**2)), 1e-6)
    latent = seen - shifts[:, None]
    likely = np.asarray(norm.logpdf(latent[..., None], strength * STEPS, spread))  # (S, K, 4)
    each = np.exp(likely - likely.max())
    shares = [each[..., 0].prod(axis=1)]
    for grade in range(1, CLASSES):
        lower = each[..., :grade].mean(axis=2)
        clones = range(seen.size)
        others = np.stack([np.delete(lower, k, axis=1).prod(axis=1) for k in clones], axis=1)
        shares.append((each[..., grade] * others).mean(axis=1))
    likely_by_class: Floats = np.stack(shares).sum(axis=1)
    odds: Floats = likely_by_class / likely_by_class.sum()
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
