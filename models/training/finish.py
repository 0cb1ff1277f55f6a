"""What trained weights need to leave the house: calibration, and how their tiles looked."""

from __future__ import annotations

from torch import nn

from models.appearance import with_statistics
from models.spec import ModelSpec
from models.training.calibration import with_calibration
from models.training.material import Examples

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
