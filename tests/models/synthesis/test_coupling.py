"""Coupling of H&E morphology to HER2: its ceiling, its noise, and that it is off by default."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.synthesis.cells import Kind
from models.synthesis.coupled_cases import TILE_PX, draw_coupled_case
from models.synthesis.coupling import (
    DEFAULT_STRENGTH,
    coupled_plan,
    draw_aggressiveness,
)
from models.synthesis.coupling_ceiling import ceiling, posterior
from models.synthesis.plan import TissuePlan
from models.synthesis.world import build_world


def test_a_perfect_reader_reaches_what_published_work_reaches() -> None:
    assert 0.80 <= ceiling(DEFAULT_STRENGTH) <= 0.86
    assert ceiling(0.0) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_strength_is_the_correlation_of_class_and_morphology(strength: float) -> None:
    rng = np.random.default_rng(0)
    grades = np.arange(8000) % 4
    latent = [draw_aggressiveness(int(g), strength, rng) for g in grades]
    assert np.corrcoef(grades, latent)[0, 1] == pytest.approx(strength, abs=0.03)
    assert np.std(latent) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(posterior(np.array(latent), strength).sum(axis=1), 1)


def test_nuclei_of_aggressive_tumors_are_larger_and_more_uneven() -> None:
    latent = np.linspace(-1.5, 1.5, 12)
    size, spread = [], []
    for number, value in enumerate(latent):
        plan = coupled_plan(TissuePlan(outline=False), value, np.random.default_rng(number))
        world = build_world(number, 150.0, 150.0, plan)
        tumor = world.cells.take(world.cells.kind == Kind.TUMOR)
        radius = tumor.radius_um.mean(axis=1)
        size.append(float(radius.mean()))
        spread.append(float(radius.std() / radius.mean()))
    assert spearmanr(latent, size).statistic > 0.5
    assert spearmanr(latent, spread).statistic > 0.4


def test_without_coupling_no_cell_differs() -> None:
    one = build_world(5, 150.0, 150.0, TissuePlan(outline=False))
    other = build_world(5, 150.0, 150.0, TissuePlan(outline=False, aggressiveness=2.0))
    assert one.look.nucleus_um < other.look.nucleus_um
    assert one.look.spacing_um == other.look.spacing_um
    np.testing.assert_array_equal(one.fields["tumor"], other.fields["tumor"])


def test_both_stains_of_a_case_show_the_same_places() -> None:
    case = draw_coupled_case(7, 3, strength=DEFAULT_STRENGTH, across=2)
    assert case.he.shape == case.ihc.shape == (4, TILE_PX, TILE_PX, 3)
    assert case.places.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    # A 3+ case is brown on IHC (red above blue), and H&E is not.
    brown = [float(t[..., 0].mean()) - float(t[..., 2].mean()) for t in (case.ihc, case.he)]
    assert brown[0] > brown[1]


def test_a_strength_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="strength"):
        draw_aggressiveness(0, 1.5, np.random.default_rng(0))
