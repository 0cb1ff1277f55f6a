"""Tiles of both stains of cases whose local H&E morphology follows their local HER2 (synthetic)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.synthesis.canvas import View
from models.synthesis.cells import Kind
from models.synthesis.codec import jpeg_coded
from models.synthesis.coupling import draw_clones
from models.synthesis.plan import Clone, TissuePlan
from models.synthesis.render import StainName, render_region
from models.synthesis.stain import StainStyle, random_ihc_style, random_style
from models.synthesis.world import World, build_world

TILE_PX = 256
TILE_MPP = 0.5
"""Tiles of the interim reader: 256 px at 20x."""
_SPREAD = 0.5
"""Spread of staining between cases, see `stain.random_style`."""
_DECIDING = 0.1
"""A score decides where more than this share of the tumor cells has it (ASCO/CAP 2018)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledCase:
    """Tiles of one block: `he`, `ihc` uint8 RGB (N, 256, 256, 3) at 0.5 µm/px, `places` int (N, 2),
    column and row, the same for both; `grade` 0-3 is the class; `clones` as they were drawn."""

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    places: NDArray[np.int64]
    grade: int
    clones: tuple[Clone, ...]


def draw_coupled_case(seed: int, grade: int, *, strength: float, across: int = 4) -> CoupledCase:
    """Draw a case of a class with `across` x `across` tiles per stain.

    Both stains show the same cells. `strength` is that of `coupling.draw_aggressiveness`; with 0
    the morphology says nothing about HER2, neither of the slide nor of a clone.
    """
    rng = np.random.default_rng([seed, 0xC0B1])
    edge_um = across * TILE_PX * TILE_MPP
    clones = draw_clones(grade, strength, edge_um, rng)
    world = _world(grade, clones, edge_um, rng)
    row, column = np.divmod(np.arange(across**2), across)
    styles = random_style(rng, spread=_SPREAD), random_ihc_style(rng, spread=_SPREAD)
    quality = int(rng.integers(70, 95))
    return CoupledCase(
        he=_tiles(world, "HE", styles[0], across, quality),
        ihc=_tiles(world, "HER2", styles[1], across, quality),
        places=np.stack([column, row], axis=1).astype(np.int64),
        grade=grade,
        clones=clones,
    )


def guideline_class(grades: NDArray[np.uint8]) -> int:
    """Return the score (0-3) of a slide whose tumor cells have these scores (ASCO/CAP 2018)."""
    share = np.bincount(grades, minlength=4) / max(1, len(grades))
    if share[3] > _DECIDING:
        return 3
    if share[2] > _DECIDING or share[3] > 0:
        return 2
    return int(share[1] > _DECIDING)


def _world(
    grade: int, clones: tuple[Clone, ...], edge_um: float, rng: np.random.Generator
) -> World:
    """Build tissue around the clones until the share of their tumor cells gives the class."""
    while True:
        plan = TissuePlan(
            tumor=float(rng.uniform(0.6, 0.9)),
            nest_um=float(rng.uniform(25, 60)),
            zone_um=float(rng.uniform(80, 300)),
            lumen=float(rng.uniform(0.0, 0.18)),
            lymph=float(rng.uniform(0.02, 0.16)),
            necrosis=float(rng.uniform(0.0, 0.10)),
            clones=clones,
            outline=False,
        )
        world = build_world(int(rng.integers(2**31)), edge_um, edge_um, plan)
        cells = world.cells
        if guideline_class(cells.grade[cells.kind == Kind.TUMOR]) == grade:
            return world


def _tiles(
    world: World, stain: StainName, style: StainStyle, across: int, quality: int
) -> NDArray[np.uint8]:
    """Render the square in one piece, and cut it into tiles (N, 256, 256, 3), row by row."""
    view = View(matrix=(1.0, 0.0, 0.0, 1.0), shift_um=(0.0, 0.0), mpp=TILE_MPP)
    size = across * TILE_PX
    drawn = render_region(
        world, view, stain, style, x_px=0, y_px=0, width_px=size, height_px=size
    ).pixels
    rows = [drawn[k * TILE_PX : (k + 1) * TILE_PX] for k in range(across)]
    parts = [row[:, k * TILE_PX : (k + 1) * TILE_PX] for row in rows for k in range(across)]
    return np.stack([jpeg_coded(np.ascontiguousarray(part), quality) for part in parts])
