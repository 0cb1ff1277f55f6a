"""Batches of training tiles, equal for equal seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.spec import LABEL_STEP, Task
from models.training.augmentation import augment
from models.training.configuration import TrainingConfig
from models.training.material import Examples

MAP_ZOOM = (0.75, 1.35)
"""Range of the size of M's crops, relative to `crop_px`, where training augments."""


def batches(
    task: Task,
    config: TrainingConfig,
    images: NDArray[np.uint8],
    examples: Examples,
    rng: np.random.Generator,
    device: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch in random order.

    `images` are those of `examples`, for classifiers at the network's input size. A batch is float
    (N, 3, H, W), 0-255, and int64 (N,), for segmentation (N, H / 4, W / 4).
    """
    augmented = config.augmentation != "none"
    order = rng.permutation(examples.chosen)
    for start in range(0, len(order), config.batch_size):
        batch = np.sort(order[start : start + config.batch_size])
        if task is Task.SEGMENTATION:
            zoom = float(rng.uniform(*MAP_ZOOM)) if augmented else 1.0
            pixels, labels = _crops(images, examples.labels, batch, rng, config.crop_px, zoom)
        else:
            pixels = torch.from_numpy(images[batch]).permute(0, 3, 1, 2)
            labels = torch.from_numpy(examples.labels[batch].astype(np.int64))
        pixels, labels = pixels.to(device).float(), labels.to(device)
        yield augment(pixels, labels, rng, task) if augmented else (pixels, labels)


def _crops(
    images: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    batch: NDArray[np.int64],
    rng: np.random.Generator,
    edge_px: int,
    zoom: float,
) -> tuple[Tensor, Tensor]:
    """Random crop of each tile, float (N, 3, edge_px, edge_px), and of its labels at a quarter.

    All crops of a batch have one size, `zoom` times `edge_px` but at most the tile's, before they
    are resized.
    """
    size = min(round(edge_px * zoom / LABEL_STEP), classes.shape[1])
    corners = rng.integers(0, classes.shape[1] - size + 1, (len(batch), 2)).tolist()
    pixels, labels = [], []
    for k, (row, column) in zip(batch.tolist(), corners, strict=True):
        y, x, edge = row * LABEL_STEP, column * LABEL_STEP, size * LABEL_STEP
        pixels.append(images[k, y : y + edge, x : x + edge])
        labels.append(classes[k, row : row + size, column : column + size])
    crops = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    maps = torch.from_numpy(np.stack(labels)).float()
    shape, quarter = (edge_px, edge_px), (edge_px // LABEL_STEP, edge_px // LABEL_STEP)
    crops = functional.interpolate(crops, shape, mode="bilinear", antialias=True)
    maps = functional.interpolate(maps[:, None], quarter, mode="nearest-exact")[:, 0]
    return crops, maps.long()
