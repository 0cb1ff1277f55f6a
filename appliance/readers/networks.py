"""Networks of this worker process, by task: loading one costs more than reading a small slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.geometry import TILE_PX
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.device import write_device
from appliance.settings.settings import Settings
from models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

_NETWORKS: dict[Task, Network] = {}


def network_for(task: Task, settings: Settings) -> Network:
    """Network with the weights in use for `task`, loaded unless it is the last one loaded.

    What its device is and has in use stands in the state folder afterwards.

    Raises
    ------
    WeightsError, models.errors.ManifestError
        If the weights cannot be used.
    """
    from appliance.readers.inference import Network

    folder, spec = chosen_weights(task, settings)
    known = _NETWORKS.get(task)
    if known is None or known.spec.fingerprint != spec.fingerprint:
        # Replaced, not added: a lab that tries many weights has one GPU.
        _NETWORKS[task] = known = Network(
            folder, settings.models.device, settings.models.runtime, spec.site
        )
    write_device(settings, known.device_sign())
    return known


def classifier_px(spec: ModelSpec) -> int:
    """Edge of the tiles that a classifier is given: half of `TILE_PX` where it sees no more."""
    return TILE_PX // 2 if spec.input_px <= TILE_PX // 2 else TILE_PX
