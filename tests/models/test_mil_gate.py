"""The gate before an aggregator: tumor alone goes on, where the truth of tiles is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.mil.bag import Bag, save_bag
from models.mil.fitting import Recipe
from models.mil.gate import FEWEST_TILES, TumorGate, fit_gate
from models.mil.networks import AGGREGATORS
from models.mil.system import ALL_TILES, TUMOR_TILES, MilSystem
from models.slide_level.cohort import CohortSlide
from models.slide_level.manifest import read_slide_manifest
from models.slide_level.system import load_fitted
from models.slide_level.tasks import SlideLabel, SlideTask

DIMENSION = 12
RECIPE = Recipe(epochs=24, fewest_epochs=24, tiles_per_step=64, learning_rate=3e-3)


def bag_of(number: int, positive: bool, tiles: int = 90) -> Bag:
    """Return a bag whose tumor (axis 0) is stained (axis 1) or not, as other tissue may be too."""
    rng = np.random.default_rng([number, 11])
    vectors = rng.normal(0, 1, (tiles, DIMENSION))
    tumor = rng.random(tiles) < 0.4
    vectors[tumor, 0] += 9
    vectors[tumor if positive else rng.random(tiles) < 0.1, 1] += 4
    truth = np.zeros((tiles, 5), np.float16)
    truth[np.arange(tiles), np.where(tumor, 4 if positive else 1, 0)] = 1
    return Bag(
        slide=f"s{number}",
        encoder="e",
        vectors=vectors.astype(np.float16),
        places=np.column_stack(np.divmod(np.arange(tiles), 10)).astype(np.int32),
        truth=truth,
    )


def slides_in(folder: Path, *, truth: bool) -> list[CohortSlide]:
    slides = []
    for number in range(24):
        bag, path = bag_of(number, number % 2 == 0), folder / f"{number}.safetensors"
        save_bag(bag if truth else replace(bag, truth=None), path)
        label = SlideLabel(her2="3+" if number % 2 == 0 else "0")
        slides.append(
            CohortSlide(slide=bag.slide, patient=bag.slide, overview=folder, bag=path, label=label)
        )
    return slides


def config(name: str) -> dict[str, int]:
    if name == "transmil":
        return {"width": 16, "heads": 2, "landmarks": 8}
    return {"width": 16, "inner": 8}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_attention_lies_on_tumor_stained_or_not(name: str, tmp_path: Path) -> None:
    slides = slides_in(tmp_path, truth=True)
    fitted = MilSystem(name=name, recipe=RECIPE, config=config(name)).fit(
        slides[:16], slides[16:20], SlideTask.BINARY, seed=3, say=lambda _: None
    )
    for number, positive in ((100, True), (101, False)):
        bag = bag_of(number, positive)
        answer = fitted.answer(bag)
        assert bag.truth is not None
        assert answer.attention.shape == (len(bag),)
        assert answer.attention.sum() == pytest.approx(1)
        assert answer.attention[bag.truth[:, 0] == 0].sum() > 0.9
        assert answer.probabilities.argmax() == int(positive)
    fitted.save(tmp_path / "weights")
    assert read_slide_manifest(tmp_path / "weights").input["tiles"] == TUMOR_TILES
    again = load_fitted(tmp_path / "weights")
    assert np.array_equal(again.predict(slides), fitted.predict(slides))


def test_without_the_truth_of_tiles_an_aggregator_sees_all(tmp_path: Path) -> None:
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    for folder in (known, unknown):
        folder.mkdir()
    slides = slides_in(known, truth=True)
    made = MilSystem(name="abmil", recipe=RECIPE, config=config("abmil"))
    free, plain = (
        system.fit(given[:16], given[16:20], SlideTask.BINARY, seed=3, say=lambda _: None)
        for system, given in (
            (made, slides_in(unknown, truth=False)),
            (replace(made, gated=False), slides),
        )
    )
    assert free.spec.input["tiles"] == plain.spec.input["tiles"] == ALL_TILES
    assert np.array_equal(free.predict(slides), plain.predict(slides))


def test_a_bag_with_hardly_any_tumor_keeps_the_likeliest_tiles() -> None:
    gate = fit_gate([bag_of(number, number % 2 == 0) for number in range(8)], seed=1)
    assert gate is not None
    bag = bag_of(50, positive=True)
    assert bag.truth is not None
    benign = bag.only(np.flatnonzero(bag.truth[:, 0] == 1))
    assert len(gate.chosen(torch.from_numpy(benign.vectors))) == FEWEST_TILES
    assert len(gate.chosen(torch.from_numpy(benign.vectors[:3]))) == 3
    equal = np.repeat(benign.vectors[:1], 20, axis=0)
    assert len(gate.chosen(torch.from_numpy(equal))) == 20, (
        "which of equal tiles is no one's choice"
    )


def test_one_bag_without_truth_leaves_the_gate_out() -> None:
    bags = [bag_of(number, number % 2 == 0) for number in range(4)]
    assert fit_gate(bags, seed=1) is not None
    assert fit_gate([*bags[:3], replace(bags[3], truth=None)], seed=1) is None


def test_equal_bags_and_seeds_give_equal_gates() -> None:
    bags = [bag_of(number, number % 2 == 0) for number in range(4)]
    first, second = fit_gate(bags, seed=4), fit_gate(bags, seed=4)
    assert isinstance(first, TumorGate) and second is not None
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
