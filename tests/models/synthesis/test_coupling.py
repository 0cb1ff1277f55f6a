"""Coupling of H&E morphology to HER2: local nuclei follow local HER2, and the ceiling of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

from models.synthesis.cells import Kind, clone_of
from models.synthesis.coupled_cases import TILE_MPP, TILE_PX, draw_coupled_case, guideline_class
from models.synthesis.coupling import (
    DEFAULT_STRENGTH,
    FEATURES,
    LEAST_SHARE,
    LOOK,
    OWN_SHARE,
    STEPS,
    coupled_look,
    draw_aggressiveness,
    draw_clones,
    draw_levels,
)
from models.synthesis.coupling_ceiling import OWN, ceiling, ceiling_of, posterior
from models.synthesis.plan import Clone, TissuePlan, random_look
from models.synthesis.world import World, build_world

EDGE_UM = 200.0
PLAN = TissuePlan(tumor=0.9, lumen=0.0, necrosis=0.0, lymph=0.02, outline=False)


def tumor_of(world: World, clones: tuple[Clone, ...], number: int) -> tuple[float, float, float]:
    """Return mean nuclear radius (µm), mean grade and number of the tumor cells of a clone."""
    tumor = world.cells.take(world.cells.kind == Kind.TUMOR)
    mine = tumor.take(clone_of(tumor.xy_um, clones) == number)
    return float(mine.radius_um.mean()), float(mine.grade.mean()), len(mine)


def followed(strength: float) -> float:
    """Return the rank correlation of the grade and the nuclear size of clones, within slides."""
    size, grade = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clones = draw_clones(3, strength, EDGE_UM, rng)
        world = build_world(seed, EDGE_UM, EDGE_UM, replace(PLAN, clones=clones))
        found = np.array([tumor_of(world, clones, k)[:2] for k in range(len(clones))])
        found -= found.mean(axis=0)
        size += found[:, 0].tolist()
        grade += found[:, 1].tolist()
    return float(spearmanr(size, grade).statistic)


def test_the_ceiling_is_that_of_the_strength() -> None:
    assert 0.88 <= ceiling(DEFAULT_STRENGTH, cases=1000) <= 0.92
    assert ceiling(0.0, cases=400) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("strength", [0.0, 0.9, 0.999, 1.0])
def test_the_perfect_reader_answers_at_any_strength(strength: float) -> None:
    for seen in ([0.1, -3.0, 2.9], [30.0, -30.0], [1.34]):
        odds = posterior(np.array(seen), strength)
        assert np.isfinite(odds).all() and odds.sum() == pytest.approx(1)


def test_what_is_the_patients_own_lowers_the_ceiling() -> None:
    """The drawn looks show aggressiveness as far as the ceiling says, and no further."""
    rng = np.random.default_rng(0)
    latent, seen = rng.normal(size=200), []
    for patient, own in enumerate(latent):
        look = coupled_look(random_look(rng), float(own), np.random.default_rng(patient))
        found = [
            norm.ppf((getattr(look, name) - each.low) / (each.high - each.low))
            for name, each in LOOK.items()
            if name != "nucleus_um"  # has a limit by the cells' distance
        ]
        seen.append(np.mean(found) / np.sqrt(1 - OWN_SHARE))
    assert np.std(seen - latent) == pytest.approx(
        OWN * np.sqrt(FEATURES / (FEATURES - 1)), rel=0.15
    )
    grades = np.arange(200) % 4
    cases = [
        np.array([draw_aggressiveness(int(level), 0.9, rng) for level in draw_levels(g, 5, rng)])
        for g in grades.tolist()
    ]
    blind = np.stack([posterior(each, 0.9, np.zeros(1)) for each in cases])
    without = roc_auc_score(grades, blind, multi_class="ovr", average="weighted")
    assert ceiling_of(cases, grades, 0.9) < without - 0.01


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_strength_is_the_correlation_of_score_and_morphology(strength: float) -> None:
    rng = np.random.default_rng(0)
    levels = np.arange(8000) % 4
    latent = [draw_aggressiveness(int(level), strength, rng) for level in levels]
    assert np.corrcoef(levels, latent)[0, 1] == pytest.approx(strength, abs=0.03)
    assert np.std(latent) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("strength", [0.0, 0.6, 0.9])
def test_the_perfect_reader_weighs_all_scores_that_clones_can_have(strength: float) -> None:
    latent = np.array([0.4, -1.2, 1.1])
    spread = np.sqrt(1 - strength**2)
    weight, ways = np.zeros(4), np.zeros(4)
    for levels in product(range(4), repeat=len(latent)):
        first, second = sorted(levels, reverse=True)[:2]
        if first == second > 0:
            continue  # one clone alone has the score of the slide
        weight[first] += norm.pdf(latent, strength * STEPS[list(levels)], spread).prod()
        ways[first] += 1
    wanted = weight / ways
    np.testing.assert_allclose(
        posterior(latent, strength, np.zeros(1)), wanted / wanted.sum(), rtol=1e-9
    )


def test_nuclei_of_a_clone_follow_its_own_her2() -> None:
    assert followed(0.95) > 0.6


def test_with_strength_0_nuclei_of_a_clone_say_nothing_of_its_her2() -> None:
    # Two standard errors of a rank correlation of some 120 clones are 0.18.
    assert abs(followed(0.0)) < 0.2


def test_clones_differ_in_nuclei_within_one_slide() -> None:
    clones = (
        Clone(center_um=(0.0, 100.0), level=0, aggressiveness=-1.5),
        Clone(center_um=(200.0, 100.0), level=3, aggressiveness=1.5),
    )
    world = build_world(4, EDGE_UM, EDGE_UM, replace(PLAN, clones=clones))
    (small, none, _), (large, strong, _) = (tumor_of(world, clones, k) for k in (0, 1))
    assert large > 1.2 * small
    assert none < 0.1 and strong > 2
    # Clones touch nothing but the tumor's cells.
    plain = build_world(4, EDGE_UM, EDGE_UM, PLAN)
    np.testing.assert_array_equal(world.fields["tumor"], plain.fields["tumor"])
    np.testing.assert_array_equal(world.cells.kind, plain.cells.kind)


@pytest.mark.parametrize("grade", range(4))
def test_the_highest_clone_decides_and_each_is_large_enough_for_it(grade: int) -> None:
    rng = np.random.default_rng(grade)
    grid = np.stack(np.divmod(np.arange(100**2), 100), axis=1) * (EDGE_UM / 99)
    for _ in range(20):
        clones = draw_clones(grade, 0.5, EDGE_UM, rng)
        assert max(clone.level for clone in clones) == grade
        shares = np.bincount(clone_of(grid, clones), minlength=len(clones)) / len(grid)
        assert shares.min() > LEAST_SHARE - 0.02


def test_scores_below_that_of_the_slide_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_levels(2, 2, rng) for _ in range(3000)])
    pairs = ([2, 0], [2, 1], [0, 2], [1, 2])
    counts = [(drawn == pair).all(axis=1).mean() for pair in pairs]
    np.testing.assert_allclose(counts, 1 / 4, atol=0.04)


@pytest.mark.parametrize(
    ("counts", "score"),
    [
        ((95, 5, 0, 0), 0),
        ((89, 11, 0, 0), 1),
        ((80, 9, 11, 0), 2),
        ((90, 0, 0, 10), 2),
        ((89, 0, 0, 11), 3),
    ],
)
def test_the_class_of_a_slide_is_the_guidelines(counts: tuple[int, ...], score: int) -> None:
    assert guideline_class(np.repeat(np.arange(4, dtype=np.uint8), counts)) == score


def test_ihc_is_browner_where_the_clone_is_of_a_higher_score() -> None:
    brown, level = [], []
    for seed in (7, 11):
        case = draw_coupled_case(seed, 3, strength=DEFAULT_STRENGTH, across=2)
        assert case.he.shape == case.ihc.shape == (4, TILE_PX, TILE_PX, 3)
        assert case.places.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
        centers = (case.places + 0.5) * TILE_PX * TILE_MPP
        levels = [case.clones[k].level for k in clone_of(centers, case.clones)]
        tiles = case.ihc.astype(float).mean(axis=(1, 2))
        brown += (tiles[:, 0] - tiles[:, 2]).tolist()
        level += levels
        pink = case.he.astype(float).mean(axis=(0, 1, 2))
        assert pink[0] - pink[2] < max(brown)
    assert len(set(level)) > 1
    assert spearmanr(brown, level).statistic > 0.6


def test_a_strength_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="strength"):
        draw_aggressiveness(0, 1.5, np.random.default_rng(0))
