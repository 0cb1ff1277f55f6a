"""Weights that a network of low resolution begins with: those that ship, of drawn overviews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.slide_level.manifest import (
    load_slide_weights,
    reference_overview,
    verify_slide_weights,
)
from models.slide_level.networks import NETWORKS, SlideNetwork
from models.slide_level.tasks import SlideTask

HEADS = "heads."
"""Prefix of the names of tensors that are heads for other tasks than that of the weights."""


class Begun(NamedTuple):
    """`sha256` of the weights, "" where none fit. `is_reader`: they answer the task at this size
    already, before any training."""

    sha256: str = ""
    is_reader: bool = False


def begin(network: SlideNetwork, config: Mapping[str, Any], task: SlideTask, px: int) -> Begun:
    """Give a network of these numbers, for pictures of `px`, the weights that ship.

    They have a head for each task of HER2; for another task the network's own is kept. A network of
    other numbers stays as it is.

    Raises
    ------
    ManifestError
        If the weights that ship are damaged.
    """
    if dict(config) != NETWORKS["reference"]:
        return Begun()
    folder = reference_overview()
    spec = verify_slide_weights(folder)
    stored = {name: torch.from_numpy(t) for name, t in load_slide_weights(folder).items()}
    tensors, others = without_heads(stored), HEADS + task
    known = task is spec.task or f"{others}.weight" in stored
    if task is not spec.task:
        for name, own in network.head.state_dict().items():
            tensors[f"head.{name}"] = stored.get(f"{others}.{name}", own)
    network.load_state_dict(tensors)
    return Begun(spec.sha256, known and px == spec.input["px"])


def without_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network alone, without heads for other tasks."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}
