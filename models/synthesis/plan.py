"""Composition of a block of tissue, and appearance of one patient's tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Pattern = Literal["nests", "cords", "scattered", "glands"]
PATTERNS: tuple[Pattern, ...] = ("nests", "cords", "scattered", "glands")

MIXES: dict[str, tuple[float, float, float, float]] = {
    "0": (0.98, 0.02, 0.0, 0.0),
    "1+": (0.24, 0.75, 0.01, 0.0),
    "2+": (0.10, 0.22, 0.675, 0.005),
    "3+": (0.04, 0.08, 0.16, 0.72),
}
"""Share of tumor cells scored 0, 1+, 2+, 3+ in a case of each score. ASCO/CAP 2018 requires > 10 %
of the deciding class: each mix keeps clear of every limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """Region of a tumor with a HER2 score and nuclei of its own: what lies nearest to its center.

    `center_um` (x, y) in world µm; `level` 0-3; `aggressiveness` is the latent number that its
    nuclei follow (`models.synthesis.coupling`).
    """

    center_um: tuple[float, float]
    level: int
    aggressiveness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TissuePlan:
    """Composition of a world; shares are of the tissue's area (0-1)."""

    tumor: float = 0.45
    pattern: Pattern = "nests"
    nest_um: float = 45.0
    zone_um: float = 350.0
    lumen: float = 0.05
    """Share of the tumor's area."""
    benign: float = 0.06
    lymph: float = 0.06
    fat: float = 0.06
    necrosis: float = 0.02
    mucin: float = 0.0
    skin: float = 0.0
    """Keratinized epithelium along one side."""
    vessels_per_mm2: float = 8.0
    mix: tuple[float, float, float, float] = MIXES["0"]
    patchiness_um: float = 300.0
    """Distance over which HER2 grades vary."""
    nuclear_positive: float = 0.7
    """Share of tumor cells with ER or PR in the nucleus."""
    outline: bool = True
    stroma_dab: float | None = None
    """DAB of stained stroma; None: the patient's own."""
    rough: float = 0.0
    """Irregularity of outlines and stain, 0 (clean) to 1 (as in real sections)."""
    moderate: float = 0.0
    """Nearness of the HER2 grades in DAB, 0 (3+ is intense) to 1 (3+ has some three times the DAB
    of 1+, as on moderately stained real sections)."""
    clones: tuple[Clone, ...] = ()
    """Regions with HER2 and nuclei of their own, in place of `mix`; empty: nuclei know no HER2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Appearance of one patient's tissue. Lengths in µm; stain amounts as concentrations (optical
    density along the stain's vector)."""

    spacing_um: float
    nucleus_um: float
    pleomorphism: float
    chromatin: float
    vesicle: float
    nucleoli: float
    irregular: float
    elongation: float
    nuclear_eosin: float
    cyto_eosin: float
    cyto_basophil: float
    discohesion: float
    cleft: float
    stroma_eosin: float
    looseness: float
    counterstain: float
    blush: float
    haze: float
    stroma_dab: float
    edge_dab: float
    granular: float
    rough: float = 0.0
    moderate: float = 0.0


def random_look(rng: np.random.Generator) -> Look:
    """Draw one patient. Ranges are wide, so that networks do not learn one generator's habits."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    spacing = between(9.5, 15.5)
    return Look(
        spacing_um=spacing,
        nucleus_um=min(between(3.2, 5.6), 0.37 * spacing),
        pleomorphism=between(0.06, 0.28),
        chromatin=between(0.5, 1.05),
        vesicle=between(0.0, 1.0),
        nucleoli=between(0.0, 1.0),
        irregular=between(0.02, 0.12),
        elongation=between(1.1, 2.0),
        nuclear_eosin=between(0.0, 0.6),
        cyto_eosin=between(0.10, 0.48),
        cyto_basophil=between(0.02, 0.24),
        discohesion=max(0.0, between(-0.8, 1.0)),
        cleft=max(0.0, between(-1.0, 1.0)),
        stroma_eosin=between(0.22, 0.62),
        looseness=between(0.0, 1.0),
        counterstain=between(0.02, 0.08),
        blush=between(0.03, 0.22),
        haze=between(0.0, 0.05),
        stroma_dab=max(0.0, between(-0.25, 0.22)),
        edge_dab=max(0.0, between(-0.3, 0.3)),
        granular=between(0.1, 0.7),
    )
