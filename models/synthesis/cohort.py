"""Cohorts of cases by score, organ and scanner."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from models.errors import SynthesisError
from models.synthesis.plan import MIXES, TissuePlan
from models.synthesis.stain import StainStyle

ORGANS: dict[str, TissuePlan] = {
    "breast": TissuePlan(fat=0.12, benign=0.06),
    "gastric": TissuePlan(pattern="glands", lumen=0.10, mucin=0.06, lymph=0.10, fat=0.02),
    "colorectal": TissuePlan(
        pattern="glands", lumen=0.15, mucin=0.08, necrosis=0.06, benign=0.10, fat=0.04
    ),
    "endometrial": TissuePlan(pattern="glands", lumen=0.10, necrosis=0.04, benign=0.08, fat=0.0),
}
"""Tissue of the carcinomas of each organ, as far as a tile shows differences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """Differences of a scanner's images from those of others, see `StainStyle`."""

    white: tuple[int, int, int]
    gamma: float
    blur_px: float
    sharpen: float
    noise: float


SCANNERS: dict[str, Scanner] = {
    "neutral": Scanner(white=(243, 243, 243), gamma=1.0, blur_px=0.6, sharpen=0.0, noise=1.0),
    "warm": Scanner(white=(245, 241, 232), gamma=1.05, blur_px=0.5, sharpen=0.3, noise=1.5),
    "cool": Scanner(white=(233, 238, 244), gamma=0.95, blur_px=0.9, sharpen=0.0, noise=0.8),
    "crisp": Scanner(white=(248, 248, 248), gamma=1.1, blur_px=0.4, sharpen=0.7, noise=2.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMix:
    """Weights of scores, organs and scanners of a cohort."""

    scores: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MIXES, 1.0))
    organs: dict[str, float] = field(default_factory=lambda: {"breast": 1.0})
    scanners: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SCANNERS, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDraw:
    """Arguments of `synthesize_case` for one case of a cohort."""

    seed: int
    score: str
    organ: str
    scanner: str


def draw_cohort(seed: int, count: int, mix: CaseMix | None = None) -> list[CaseDraw]:
    """Draw `count` cases: shares as even as whole numbers allow, in random order.

    Equal seeds give equal cohorts.

    Raises
    ------
    SynthesisError
        If the mix names an organ, score or scanner that does not exist.
    """
    mix = mix or CaseMix()
    rng = np.random.default_rng([seed, 0xC0407])
    columns = []
    for weights, known in (
        (mix.scores, MIXES),
        (mix.organs, ORGANS),
        (mix.scanners, SCANNERS),
    ):
        if unknown := set(weights) - set(known):
            raise SynthesisError(f"{', '.join(sorted(unknown))}: use {', '.join(known)}")
        columns.append(share_out(weights, count, rng))
    return [
        CaseDraw(seed=seed * 100_000 + k, score=score, organ=organ, scanner=scanner)
        for k, (score, organ, scanner) in enumerate(zip(*columns, strict=True))
    ]


def share_out(weights: dict[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` names in random order, their shares as even to `weights` as they can be."""
    names = list(weights)
    share = np.array([weights[name] for name in names], dtype=float)
    edges = np.round(np.cumsum(share / share.sum()) * count).astype(int)
    drawn = np.repeat(np.arange(len(names)), np.diff(edges, prepend=0))
    return [names[k] for k in rng.permutation(drawn)]


def as_scanned(style: StainStyle, scanner: str) -> StainStyle:
    """Return the style as that scanner renders it."""
    s = SCANNERS[scanner]
    return replace(
        style, white=s.white, gamma=s.gamma, blur_px=s.blur_px, sharpen=s.sharpen, noise=s.noise
    )
