"""Attention within a tile: the equations, and that it lies on the tumor of drawn tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.weights import TINY_VIT
from sklearn.metrics import roc_auc_score

from models.attention import Recorded, attend, record, relevances
from models.build import build
from models.checkpoint import load_network
from models.datasets.generated_tiles import generated_tile
from models.spec import Task, reference_folder
from models.vit import VitClassifier

MIXED_TILES = (892_000_007, 892_000_013, 892_000_014)


@pytest.fixture
def tiny() -> VitClassifier:
    torch.manual_seed(3)
    network = build(TINY_VIT.spec(Task.TUMOR)).eval()
    assert isinstance(network, VitClassifier)
    return network


def test_recording_changes_no_answer_and_leaves_the_network_as_it_was(tiny: VitClassifier) -> None:
    pixels = torch.randint(0, 256, (2, 3, 512, 512), dtype=torch.uint8)
    with torch.inference_mode():
        usual = tiny(pixels).logits
    seen = record(tiny, pixels)
    torch.testing.assert_close(seen.logits.detach(), usual, atol=1e-5, rtol=1e-5)
    (attention,) = seen.attentions
    assert attention.shape == (2, 2, 5, 5)  # two heads; the class token and 2 x 2 patches
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 2, 5))
    with torch.inference_mode():
        assert torch.equal(tiny(pixels).logits, usual)


def test_relevance_of_one_layer_is_the_gradient_times_the_attention(tiny: VitClassifier) -> None:
    pixels = torch.randint(0, 256, (2, 3, 512, 512), dtype=torch.uint8)
    classes = torch.tensor([1, 0])
    found = attend(tiny, pixels, classes)
    assert found.shape == (2, 2, 2)
    seen = record(tiny, pixels)
    (attention,) = seen.attentions
    for tile, number in enumerate(classes.tolist()):
        (gradient,) = torch.autograd.grad(
            seen.logits[tile, number], seen.attentions, retain_graph=True
        )
        by_hand = torch.zeros(4)
        for head in range(2):
            by_hand += (gradient * attention)[tile, head, 0, 1:].clamp(min=0) / 2
        torch.testing.assert_close(found[tile].flatten(), by_hand.detach())
    other = attend(tiny, pixels, 1 - classes)
    assert not torch.allclose(found, other)


def test_layers_are_followed_from_the_first_of_them() -> None:
    """Two layers of one patch, worked by hand: R = (1 + G2)(1 + G1)."""
    first = torch.tensor([[[[0.5, 0.5], [0.2, 0.8]]]], requires_grad=True)
    second = torch.tensor([[[[0.4, 0.6], [0.3, 0.7]]]], requires_grad=True)
    logit = 2 * first[..., 0, 1].sum() + 3 * second[..., 0, 1].sum() - second[..., 0, 0].sum()
    seen = Recorded(logits=logit.reshape(1, 1), attentions=(first, second))
    # From class token to patch G1 has 2 · 0.5 and G2 3 · 0.6. From class token to itself G2 has
    # -0.4, which counts as 0.
    found = relevances(seen, torch.tensor([0]), layers=2)
    assert found.tolist() == [[pytest.approx(1.0 + 1.8)]]


def test_heat_of_the_shipped_networks_lies_on_the_tumor_of_mixed_tiles() -> None:
    """Synthetic tiles of which 20 to 80 % are tumor; more tiles: benchmarks/attention.py."""
    tiles = [generated_tile(seed) for seed in MIXED_TILES]
    _, network = load_network(reference_folder(Task.TUMOR))
    pixels = torch.from_numpy(np.stack([tile.he for tile in tiles])).permute(0, 3, 1, 2)
    heats = attend(network, pixels, torch.ones(len(tiles), dtype=torch.int64))
    heats = torch.nn.functional.interpolate(heats[:, None], (128, 128), mode="bilinear")
    areas = [
        roc_auc_score((tile.classes > 0).ravel(), heat.ravel())
        for tile, heat in zip(tiles, heats.numpy(), strict=True)
    ]
    assert np.mean(areas) > 0.75, areas
