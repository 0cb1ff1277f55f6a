"""What trained weights need to leave the house: calibration, and how their tiles looked."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from models.appearance import with_statistics
from models.spec import MANIFEST_NAME, ModelSpec
from models.training.calibration import with_calibration
from models.training.card import write_card
from models.training.data import Tiles
from models.training.material import Examples, judged_tiles
from models.weights import load_network

DESCRIBED_TILES = 2000
"""At most so many training tiles, evenly chosen, describe them all."""


def finished(
    spec: ModelSpec,
    network: nn.Module,
    learnt: Examples,
    calibrating: Examples | None,
    device: str,
) -> ModelSpec:
    """The spec with temperature and appearance. `learnt` trained `network`, the others did not.

    Without `calibrating` the temperature stays as it is.

    Raises
    ------
    DataSetError
        If either set holds no tile that the task is about.
    """
    if calibrating is not None:
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
    learnt, calibrating = (judged_tiles(spec.task, t) for t in (tiles, calibration_tiles))
    spec = finished(spec, network, learnt, calibrating, device)
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    write_card(folder, spec)
    return spec
