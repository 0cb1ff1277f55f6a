"""The plain reader: drawn cases of each score, and what is no brown at all."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.assays.her2.guideline import load_guideline
from appliance.findings.classes import percent_of_tumor
from appliance.readers.plain import count_cells
from models.datasets.glass import calibrated
from models.spec import TILE_MPP, TILE_PX
from models.synthesis.canvas import STRAIGHT
from models.synthesis.plan import MIXES, TissuePlan
from models.synthesis.render import StainName, render_region
from models.synthesis.stain import random_ihc_style, random_style
from models.synthesis.world import build_world


def drawn(score: str, seed: int, stain: StainName) -> NDArray[np.uint8]:
    """Draw a tile that is mostly tumor of the score, as a network sees it: glass at 255."""
    plan = TissuePlan(tumor=0.9, outline=False, mix=MIXES[score], lumen=0.0, necrosis=0.0)
    edge_um = TILE_PX * TILE_MPP
    world = build_world(seed, edge_um, edge_um, plan)
    rng = np.random.default_rng(seed)
    style = random_style(rng, spread=0.3) if stain == "HE" else random_ihc_style(rng, spread=0.3)
    box = {"x_px": 0, "y_px": 0, "width_px": TILE_PX, "height_px": TILE_PX}
    return calibrated(render_region(world, STRAIGHT, stain, style, **box).pixels, style.white)


def counted(score: str, stain: StainName = "HER2") -> NDArray[np.int64]:
    """Sum the cells of three tiles."""
    tiles = [drawn(score, seed, stain) for seed in (11, 12, 13)]
    return np.sum([count_cells(tile) for tile in tiles], axis=0)


@pytest.mark.parametrize("score", MIXES)
def test_a_drawn_case_gets_its_score(score: str) -> None:
    counts = counted(score)
    assert counts.sum() > 100
    percent = percent_of_tumor(np.array([0, *counts]))
    assert load_guideline("breast-asco-cap-2018").score(percent).value == score


def test_glass_has_no_cells() -> None:
    assert count_cells(np.full((TILE_PX, TILE_PX, 3), 255, dtype=np.uint8)).tolist() == [0] * 4
