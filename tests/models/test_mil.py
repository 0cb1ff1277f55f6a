"""Multiple-instance learning: aggregators, bags and training on bags whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.errors import DataSetError, ManifestError
from models.mil.bag import Bag, load_bag, save_bag
from models.mil.clam import Clustered
from models.mil.fitting import Recipe, class_weights
from models.mil.losses import cluster_loss
from models.mil.networks import AGGREGATORS, build_aggregator
from models.mil.system import FittedMil, MilSystem
from models.slide_level.cohort import CohortSlide
from models.slide_level.system import load_fitted, system
from models.slide_level.tasks import SlideLabel, SlideTask
from models.training.reader import train_reader

DIMENSION = 12
RECIPE = Recipe(epochs=12, fewest_epochs=12, tiles_per_step=64, learning_rate=3e-3)


def toy_bag(number: int, positive: bool, tiles: int, encoder: str = "e") -> Bag:
    """Return a bag in which the tiles of a positive slide's tumor, a fifth, lie apart."""
    rng = np.random.default_rng([number, 7])
    vectors = rng.normal(0, 1, (tiles, DIMENSION))
    tumor = rng.random(tiles) < 0.2
    vectors[tumor, 0] += 4
    vectors[tumor, 1] += 4 if positive else -4
    edge = int(np.ceil(np.sqrt(tiles)))
    places = np.column_stack(np.divmod(np.arange(tiles), edge)).astype(np.int32)
    truth = np.zeros((tiles, 5), np.float16)
    truth[np.arange(tiles), np.where(tumor, 4 if positive else 1, 0)] = 1
    return Bag(
        slide=f"s{number}", encoder=encoder, vectors=vectors.astype(np.float16),
        places=places, truth=truth,
    )  # fmt: skip


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[CohortSlide]:
    """Return slides with bags of 1 to 120 tiles."""
    folder = tmp_path_factory.mktemp("bags")
    found = []
    for number in range(36):
        positive = number % 2 == 0
        bag = toy_bag(number, positive, 40 + 2 * number)
        save_bag(bag, folder / f"{number}.safetensors")
        found.append(
            CohortSlide(
                slide=bag.slide,
                patient=bag.slide,
                overview=folder,
                bag=folder / f"{number}.safetensors",
                label=SlideLabel(her2="3+" if positive else "0"),
            )
        )
    return found


@pytest.fixture(scope="module")
def learnt(slides: list[CohortSlide]) -> dict[str, FittedMil]:
    """Return each aggregator, trained."""
    return {
        name: MilSystem(name=name, recipe=RECIPE, config=small(name)).fit(
            slides[:20], slides[20:26], SlideTask.BINARY, seed=3, say=lambda _: None
        )
        for name in AGGREGATORS
    }


def small(name: str) -> dict[str, int]:
    if name == "transmil":
        return {"width": 16, "heads": 2, "landmarks": 8}
    return {"width": 16, "inner": 8}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregator_learns_what_tells_slides_apart(
    name: str, learnt: dict[str, FittedMil], slides: list[CohortSlide]
) -> None:
    said = learnt[name].predict(slides[26:])
    assert said.shape == (10, 2)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert (said.argmax(axis=1) == np.array([1, 0] * 5)).mean() >= 0.9


@pytest.mark.parametrize("name", ["clam-sb", "clam-mb", "dtfd", "abmil"])
def test_attention_finds_the_tiles_that_tell_slides_apart(
    name: str, learnt: dict[str, FittedMil], slides: list[CohortSlide]
) -> None:
    shares = []
    for slide in slides[26:]:
        assert slide.bag is not None
        bag = load_bag(slide.bag)
        assert bag.truth is not None
        attention = learnt[name].answer(bag).attention
        shares.append(float(attention[bag.truth[:, 0] == 0].sum()))
    assert np.mean(shares) > 0.5  # a fifth of the tiles


@pytest.mark.parametrize("name", AGGREGATORS)
def test_stored_weights_answer_as_those_that_were_trained(
    name: str, learnt: dict[str, FittedMil], slides: list[CohortSlide], tmp_path: Path
) -> None:
    learnt[name].save(tmp_path)
    again = load_fitted(tmp_path)
    assert np.array_equal(again.predict(slides[26:]), learnt[name].predict(slides[26:]))
    assert system(name).name == name


def test_equal_seeds_give_equal_weights(slides: list[CohortSlide]) -> None:
    made = MilSystem(name="dtfd", recipe=replace(RECIPE, epochs=2), config=small("dtfd"))
    first, second = (
        made.fit(slides[:8], slides[20:24], SlideTask.BINARY, seed=5, say=lambda _: None)
        for _ in range(2)
    )
    assert np.array_equal(first.predict(slides[26:]), second.predict(slides[26:]))


