"""Coupling of H&E morphology to HER2: off in all data sets but those of the interim reader.

The generator draws the look of nuclei independently of HER2, so that nothing can be told from H&E.
Here a tumor is made of clones. Each has a HER2 score of its own, and a latent number, its
aggressiveness, which follows the score as far as `strength` says; size, pleomorphism, nucleoli,
chromatin and outline of the clone's nuclei follow the latent number. The class of the slide follows
the guideline's rule from the shares of the tumor cells, so that one clone can decide it.

Noise between score and latent number, and what is the patient's own, limit what even a perfect
reader of the morphology can know (`coupling_ceiling`). Published work on real H&E reaches areas
under the ROC of 0.69 to 0.86.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from models.synthesis.plan import Clone, Look

CLASSES = 4
DEFAULT_STRENGTH = 0.9
"""Correlation of score and aggressiveness; `coupling_ceiling.ceiling` is 0.90 with it."""
OWN_SHARE = 0.25
"""Share of a feature's variance that is the patient's own, without relation to aggressiveness."""
CLONES = (4, 5, 6)
"""Numbers of clones of a tumor, equally often."""
LEAST_SHARE = 0.14
"""Least share of the area of a clone. Of a clone of 3+, 72 % of the cells are 3+ (`plan.MIXES`),
and more than 10 % of all tumor cells must be."""
_ROUNDS = 30
_NORMAL = NormalDist()
STEPS: NDArray[np.float64] = (np.arange(CLASSES) - 1.5) / np.sqrt(1.25)
"""Scores 0-3 as numbers with mean 0 and deviation 1."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Least and greatest value of a feature."""

    low: float
    high: float


LOOK = {
    "nucleus_um": _Range(3.2, 5.6),
    "pleomorphism": _Range(0.06, 0.28),
    "nucleoli": _Range(0.0, 1.0),
    "vesicle": _Range(0.0, 1.0),
    "chromatin": _Range(0.5, 1.05),
    "irregular": _Range(0.02, 0.12),
}
"""Ranges of `plan.random_look`."""
FEATURES = len(LOOK)
"""Number of features of a look that follow aggressiveness."""


def draw_aggressiveness(level: int, strength: float, rng: np.random.Generator) -> float:
    """Draw the latent number of a clone: mean 0 and deviation 1 over all scores.

    `strength` is its correlation with the score `level` (0-3); 0 is no coupling.

    Raises
    ------
    ValueError
        If `strength` is not within 0 and 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength}: from 0 to 1")
    return float(strength * STEPS[level] + np.sqrt(1 - strength**2) * rng.normal())


def draw_levels(grade: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the scores of the clones of a slide of class `grade` (0-3).

    One clone has the score of the slide, and each other one any lower score, equally often. Each is
    larger than the guideline's 10 %, so that the highest score decides (ASCO/CAP 2018).
    """
    levels: NDArray[np.int64] = rng.integers(0, max(1, grade), count)
    levels[rng.integers(count)] = grade
    return levels


def draw_clones(
    grade: int, strength: float, edge_um: float, rng: np.random.Generator
) -> tuple[Clone, ...]:
    """Draw the clones of a square of `edge_um` of a slide of class `grade` (0-3)."""
    count = int(rng.choice(CLONES))
    centers = _centers(count, edge_um, rng)
    return tuple(
        Clone(
            center_um=(float(x), float(y)),
            level=int(level),
            aggressiveness=draw_aggressiveness(int(level), strength, rng),
        )
        for (x, y), level in zip(centers, draw_levels(grade, count, rng), strict=True)
    )


def _centers(count: int, edge_um: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw centers (count, 2) of which each is nearest to `LEAST_SHARE` of the square or more."""
    grid = np.stack(np.divmod(np.arange(24**2), 24), axis=1) / 23
    while True:
        centers = rng.random((count, 2))
        for _ in range(_ROUNDS):
            away = grid[:, None] - centers
            nearest = np.hypot(away[..., 0], away[..., 1]).argmin(axis=1)
            sizes = np.bincount(nearest, minlength=count)
            if sizes.min() >= LEAST_SHARE * len(grid):
                found: NDArray[np.float64] = centers * edge_um
                return found
            if sizes.min() == 0:
                break
            # A center that moves into the middle of its region makes small regions larger.
            centers = np.stack([grid[nearest == k].mean(axis=0) for k in range(count)])


def coupled_look(look: Look, aggressiveness: float, rng: np.random.Generator) -> Look:
    """Return a patient's look with the nuclei of a clone of some aggressiveness."""
    values = {name: _placed(each, aggressiveness, rng) for name, each in LOOK.items()}
    values["nucleus_um"] = min(values["nucleus_um"], 0.37 * look.spacing_um)
    return replace(look, **values)


def _placed(within: _Range, aggressiveness: float, rng: np.random.Generator) -> float:
    own = np.sqrt(OWN_SHARE) * rng.normal() + np.sqrt(1 - OWN_SHARE) * aggressiveness
    return within.low + (within.high - within.low) * _NORMAL.cdf(float(own))
