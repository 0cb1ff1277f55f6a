"""Tiles of both stains of cases whose H&E morphology follows their HER2 class (synthetic)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.synthesis.canvas import View
from models.synthesis.codec import jpeg_coded
from models.synthesis.coupling import coupled_plan, draw_aggressiveness
from models.synthesis.plan import MIXES, TissuePlan
from models.synthesis.render import StainName, render_region
from models.synthesis.stain import StainStyle, random_ihc_style, random_style
from models.synthesis.world import World, build_world

TILE_PX = 256
TILE_MPP = 0.5
"""Tiles of the interim reader: 256 px at 20x."""
_SPREAD = 0.5
"""Spread of staining between cases, see `stain.random_style`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledCase:
    """Tiles of one block: `he`, `ihc` uint8 RGB (N, 256, 256, 3) at 0.5 µm/px, `places` int (N, 2),
    column and row, the same for both; `grade` 0-3; `aggressiveness` as it was drawn."""

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    places: NDArray[np.int64]
    grade: int
    aggressiveness: float


def draw_coupled_case(seed: int, grade: int, *, strength: float, across: int = 5) -> CoupledCase:
    """Draw a case of a class with `across` x `across` tiles per stain.

    `strength` is that of `coupling.draw_aggressiveness`; with 0 the morphology says nothing about
    the class.
    """
    rng = np.random.default_rng([seed, 0xC0B1])
    latent = draw_aggressiveness(grade, strength, rng)
    plan = TissuePlan(
        tumor=float(rng.uniform(0.5, 0.9)),
        nest_um=float(rng.uniform(25, 60)),
        zone_um=float(rng.uniform(80, 300)),
        mix=MIXES[list(MIXES)[grade]],
        outline=False,
    )
    edge_um = across * TILE_PX * TILE_MPP
    plan = coupled_plan(plan, latent, rng)
    world = build_world(int(rng.integers(2**31)), edge_um, edge_um, plan)
    row, column = np.divmod(np.arange(across**2), across)
    places = np.stack([column, row], axis=1).astype(np.int64)
    styles = random_style(rng, spread=_SPREAD), random_ihc_style(rng, spread=_SPREAD)
    quality = int(rng.integers(70, 95))
    return CoupledCase(
        he=_tiles(world, "HE", styles[0], places, quality),
        ihc=_tiles(world, "HER2", styles[1], places, quality),
        places=places,
        grade=grade,
        aggressiveness=latent,
    )


def _tiles(
    world: World, stain: StainName, style: StainStyle, places: NDArray[np.int64], quality: int
) -> NDArray[np.uint8]:
    view = View(matrix=(1.0, 0.0, 0.0, 1.0), shift_um=(0.0, 0.0), mpp=TILE_MPP)
    size = {"width_px": TILE_PX, "height_px": TILE_PX}
    drawn = [
        render_region(world, view, stain, style, x_px=int(x), y_px=int(y), **size).pixels
        for x, y in places * TILE_PX
    ]
    return np.stack([jpeg_coded(tile, quality) for tile in drawn])