@pytest.fixture(scope="module")
def untrained() -> dict[str, torch.nn.Module]:
    torch.manual_seed(2)
    return {n: build_aggregator(n, DIMENSION, 3, small(n)).eval() for n in AGGREGATORS}


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.differing_executors])
@given(tiles=st.integers(1, 90), seed=st.integers(0, 10_000))
def test_answers_do_not_depend_on_the_order_of_tiles(
    tiles: int, seed: int, untrained: dict[str, torch.nn.Module]
) -> None:
    bag = toy_bag(seed, True, tiles)
    order = np.random.default_rng(seed).permutation(tiles)
    assert bag.truth is not None
    other = Bag(
        slide="s", encoder="e", vectors=bag.vectors[order], places=bag.places[order],
        truth=bag.truth[order],
    )  # fmt: skip
    for network in untrained.values():
        with torch.inference_mode():
            first, second, again = (
                network(torch.from_numpy(b.vectors).float()) for b in (bag, other, bag)
            )
        assert torch.equal(first.logits, second.logits) and torch.equal(first.logits, again.logits)
        assert torch.equal(first.attention, second.attention)
        assert first.logits.shape == (3,) and first.attention.shape == (tiles,)
        assert float(first.attention.min()) >= 0
        assert float(first.attention.sum()) == pytest.approx(1, abs=1e-4)


def test_pseudo_bags_share_out_every_tile_once(untrained: dict[str, torch.nn.Module]) -> None:
    parts = untrained["dtfd"]._parts(23)  # type: ignore[operator]
    assert sorted(torch.cat(parts).tolist()) == list(range(23))
    assert [len(part) for part in parts] == [5, 5, 5, 4, 4]
    assert torch.cat(parts).tolist() != list(range(23))


def test_the_cluster_loss_is_a_cross_entropy_with_a_margin() -> None:
    logits = torch.tensor([[0.3, 1.2], [2.0, -1.0]])
    labels = torch.tensor([1, 1])
    expected = functional.cross_entropy(logits + torch.tensor([1.0, 0.0]), labels)
    assert float(cluster_loss(Clustered(logits, labels))) == pytest.approx(float(expected))


def test_weights_of_classes_come_from_the_training_part() -> None:
    weights = class_weights(np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(weights, [4 / 6, 2.0])
    with pytest.raises(DataSetError, match="no slide"):
        class_weights(np.array([0, 0]), 2)


def test_a_slide_without_tissue_has_no_bag() -> None:
    with pytest.raises(DataSetError, match=r"^s9: no tile holds tissue[^\n]*$"):
        Bag(
            slide="s9", encoder="e", vectors=np.zeros((0, 4), np.float16),
            places=np.zeros((0, 2), np.int32),
        )  # fmt: skip


def test_unusable_bags_are_refused_in_one_line(
    slides: list[CohortSlide], learnt: dict[str, FittedMil], tmp_path: Path
) -> None:
    path = tmp_path / "b.safetensors"
    with pytest.raises(DataSetError, match="not a bag"):
        load_bag(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataSetError, match="not a bag"):
        load_bag(path)
    places = np.zeros((2, 2), np.int32)
    with pytest.raises(DataSetError, match="one place"):
        Bag(slide="s", encoder="e", vectors=np.zeros((2, 4), np.float16), places=places)
    with pytest.raises(DataSetError, match="not finite"):
        Bag(slide="s", encoder="e", vectors=np.full((1, 4), np.nan, np.float16), places=places[:1])
    with pytest.raises(DataSetError, match="Encode the slide with that encoder"):
        learnt["abmil"].answer(toy_bag(1, True, 9, encoder="another"))
    with pytest.raises(DataSetError, match="column bag"):
        learnt["abmil"].predict([replace(slides[0], bag=None)])
    with pytest.raises(ManifestError, match="aggregator"):
        build_aggregator("abmil", 4, 2, {"depth": 3})


@pytest.mark.parametrize("wrong", ["encoder", "lacking", "damaged"])
def test_a_bag_that_cannot_judge_is_told_with_its_file_before_the_training(
    wrong: str, slides: list[CohortSlide], tmp_path: Path
) -> None:
    own = [replace(slide, fold=k // 2 % 3) for k, slide in enumerate(slides)]
    path = tmp_path / "other.safetensors"
    if wrong == "damaged":
        path.write_bytes(b"no bag")
    else:
        save_bag(toy_bag(0, True, 9, encoder="another"), path)
    own[0] = replace(own[0], bag=None if wrong == "lacking" else path)  # fold 0 judges

    class Untaught(MilSystem):
        def fit(self, *_: object, **__: object) -> FittedMil:
            raise AssertionError("it trains")

    said = "s0: no bag of tiles" if wrong == "lacking" else rf"{path}: "
    with pytest.raises(DataSetError, match=said):
        train_reader(
            Untaught(name="abmil"), own, SlideTask.BINARY, tmp_path / "out", seed=1, data="Toys.",
            say=lambda _: None,
        )  # fmt: skip
