"""Last steps before weights are released: calibration and appearance of the training tiles."""

from __future__ import annotations

from torch import nn

from models.appearance import DESCRIBED_TILES, with_statistics
from models.spec import ModelSpec
from models.training.calibration import with_calibration
from models.training.material import Examples


def finished(
    spec: ModelSpec,
    network: nn.Module,
    learnt: Examples,
    calibrating: Examples | None,
    device: str,
) -> ModelSpec:
    """Return the spec with temperature and appearance.

    `learnt` trained `network`, `calibrating` did not. Without `calibrating` the temperature stays.

    Raises
    ------
    DataSetError
        If either set holds no tile of the task.
    """
    if calibrating is not None:
        chosen = calibrating.chosen
        spec = with_calibration(
            spec, network, calibrating.images[chosen], calibrating.labels[chosen], device
        )
    every = max(1, -(-len(learnt.chosen) // DESCRIBED_TILES))
    return with_statistics(spec, (learnt.images[k] for k in learnt.chosen[::every]))
