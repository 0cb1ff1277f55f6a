"""What trained weights need to leave the house: calibration, and how their tiles looked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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
"""At most so many training tiles, evenly chosen, describe them all."""


class Examples(NamedTuple):
    """`images` uint8 (N, T, T, 3), `labels` (N,) or (N, h, w), `chosen` rows that count (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    chosen: NDArray[np.int64]


def finished(
    spec: ModelSpec, network: nn.Module, learnt: Examples, calibrating: Examples, device: str
) -> ModelSpec:
    """The spec with temperature and appearance. `learnt` trained `network`, the others did not.

    Raises
    ------
    DataSetError
        If either set holds no tile that the task is about.
    """
    chosen = calibrating.chosen
    spec = with_calibration(
        spec, network, calibrating.images[chosen], calibrating.labels[chosen], device
    )
    every = max(1, -(-len(learnt.chosen) // DESCRIBED_TILES))
    return with_statistics(spec, (learnt.images[k] for k in learnt.chosen[::every]))


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
    learnt, calibrating = (examples(spec.task, t) for t in (tiles, calibration_tiles))
    spec = finished(spec, network, learnt, calibrating, device)
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    write_card(folder, spec)
    return spec


def examples(task: Task, tiles: Tiles) -> Examples:
    """The tiles as a task sees them: H&E for C, tumor tiles of IHC for L, all IHC for M."""
    everything = np.arange(len(tiles))
    match task:
        case Task.TUMOR:
            return Examples(tiles.he, tiles.tumor, everything)
        case Task.INTENSITY:
            return Examples(tiles.ihc, tiles.intensity, np.flatnonzero(tiles.tumor))
        case Task.SEGMENTATION:
            return Examples(tiles.ihc, tiles.classes, everything)
