"""Random pairs of tiles with truth, for training and evaluation of networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.spec import TILE_MPP, TILE_PX, TUMOR_SHARE
from models.synthesis.artefacts import random_artefacts
from models.synthesis.canvas import View
from models.synthesis.codec import jpeg_coded
from models.synthesis.plan import PATTERNS, TissuePlan
from models.synthesis.render import render_region
from models.synthesis.roughness import random_moderation, random_roughness
from models.synthesis.stain import moderated, random_ihc_style, random_style
from models.synthesis.world import World, build_world

_BORDER_UM = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePair:
    """The same tissue in both stains, registered to the pixel.

    `he`, `ihc` uint8 RGB (512, 512, 3) at 0.2793 µm/px. `class_map` uint8 (512, 512): 0
    background, 1-4 tumor cells scored 0, 1+, 2+, 3+; tumor is where it is above 0. `intensity` 0-3:
    the class of most tumor pixels, 0 without tumor. `white` and `he_white`: RGB of the glass of the
    IHC and of the H&E slide.
    """

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    class_map: NDArray[np.uint8]
    tumor: bool
    intensity: int
    white: tuple[int, int, int]
    he_white: tuple[int, int, int]


def synthesize_tile_pair(
    seed: int, *, stained_stroma: bool = False, rough_share: float = 0.0
) -> TilePair:
    """Generate a tile pair from a seed: about 60 % hold tumor, the four intensities equally often.

    `stained_stroma`: tumor of 0 or 1+ in DAB-stained stroma, which is easily read one class too
    high. `rough_share`: probability (0-1) that the tissue is drawn with irregular outlines and
    uneven stain (`models.synthesis.roughness`); most of such tiles are stained moderately too.
    """
    world, view, rng = tile_scene(seed, stained_stroma=stained_stroma, rough_share=rough_share)
    styles = random_style(rng), moderated(random_ihc_style(rng), world.look.moderate, seed)
    box = {"x_px": 0, "y_px": 0, "width_px": TILE_PX, "height_px": TILE_PX}
    he = render_region(world, view, "HE", styles[0], **box)
    ihc = render_region(world, view, "HER2", styles[1], **box)
    counts = np.bincount(he.classes.ravel(), minlength=5)[1:5]
    tumor = float(he.tumor.mean()) >= TUMOR_SHARE
    return TilePair(
        he=_scanned(he.pixels, styles[0].white, rng),
        ihc=_scanned(ihc.pixels, styles[1].white, rng),
        class_map=ihc.classes,
        tumor=tumor,
        intensity=int(counts.argmax()),
        white=styles[1].white,
        he_white=styles[0].white,
    )


def tile_scene(
    seed: int, *, stained_stroma: bool = False, rough_share: float = 0.0
) -> tuple[World, View, np.random.Generator]:
    """Return the tissue of a tile pair, the tile's view of it, and the generator for the rest."""
    rng = np.random.default_rng([seed, 0x711E])
    size_um = TILE_PX * TILE_MPP + 2 * _BORDER_UM
    world_seed, plan = int(rng.integers(2**31)), _plan(rng)
    if stained_stroma:
        plan = _in_stained_stroma(plan, np.random.default_rng([seed, 0x57A1]))
    rough = random_roughness(seed, rough_share)
    plan = replace(plan, rough=rough, moderate=random_moderation(seed, rough))
    world = build_world(world_seed, size_um, size_um, plan)
    mpp = TILE_MPP * float(rng.uniform(0.92, 1.09))
    turn = float(rng.uniform(0, 2 * np.pi))
    c, s = np.cos(turn), np.sin(turn)
    half = TILE_PX * mpp / 2
    center = size_um / 2
    view = View(
        matrix=(c, -s, s, c),
        shift_um=(center - (c - s) * half, center - (s + c) * half),
        mpp=mpp,
    )
    return world, view, rng


def _plan(rng: np.random.Generator) -> TissuePlan:
    """Draw a plan: most tiles hold tumor, the others hold what resembles it."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def sometimes(chance: float, low: float, high: float) -> float:
        return between(low, high) if rng.random() < chance else 0.0

    kind = rng.random()
    surroundings: dict[str, Any] = {
        "lymph": sometimes(0.4, 0.02, 0.35),
        "fat": sometimes(0.12, 0.1, 0.4),
        "necrosis": sometimes(0.12, 0.05, 0.4),
        "mucin": sometimes(0.06, 0.1, 0.5),
        "vessels_per_mm2": between(0, 40),
        "patchiness_um": between(150, 400),
        "nuclear_positive": between(0, 1),
    }
    if kind < 0.62:
        solid = kind < 0.34
        pattern = PATTERNS[int(rng.choice(4, p=(0.4, 0.2, 0.15, 0.25)))]
        return TissuePlan(
            tumor=between(0.7, 1.0) if solid else between(0.02, 0.7),
            pattern=pattern,
            nest_um=between(15, 60),
            zone_um=between(40, 300),
            lumen=between(0.05, 0.2) if pattern == "glands" else sometimes(0.3, 0.01, 0.05),
            benign=0.0 if solid else sometimes(0.2, 0.03, 0.2),
            mix=_random_mix(rng),
            outline=bool(rng.random() < 0.06),
            **surroundings,
        )
    surroundings["lymph"] = sometimes(0.4, 0.05, 1.0)
    surroundings["fat"] = sometimes(0.3, 0.1, 0.95)
    surroundings["necrosis"] = sometimes(0.15, 0.2, 1.0)
    surroundings["mucin"] = sometimes(0.12, 0.2, 0.9)
    return TissuePlan(  # nontumor tissue
        tumor=0.0,
        benign=sometimes(0.5, 0.1, 0.95),
        skin=sometimes(0.12, 0.2, 1.0),
        outline=bool(rng.random() < 0.2),
        **surroundings,
    )


def _in_stained_stroma(plan: TissuePlan, rng: np.random.Generator) -> TissuePlan:
    """Change a plan to stained stroma. It includes 1+ tumor: with 0 alone a network would learn
    that stained stroma means 0."""
    fewer = float(rng.beta(0.6, 3.0))
    mix = (1 - fewer, fewer, 0.0, 0.0) if rng.random() < 0.7 else (fewer, 1 - fewer, 0.0, 0.0)
    return replace(
        plan,
        tumor=max(plan.tumor, float(rng.uniform(0.3, 0.95))),
        benign=0.0,
        mix=mix,
        stroma_dab=float(rng.uniform(0.08, 0.3)),
    )


def _random_mix(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a mix: one class leads, adjacent classes follow; a tile lies within a clone or
    between."""
    leading = int(rng.integers(4))
    weights = np.exp(-1.6 * np.abs(np.arange(4) - leading)) * rng.gamma(1.0, 1.0, 4)
    weights[leading] = 0
    lead = float(1 - rng.beta(1.0, 1.6) * 0.6)
    mix = (1 - lead) * weights / weights.sum()
    mix[leading] = lead
    a, b, c, d = (float(v) for v in mix)
    return a, b, c, d


def _scanned(
    pixels: NDArray[np.uint8], white: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Apply a scanner's optics and codec: sometimes a coarser resolution, always JPEG."""
    pixels = random_artefacts(pixels, white, rng)
    if rng.random() < 0.35:
        factor = float(rng.uniform(1.2, 2.0))
        small = cv2.resize(pixels, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(small, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
    quality = int(rng.integers(60, 95))
    return jpeg_coded(pixels, quality)
