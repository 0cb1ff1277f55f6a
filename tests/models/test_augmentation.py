"""Augmentation of training tiles: what may change and what may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.spec import Task
from models.training.augmentation import augment


def tiles(n: int, px: int = 64) -> torch.Tensor:
    """Glass with a brown square in the upper left quarter."""
    found = torch.full((n, 3, px, px), 255.0)
    found[:, :, : px // 2, : px // 2] = torch.tensor([150.0, 90.0, 50.0])[None, :, None, None]
    return found


@pytest.mark.parametrize("task", Task)
def test_glass_stays_glass_and_stain_stays_darker(task: Task) -> None:
    torch.manual_seed(0)
    for seed in range(8):
        given = tiles(4)
        labels = torch.zeros(4, dtype=torch.int64)
        if task is Task.SEGMENTATION:
            labels = (given[:, 0, ::4, ::4] < 200).long()
        pixels, _ = augment(given, labels, np.random.default_rng(seed), task)
        assert pixels.shape == (4, 3, 64, 64)
        assert float(pixels.min()) >= 0 and float(pixels.max()) <= 255
        brightest = pixels.mean(dim=1).flatten(1).quantile(0.6, dim=1)
        darkest = pixels.mean(dim=1).flatten(1).quantile(0.1, dim=1)
        assert (brightest > 225).all()
        assert (brightest - darkest > 15).all()


def test_labels_turn_with_their_tiles() -> None:
    for seed in range(12):
        given = tiles(2)
        labels = (given[:, 0, ::4, ::4] < 200).long()
        pixels, moved = augment(given, labels, np.random.default_rng(seed), Task.SEGMENTATION)
        small = pixels.mean(dim=1)[:, 2::4, 2::4]
        for tile, mask in zip(small, moved > 0, strict=True):
            assert tile[mask].mean() < tile[~mask].mean() - 10


def test_colors_amounts_and_contrast_differ_between_tiles() -> None:
    given = tiles(32)
    labels = torch.zeros(32, dtype=torch.int64)
    pixels, _ = augment(given, labels, np.random.default_rng(1), Task.INTENSITY)
    dark = torch.stack([tile[:, tile.mean(dim=0) < 225].mean(dim=1) for tile in pixels])
    assert (dark.std(dim=0) > 8).all()
