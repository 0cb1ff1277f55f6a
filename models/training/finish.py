"""What trained weights need to leave the house: calibration, and how their tiles looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.appearance import with_statistics
from models.spec import MANIFEST_NAME, ModelSpec, Task
from models.training.calibration import with_calibration
from models.training.card import write_card
from models.training.data import Tiles
from models.weights import load_network

DESCRIBED_TILES = 2000
"""About so many training tiles, evenly chosen, describe them all."""


def finished(
    spec: ModelSpec, network: nn.Module, tiles: Tiles, calibration_tiles: Tiles, device: str
) -> ModelSpec:
    """The spec with temperature and appearance. `tiles` trained `network`, the others did not.

    Raises
    ------
    DataSetError
        If either set holds no tile that the task is about.
    """
    images, labels, chosen = _about(spec.task, calibration_tiles)
    spec = with_calibration(spec, network, images[chosen], labels[chosen], device)
    images, _, chosen = _about(spec.task, tiles)
    every = max(1, -(-len(chosen) // DESCRIBED_TILES))
    return with_statistics(spec, (images[k] for k in chosen[::every]))


def finish(folder: Path, tiles: Tiles, calibration_tiles: Tiles, device: str) -> ModelSpec:
    """`finished` for the weights in `folder`: rewrites manifest and card, not the weights.

    Raises
    ------
    ManifestError
        If the weights are not those of their manifest.
    DataSetError
        See `finished`.
    """
    spec, network = load_network(folder, device)
    spec = finished(spec, network, tiles, calibration_tiles, device)
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    write_card(folder, spec)
    return spec


def _about(
    task: Task, tiles: Tiles
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    """Images, labels, and the numbers of those that a task is about; L is asked about tumor."""
    match task:
        case Task.TUMOR:
            return tiles.he, tiles.tumor, np.arange(len(tiles))
        case Task.INTENSITY:
            return tiles.ihc, tiles.intensity, np.flatnonzero(tiles.tumor)
        case Task.SEGMENTATION:
            return tiles.ihc, tiles.classes, np.arange(len(tiles))
