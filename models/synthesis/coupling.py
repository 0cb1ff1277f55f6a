"""Coupling of H&E morphology to HER2: off in all data sets but those of the interim reader.

The generator draws the look of nuclei independently of HER2, so that nothing can be told from H&E.
Here a case's HER2 class moves a latent number, its aggressiveness, and that moves nuclear size,
pleomorphism, nucleoli, chromatin, necrosis, lymphocytes and gland formation. Noise between class
and latent number limits what even a perfect reader of the morphology can know (`coupling_ceiling`).
Published work on real H&E reaches areas under the ROC of 0.69 to 0.86.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.synthesis.plan import Look, TissuePlan

CLASSES = 4
DEFAULT_STRENGTH = 0.79
"""Correlation of class and aggressiveness; `coupling_ceiling.ceiling` is 0.83 with it."""
OWN_SHARE = 0.25
"""Share of a feature's variance that is the patient's own, without relation to aggressiveness."""
_NORMAL = NormalDist()
STEPS: NDArray[np.float64] = (np.arange(CLASSES) - 1.5) / np.sqrt(1.25)
"""Classes 0-3 as numbers with mean 0 and deviation 1."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Least and greatest value of a feature, and whether it grows with aggressiveness."""

    low: float
    high: float
    grows: bool = True


_LOOK = {
    "nucleus_um": _Range(3.2, 5.6),
    "pleomorphism": _Range(0.06, 0.28),
    "nucleoli": _Range(0.0, 1.0),
    "vesicle": _Range(0.0, 1.0),
    "chromatin": _Range(0.5, 1.05),
    "irregular": _Range(0.02, 0.12),
}
_PLAN = {
    "necrosis": _Range(0.0, 0.10),
    "lymph": _Range(0.02, 0.16),
    "lumen": _Range(0.0, 0.18, grows=False),
}
"""Ranges of `plan.random_look` and of usual plans."""


def draw_aggressiveness(grade: int, strength: float, rng: np.random.Generator) -> float:
    """Draw the latent number of a case: mean 0 and deviation 1 over all classes.

    `strength` is its correlation with the class `grade` (0-3); 0 is no coupling.

    Raises
    ------
    ValueError
        If `strength` is not within 0 and 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength}: from 0 to 1")
    return float(strength * STEPS[grade] + np.sqrt(1 - strength**2) * rng.normal())


def coupled_plan(plan: TissuePlan, aggressiveness: float, rng: np.random.Generator) -> TissuePlan:
    """Return the plan of a tumor of some aggressiveness; its look follows in `coupled_look`."""
    values: dict[str, Any] = {
        name: _placed(each, aggressiveness, rng) for name, each in _PLAN.items()
    }
    glands = aggressiveness + 0.5 * rng.normal() < -0.3
    return replace(
        plan, aggressiveness=aggressiveness, pattern="glands" if glands else "nests", **values
    )


def coupled_look(look: Look, aggressiveness: float, rng: np.random.Generator) -> Look:
    """Return a patient's look with the nuclei of a tumor of some aggressiveness."""
    values = {name: _placed(each, aggressiveness, rng) for name, each in _LOOK.items()}
    values["nucleus_um"] = min(values["nucleus_um"], 0.37 * look.spacing_um)
    return replace(look, **values)


def _placed(within: _Range, aggressiveness: float, rng: np.random.Generator) -> float:
    own = np.sqrt(OWN_SHARE) * rng.normal() + np.sqrt(1 - OWN_SHARE) * aggressiveness
    share = _NORMAL.cdf(float(own))
    share = share if within.grows else 1 - share
    return within.low + (within.high - within.low) * share
