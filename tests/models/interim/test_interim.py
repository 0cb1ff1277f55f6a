"""Networks of the interim reader: equations, order of tiles, independence from IHC, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.errors import DataSetError
from models.interim.attention import CrossAttention
from models.interim.batches import draw_masked, he_batch, ihc_batch, placed
from models.interim.ipca import InterimNetwork
from models.interim.places import TileFeatures, find_anchors
from models.interim.shape import InterimShape
from models.interim.train import InterimTraining, Pair, Scale, absorb, fit, predict

FEATURES = 6
SHAPE = InterimShape(features=FEATURES, width=16, heads=2, blocks=2, anchors=5, prompts=7)


def slide(seed: int, count: int = 30, shift: float = 0.0) -> TileFeatures:
    """Tiles at random places of a grid; a third of them carry `shift` in their first feature."""
    rng = np.random.default_rng(seed)
    at = rng.permutation(100)[:count]
    features = rng.normal(0, 1, (count, FEATURES)).astype(np.float32)
    features[: count // 3, 0] += np.float32(shift)
    return TileFeatures(places=np.stack([at % 10, at // 10], axis=1), features=features)


@pytest.fixture(scope="module")
def network() -> InterimNetwork:
    """Network whose weights are all drawn, the embeddings of places too."""
    torch.manual_seed(3)
    made = InterimNetwork(SHAPE).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return made


def numpy_attention(made: CrossAttention, q: Tensor, x: Tensor, phi: Tensor) -> np.ndarray:
    """Equation 1 as it is printed, one head, with K for the query."""
    wq, wk, wv = (layer.weight.T.detach().numpy() for layer in (made.query, made.key, made.value))
    k, patches = q[0].numpy(), x[0].numpy()
    scores = (k @ wq @ (patches @ wk).T + phi[0, 0].numpy()) / np.sqrt(wq.shape[1])
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    found = odds / odds.sum(axis=1, keepdims=True) @ (patches @ wv)
    return found @ made.joined.weight.T.detach().numpy() + made.joined.bias.detach().numpy()


def test_attention_is_the_equation() -> None:
    torch.manual_seed(0)
    made = CrossAttention(8, 1)
    q, x, phi = torch.randn(1, 3, 8), torch.randn(1, 11, 8), torch.randn(1, 1, 3, 11)
    found = made(q, x, phi).detach().numpy()[0]
    np.testing.assert_allclose(found, numpy_attention(made, q, x, phi), rtol=1e-4, atol=1e-5)


def test_the_kept_weights_are_those_of_the_answer() -> None:
    torch.manual_seed(0)
    made = CrossAttention(8, 1)
    q, x, phi = torch.randn(1, 3, 8), torch.randn(1, 11, 8), torch.randn(1, 1, 3, 11)
    by_weights = made.joined(made.weights(q, x, phi) @ made.value(x))
    torch.testing.assert_close(by_weights, made(q, x, phi))


def test_distance_and_angle_are_whole_steps_between_anchors_and_tiles() -> None:
    tiles = slide(1).in_order()
    found = find_anchors(tiles, SHAPE)
    assert found.distance.shape == found.angle.shape == (len(found.tokens), 30)
    assert found.distance.min() >= 0 and found.distance.max() < SHAPE.distance_bins
    assert found.angle.min() >= 0 and found.angle.max() < SHAPE.angle_bins
    first = tiles.features[found.cluster == 0].mean(axis=0)
    np.testing.assert_allclose(found.tokens[0], first, rtol=1e-5)
    # Each tile lies nearest to its own anchor.
    assert (found.distance[found.cluster, np.arange(30)] == found.distance.min(axis=0)).mean() > 0.9


@given(st.permutations(range(30)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_tiles_changes_no_bit(network: InterimNetwork, order: list[int]) -> None:
    tiles = slide(2)
    mixed = TileFeatures(places=tiles.places[order], features=tiles.features[order])
    one, other = predict(network, tiles), predict(network, mixed)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.attention[order], other.attention)
    assert one.attention.sum() == pytest.approx(1, abs=1e-6)


def test_the_answer_does_not_know_the_ihc_slide(network: InterimNetwork) -> None:
    he = he_batch([placed(slide(3), SHAPE)])
    alone = network(he)
    beside = [network(he, ihc_batch([slide(seed)])) for seed in (4, 5)]
    assert alone.ihc is None
    for each in beside:
        assert torch.equal(each.he, alone.he)
    assert not torch.equal(beside[0].ihc, beside[1].ihc)


def test_padding_is_seen_by_nothing(network: InterimNetwork) -> None:
    small, large = slide(6, count=3), slide(7, count=40)
    both = network(he_batch([placed(s, SHAPE) for s in (small, large)]), ihc_batch([small, large]))
    for row, each in enumerate((small, large)):
        alone = network(he_batch([placed(each, SHAPE)]), ihc_batch([each]))
        torch.testing.assert_close(both.he[row], alone.he[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both.ihc[row], alone.ihc[0], rtol=1e-4, atol=1e-5)


def test_a_place_matters() -> None:
    """The embeddings of distance and angle reach the answer."""
    torch.manual_seed(0)
    made = InterimNetwork(SHAPE).eval()
    tiles = slide(8)
    moved = TileFeatures(places=tiles.places[::-1].copy(), features=tiles.features)
    with torch.no_grad():
        for block in made.he_blocks:
            block.distance.weight.normal_()
            block.angle.weight.normal_()
    assert np.abs(predict(made, tiles).probabilities - predict(made, moved).probabilities).max() > 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_kernel_masking_hides_a_share_of_the_anchors(share: float) -> None:
    he = he_batch([placed(slide(9, count=3), SHAPE), placed(slide(10), SHAPE)])
    masked = draw_masked(he, share, torch.Generator().manual_seed(0))
    real = (~he.places.no_anchor).sum(dim=1)
    assert torch.equal(masked.sum(dim=1), (real * share).floor().long())
    assert not (masked & he.places.no_anchor).any()


def test_a_masked_anchor_is_not_seen() -> None:
    torch.manual_seed(0)
    shape = InterimShape(features=FEATURES, width=16, heads=2, blocks=1, anchors=5, prompts=3)
    made = InterimNetwork(shape).eval()
    he = he_batch([placed(slide(11), shape)])
    other = he._replace(tokens=he.tokens.clone())
    other.tokens[0, 2] += 5
    masked = torch.zeros(1, he.tokens.shape[1], dtype=torch.bool)
    seen = made(he, masked=masked).he, made(other, masked=masked).he
    masked[0, 2] = True
    unseen = made(he, masked=masked).he, made(other, masked=masked).he
    assert not torch.equal(*seen)
    assert torch.equal(*unseen)


def test_prompts_are_shaped_by_both_slides_and_pama_has_none() -> None:
    torch.manual_seed(0)
    made = InterimNetwork(SHAPE)
    he, ihc = he_batch([placed(slide(12), SHAPE)]), ihc_batch([slide(13)])
    prompts = made.prompted[0].prompts
    of_he = torch.autograd.grad(made(he).he.square().sum(), prompts)[0]
    of_ihc = torch.autograd.grad(made.read_ihc(ihc).square().sum(), prompts)[0]
    assert of_he.abs().max() > 0 and of_ihc.abs().max() > 0
    values = made.prompted[0].attention.value.weight
    (taught,) = torch.autograd.grad(made.read_ihc(ihc).square().sum(), values)
    assert taught.abs().max() > 0  # what H&E patches take from the prompts
    pama = InterimNetwork(InterimShape(features=FEATURES, width=16, heads=2, prompts=0))
    assert not list(pama.prompted.parameters()) and not len(pama.ihc_blocks)


def test_patches_that_differ_get_different_updates_of_fresh_prompts() -> None:
    torch.manual_seed(0)
    made = InterimNetwork(InterimShape(features=FEATURES, prompts=64))
    with torch.no_grad():
        update = made.prompted[0](torch.randn(1, 200, made.shape.width))[0]
        alike = made.prompted[0].attention.joined.bias + torch.zeros_like(update)
    own = (update - update.mean(dim=0)).norm()
    assert own > 0.1 * alike.norm()


def test_training_finds_a_planted_signal() -> None:
    pairs = [Pair(slide(k, shift=3.0 * (k % 2)), slide(100 + k), k % 2) for k in range(24)]
    shape = InterimShape(
        features=FEATURES, width=16, heads=2, anchors=4, prompts=4, mask_ratio=0.5, classes=2
    )
    training = InterimTraining(learning_rate=5e-3, batch_size=8, epochs=25, most_tiles=20)
    told: list[str] = []
    made = fit(pairs, shape, training, told.append)
    fresh = [(slide(200 + k, shift=3.0 * (k % 2)), k % 2) for k in range(20)]
    right = [int(predict(made, tiles).probabilities.argmax() == label) for tiles, label in fresh]
    assert sum(right) >= 17 and len(told) == 25


def block(seed: int, label: int) -> Pair:
    """Block of 12 tiles. Of class 1, four are strong on IHC; on H&E, the first feature says the
    class in all tiles, and the second one says which tiles are strong."""
    rng = np.random.default_rng([seed, 0xB10C])
    places = np.stack(np.divmod(np.arange(12), 4)[::-1], axis=1)
    he, ihc = rng.normal(0, 1, (2, 12, FEATURES)).astype(np.float32)
    strong = np.zeros(12, dtype=bool)
    strong[rng.permutation(12)[: 4 * label]] = True
    ihc[strong, 0] += 5
    he[:, 0] += np.float32(3 * label)
    he[strong, 1] += 3
    order = rng.permutation(12)
    partners = np.argsort(order)
    return Pair(
        TileFeatures(places=places, features=he),
        TileFeatures(places=places[order], features=ihc[order]),
        label,
        partners,
    )


PARTS = InterimShape(
    features=FEATURES, width=16, heads=2, anchors=12, prompts=4, mask_ratio=0.0, classes=2
)


def told_apart(part_weight: float) -> float:
    """Return how much surer of class 1 a network is of strong tiles than of others beside them."""
    pairs = [block(seed, seed % 2) for seed in range(32)]
    given = InterimTraining(
        learning_rate=5e-3, batch_size=8, epochs=30, part_weight=part_weight, seed=0
    )
    made = fit(pairs, PARTS, given, lambda _: None)
    sure: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(100, 110):
        pair = block(seed, 1)
        assert pair.ihc is not None and pair.partners is not None
        for row, partner in enumerate(pair.partners):
            strong = bool(pair.ihc.features[partner, 0] > 2.5)
            answer = predict(made, pair.he.take(np.array([row])))
            sure[strong].append(float(answer.probabilities[1]))
    return float(np.mean(sure[True]) - np.mean(sure[False]))


def test_ihc_of_parts_teaches_what_the_class_of_a_slide_does_not() -> None:
    assert told_apart(3.0) > told_apart(0.0) + 0.2


@pytest.mark.parametrize("partners", [None, np.full(12, -1)])
def test_without_partners_parts_teach_nothing(partners: np.ndarray | None) -> None:
    pairs = [block(seed, seed % 2)._replace(partners=partners) for seed in range(4)]
    with_parts = InterimTraining(batch_size=2, epochs=4, part_weight=3.0)
    without = InterimTraining(batch_size=2, epochs=4, part_weight=0.0)
    one, other = (fit(pairs, PARTS, each, lambda _: None) for each in (with_parts, without))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_anchor_that_collected_reaches_the_class_token_in_the_same_block() -> None:
    """Patches attend to anchors as Eq. 1 made them."""
    torch.manual_seed(0)
    shape = InterimShape(features=FEATURES, width=16, heads=2, blocks=1, anchors=5, prompts=3)
    made = InterimNetwork(shape).eval()
    he = he_batch([placed(slide(15), shape)])
    other = he._replace(patches=he.patches.clone())
    other.patches[0, 4] += 5
    assert not torch.equal(made(he).he, made(other).he)


def test_a_layer_takes_features_as_they_are_after_it_learned_of_standardized_ones() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(FEATURES, 4)
    rng = np.random.default_rng(0)
    numbers = rng.uniform(0.1, 3, (2, FEATURES)).astype(np.float32)
    scale = Scale(*torch.from_numpy(numbers))
    features = torch.from_numpy(slide(14).features)
    with torch.no_grad():
        wanted = layer(scale.apply(features))
        absorb(layer, scale)
        found = layer(features)
    torch.testing.assert_close(found, wanted)


def test_training_finds_a_signal_in_a_feature_of_small_deviation_and_large_mean() -> None:
    """Means and deviations of an encoder's features differ as much as here."""

    def scaled(tiles: TileFeatures) -> TileFeatures:
        features = tiles.features * np.array([0.05, 5, 5, 5, 5, 5], np.float32) + 20
        return TileFeatures(places=tiles.places, features=features.astype(np.float32))

    pairs = [Pair(scaled(slide(k, shift=3.0 * (k % 2))), None, k % 2) for k in range(24)]
    shape = InterimShape(
        features=FEATURES, width=16, heads=2, anchors=4, prompts=4, mask_ratio=0.5, classes=2
    )
    training = InterimTraining(learning_rate=5e-3, batch_size=8, epochs=25, most_tiles=20)
    made = fit(pairs, shape, training, lambda _: None)
    fresh = [(scaled(slide(200 + k, shift=3.0 * (k % 2))), k % 2) for k in range(20)]
    right = [int(predict(made, tiles).probabilities.argmax() == label) for tiles, label in fresh]
    assert sum(right) >= 17


def test_equal_arguments_give_equal_weights() -> None:
    pairs = [Pair(slide(k), slide(100 + k), k % 4) for k in range(6)]
    training = InterimTraining(batch_size=3, epochs=2, most_tiles=20)
    one, other = (fit(pairs, SHAPE, training, lambda _: None) for _ in range(2))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("places", "count", "said"),
    [
        (np.zeros((0, 2), np.int64), 0, "without a tile"),
        (np.zeros((2, 2), np.int64), 2, "two tiles"),
        (np.array([[0, 0], [1, 0]]), 3, "do not fit"),
    ],
)
def test_what_is_no_slide_is_refused(places: np.ndarray, count: int, said: str) -> None:
    with pytest.raises(DataSetError, match=said):
        TileFeatures(places=places, features=np.zeros((count, FEATURES), np.float32))


@pytest.mark.parametrize(
    "wrong", [{"mask_ratio": 1.0}, {"anchors": 0}, {"width": 10, "heads": 4}, {"prompts": -1}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InterimShape(features=FEATURES, **wrong)  # type: ignore[arg-type]
