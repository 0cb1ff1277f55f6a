"""Measures of tiles, on drawn tissue whose nuclei are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.nucleus_measures import COLUMNS, MEASURES
from benchmarks.tile_measures import NUCLEI, measured
from models.synthesis.canvas import View
from models.synthesis.cells import Kind
from models.synthesis.plan import Clone, TissuePlan
from models.synthesis.render import render_region
from models.synthesis.stain import random_ihc_style, random_style
from models.synthesis.world import World, build_world

TILE_PX, MPP = 256, 0.5
STAIN, SINGLE = slice(NUCLEI, NUCLEI + 9), slice(NUCLEI + 9, None)
STRAIGHT = View(matrix=(1.0, 0.0, 0.0, 1.0), shift_um=(0.0, 0.0), mpp=MPP)


def solid(seed: int, aggressiveness: float, level: int = 0) -> World:
    """Return a block of solid tumor of one clone, as large as a tile."""
    clone = Clone(center_um=(64.0, 64.0), level=level, aggressiveness=aggressiveness)
    plan = TissuePlan(
        tumor=0.95, lumen=0, lymph=0, fat=0, necrosis=0, benign=0, clones=(clone,), outline=False
    )
    return build_world(seed, 128.0, 128.0, plan)


def drawn(world: World, stain: str) -> np.ndarray:
    rng = np.random.default_rng(world.seed)
    style = random_style(rng, spread=0.3) if stain == "HE" else random_ihc_style(rng, spread=0.3)
    size = {"x_px": 0, "y_px": 0, "width_px": TILE_PX, "height_px": TILE_PX}
    return render_region(world, STRAIGHT, stain, style, **size).pixels  # type: ignore[arg-type]


def test_the_radius_follows_that_of_the_drawn_nuclei() -> None:
    worlds = [solid(seed, latent) for seed, latent in enumerate(np.linspace(-2, 2, 16))]
    tumor = [world.cells.take(world.cells.kind == Kind.TUMOR) for world in worlds]
    truth = [float(np.median(cells.radius_um.min(axis=1))) for cells in tumor]
    found = measured(np.stack([drawn(world, "HE") for world in worlds]))[:, 2]
    assert spearmanr(truth, found).statistic > 0.7
    assert np.median(found / truth) == pytest.approx(1, abs=0.1)


def test_brown_membranes_are_denser_in_blue() -> None:
    scores = [0, 1, 2, 3] * 2
    worlds = [solid(seed, 0.0, level) for seed, level in enumerate(scores)]
    found = measured(np.stack([drawn(world, "HER2") for world in worlds]))[:, STAIN]
    blue_less_red = found[:, 2] - found[:, 0]
    assert spearmanr(scores, blue_less_red).statistic > 0.8


def test_glass_has_no_nuclei_and_all_measures_are_numbers() -> None:
    found = measured(np.full((1, TILE_PX, TILE_PX, 3), 245, dtype=np.uint8))
    assert found.shape == (1, NUCLEI + 9 + COLUMNS)
    assert not found[0, :NUCLEI].any() and np.isfinite(found).all()


def test_single_nuclei_are_split_and_measured() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.indices((TILE_PX, TILE_PX))
    tiles, radii = [], (6, 8, 10)
    for radius in radii:
        density = rng.normal(0.05, 0.005, (TILE_PX, TILE_PX))
        for y in range(24, TILE_PX - 16, 40):
            for x in range(24, TILE_PX - 16, 40):
                # Two that touch, and lie beside each other: one blot in the mask.
                for shift in (-radius * 0.9, radius * 0.9):
                    density[np.hypot(rows - y, columns - x - shift) < radius] = 0.6
        pixels = 255 * np.exp(-density[..., None] * np.array([0.65, 0.7, 0.29]) * 1.5)
        tiles.append(np.clip(pixels, 0, 255).astype(np.uint8))
    found = measured(np.stack(tiles))[:, SINGLE]
    assert np.expm1(found[:, 0]) == pytest.approx([72, 72, 72], abs=4)
    assert found[:, 4] == pytest.approx([radius * MPP for radius in radii], abs=0.5)


def test_a_tile_without_nuclei_has_the_mean_of_its_slide() -> None:
    glass = np.full((TILE_PX, TILE_PX, 3), 245, dtype=np.uint8)
    tissue = drawn(solid(3, 0.0), "HE")
    found = measured(np.stack([tissue, glass, tissue]))[:, SINGLE]
    assert found[1, 0] == 0 < found[0, 0]
    assert (found[1, 4 : 4 + MEASURES] == found[0, 4 : 4 + MEASURES]).all()
