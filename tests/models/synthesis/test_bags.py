"""Bags of drawn slides: composed as the draw says, from tiles that show what their truth says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import SynthesisError
from models.mil.bag import load_bag
from models.slide_level.cohort import CohortSlide, read_cohort, write_cohort
from models.slide_level.tasks import SlideLabel
from models.synthesis import bag_files
from models.synthesis.bag_files import drawn_bags
from models.synthesis.bags import (
    POSITIVE,
    PoolPlan,
    TilePool,
    compose_bag,
    make_pool,
    tumor_tiles,
)
from models.synthesis.slide_cohort import SlideDraw, draw_slides
from models.synthesis.tile_pool import NUCLEAR_PERCENT, draw_tissue


def brown(tiles: np.ndarray) -> np.ndarray:
    """Return the mean red and blue of each tile in place of an encoder's vector."""
    means: np.ndarray = tiles[..., [0, 2]].mean(axis=(1, 2)).astype(np.float32)
    return means


PLAN = PoolPlan(seed=3, looks=2, rows=1, columns=1, stainings=(("neutral", 1), ("warm", 1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def pool(folder: Path) -> TilePool:
    """Return a pool of one tile of each kind in each of two looks."""
    return make_pool(folder, PLAN, brown, "abc", lambda *_: None)


@pytest.fixture(scope="module")
def draw() -> SlideDraw:
    """Return a draw with all grades, on a scanner and a run that the pool has."""
    first = draw_slides(5, 10)[0]
    return replace(
        first, mix=(0.4, 0.3, 0.2, 0.1), tumor=0.5, scanner="neutral", run=1, patch_um=400.0
    )


def test_tiles_show_what_their_truth_says(pool: TilePool) -> None:
    assert pool.kinds.tolist() == [0, 1, 2, 3, 4] * 2
    np.testing.assert_allclose(pool.truth.sum(axis=1), 1, atol=1e-5)
    red, blue = pool.vectors["neutral", 1].astype(float).T
    strong, none = pool.kinds == POSITIVE, pool.kinds == 1
    assert (red - blue)[strong].min() > (red - blue)[none].max() + 10
    assert not np.array_equal(pool.vectors["neutral", 1], pool.vectors["warm", 1])


def test_equal_seeds_draw_equal_tissue(pool: TilePool) -> None:
    again = draw_tissue(3, 1, 2, 1, 1)
    assert np.array_equal(again.truth[0], pool.truth[7])


def test_a_bag_has_the_composition_of_its_draw(pool: TilePool, draw: SlideDraw) -> None:
    bag = compose_bag(draw, pool, tiles=1000)
    assert len(bag) == 1000
    assert tumor_tiles(bag).sum() == 500
    assert [int(tumor_tiles(bag, [k]).sum()) for k in range(1, 5)] == [200, 150, 100, 50]
    again = compose_bag(draw, pool, tiles=1000)
    assert np.array_equal(bag.vectors, again.vectors) and np.array_equal(bag.places, again.places)


def test_clones_of_a_grade_lie_together(pool: TilePool, draw: SlideDraw) -> None:
    def neighbors_alike(patch_um: float) -> float:
        bag = compose_bag(replace(draw, patch_um=patch_um, tumor=1.0), pool, tiles=900)
        assert bag.truth is not None
        grade = dict(zip(map(tuple, bag.places.tolist()), bag.truth.argmax(axis=1), strict=True))
        pairs = [(g, grade[x + 1, y]) for (x, y), g in grade.items() if (x + 1, y) in grade]
        return float(np.mean([a == b for a, b in pairs]))

    assert neighbors_alike(1500.0) > neighbors_alike(150.0) + 0.1


def test_a_planted_focus_is_round_and_has_its_share(pool: TilePool, draw: SlideDraw) -> None:
    weak = replace(draw, mix=(0.6, 0.4, 0.0, 0.0))
    bag = compose_bag(weak, pool, tiles=1000, focus=0.12)
    strong = tumor_tiles(bag, [POSITIVE])
    assert strong.sum() == 60
    spread = bag.places[strong].std(axis=0)
    assert (spread < bag.places[tumor_tiles(bag)].std(axis=0)).all()


def test_a_pool_that_is_there_is_not_drawn_again(
    pool: TilePool, draw: SlideDraw, folder: Path
) -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise AssertionError("encoded again")

    again = make_pool(folder, PLAN, fail, "abc", lambda *_: None)
    first, second = (compose_bag(draw, p, tiles=50) for p in (pool, again))
    assert np.array_equal(first.vectors, second.vectors)
    for plan, encoder in ((PLAN, "def"), (replace(PLAN, seed=4), "abc")):
        with pytest.raises(SynthesisError, match="another"):
            make_pool(folder, plan, fail, encoder, lambda *_: None)
    with pytest.raises(SynthesisError, match="scanner crisp"):
        compose_bag(replace(draw, scanner="crisp"), pool)


def test_each_slide_of_a_cohort_gets_a_bag_and_keeps_it(
    draw: SlideDraw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: TilePool
) -> None:
    made: list[str] = []

    def of_pool(folder: Path, plan: PoolPlan, *_: object) -> TilePool:
        made.append(plan.stain)
        return pool

    monkeypatch.setattr(bag_files, "pool_of", of_pool)
    overview = tmp_path / "a.jpg"
    overview.touch()
    labels = {"a": SlideLabel(her2="1+"), "b": SlideLabel(er="+")}
    slides = [
        CohortSlide(slide=name, patient=draw.patient, overview=overview, label=label)
        for name, label in labels.items()
    ]
    write_cohort(tmp_path, slides)
    draw = replace(draw, er_percent=20.0)
    drawn_bags(tmp_path, [draw], 3, lambda *_: None, shifted=False)
    first, second = read_cohort(tmp_path)
    assert first.bag is not None and second.bag is not None
    assert load_bag(first.bag).encoder == "abc" and made == ["ER", "HER2"]
    assert load_bag(second.bag).slide == f"{draw.patient}-ER"
    written = first.bag.stat().st_mtime_ns
    drawn_bags(tmp_path, [draw], 3, lambda *_: None, shifted=False)
    assert first.bag.stat().st_mtime_ns == written
    with pytest.raises(SynthesisError, match="no draw"):
        drawn_bags(tmp_path, [], 3, lambda *_: None, shifted=False)


@pytest.mark.parametrize("percent", [0.0, 0.5, 1.2, 15.0, 95.0])
def test_a_nuclear_slide_has_the_percentage_of_its_draw(
    percent: float, pool: TilePool, draw: SlideDraw
) -> None:
    # The pool's tiles of a kind stand for those of a nuclear stain: composing does not look.
    bag = compose_bag(replace(draw, er_percent=percent), pool, stain="ER", tiles=2000)
    counts = [int(tumor_tiles(bag, [k]).sum()) for k in range(1, 5)]
    assert np.average(NUCLEAR_PERCENT, weights=counts) == pytest.approx(percent, abs=0.1)
    with pytest.raises(SynthesisError, match="no slide of PR"):
        compose_bag(replace(draw, pr_percent=None), pool, stain="PR")


def test_a_nuclear_stain_marks_nuclei_by_its_percentage() -> None:
    dab = [float(draw_tissue(3, 0, k, 1, 1, "ER").amounts[..., 2].mean()) for k in (1, 4)]
    assert dab[1] > 2 * dab[0]
