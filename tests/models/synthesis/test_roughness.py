"""Irregular drawing: truth stays with the tissue, regions fit, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN
from models.synthesis.canvas import STRAIGHT
from models.synthesis.plan import MIXES, TissuePlan
from models.synthesis.render import Region, StainName, render_region
from models.synthesis.roughness import random_moderation, random_roughness
from models.synthesis.slides import synthesize_case
from models.synthesis.stain import StainStyle, moderated
from models.synthesis.tile_pairs import synthesize_tile_pair
from models.synthesis.world import build_world

PLAN = TissuePlan(tumor=0.6, outline=False, mix=MIXES["3+"])
PLAIN = StainStyle(
    vectors=np.array([HEMATOXYLIN, EOSIN, DAB], dtype=np.float32),
    strength=(1.0, 1.0, 1.0),
    white=(245, 245, 245),
    gamma=1.0,
    blur_px=0.0,
    noise=0.0,
)


def region(stain: StainName, rough: float, x_px: int = 0, width_px: int = 384) -> Region:
    world = build_world(5, 150.0, 150.0, replace(PLAN, rough=rough))
    return render_region(
        world, STRAIGHT, stain, PLAIN, x_px=x_px, y_px=0, width_px=width_px, height_px=384
    )


@pytest.mark.parametrize("stain", ["HE", "HER2"])
def test_rough_tissue_looks_different_and_has_almost_the_same_truth(stain: StainName) -> None:
    clean, rough = region(stain, 0.0), region(stain, 1.0)
    assert np.abs(clean.pixels.astype(int) - rough.pixels.astype(int)).mean() > 5
    assert (clean.classes == rough.classes).mean() > 0.6
    assert abs((clean.classes > 0).mean() - (rough.classes > 0).mean()) < 0.05


def test_both_stains_of_rough_tissue_tell_the_same_truth() -> None:
    assert np.array_equal(region("HE", 1.0).classes, region("HER2", 1.0).classes)


def test_brown_stays_within_the_stained_tumor() -> None:
    found = region("HER2", 1.0)
    darkness = 255 - found.pixels[..., 2].astype(float)
    assert darkness[found.classes == 4].mean() > 1.5 * darkness[found.classes == 0].mean()


@pytest.mark.parametrize("stain", ["HE", "HER2"])
def test_neighboring_regions_of_rough_tissue_fit(stain: StainName) -> None:
    whole, right = region(stain, 1.0), region(stain, 1.0, x_px=192, width_px=192)
    differs = np.abs(whole.pixels[:, 192:].astype(int) - right.pixels.astype(int)).max(axis=2)
    assert (differs > 3).mean() < 0.001
    assert (whole.classes[:, 192:] != right.classes).mean() < 0.001


def test_the_share_of_seeds_is_rough_and_a_share_of_zero_changes_nothing() -> None:
    drawn = [random_roughness(seed, 0.7) for seed in range(400)]
    assert 0.6 < np.mean([value > 0 for value in drawn]) < 0.8
    assert {random_roughness(seed, 0.0) for seed in range(50)} == {0.0}
    clean, same = synthesize_tile_pair(3), synthesize_tile_pair(3, rough_share=0.0)
    assert np.array_equal(clean.ihc, same.ihc)
    rough = synthesize_tile_pair(3, rough_share=1.0)
    assert not np.array_equal(clean.ihc, rough.ihc)
    assert not np.array_equal(clean.he, rough.he)


def test_moderate_tissue_brings_the_grades_nearer_and_changes_no_truth() -> None:
    brown = {}
    for moderate in (0.0, 1.0):
        for grade in (1, 3):
            mix = (0.0, float(grade == 1), 0.0, float(grade == 3))
            world = build_world(5, 150.0, 150.0, replace(PLAN, mix=mix, moderate=moderate))
            box = {"x_px": 0, "y_px": 0, "width_px": 384, "height_px": 384}
            drawn = render_region(world, STRAIGHT, "HER2", PLAIN, **box)
            blue = drawn.pixels[..., 2].astype(float)
            density = -np.log10(np.clip(blue, 1, 245) / 245)
            brown[moderate, grade] = (np.percentile(density, 97), drawn.classes)
    assert brown[0.0, 3][0] / brown[0.0, 1][0] > 1.5 * brown[1.0, 3][0] / brown[1.0, 1][0] > 1.5
    assert np.array_equal(brown[0.0, 3][1], brown[1.0, 3][1])


def test_only_rough_seeds_are_moderate_and_their_stains_are_weaker() -> None:
    assert {random_moderation(seed, 0.0) for seed in range(50)} == {0.0}
    assert 0.65 < np.mean([random_moderation(seed, 0.5) > 0 for seed in range(400)]) < 0.85
    assert moderated(PLAIN, 0.0, 1) == PLAIN
    weaker = [moderated(PLAIN, 1.0, seed).strength for seed in range(100)]
    assert all(0.15 <= blue <= 0.8 and 0.4 <= dab <= 1.1 for blue, _, dab in weaker)


def test_slides_are_rough_where_asked_and_say_so(tmp_path: Path) -> None:
    told = {}
    for rough in (False, True):
        case = synthesize_case(
            tmp_path / str(rough), seed=3, score="2+", width_px=2048, height_px=1536, rough=rough
        )
        told[rough] = json.loads(case.truth_path.read_text())
    assert told[False]["rough"] == 0.0 and 0.3 <= told[True]["rough"] <= 1.0
    assert told[False]["he_to_ihc"] == told[True]["he_to_ihc"]
    assert told[True]["tumor_area_mm2"] == pytest.approx(told[False]["tumor_area_mm2"], rel=0.1)
