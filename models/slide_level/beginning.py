"""Weights that a network of low resolution begins with: those that ship, of drawn overviews."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.slide_level.manifest import load_slide_weights, verify_slide_weights
from models.slide_level.networks import NETWORKS, SlideNetwork


def reference_overview() -> Path:
    """Folder of the overview's network that is part of this distribution."""
    return Path(__file__).parents[1] / "reference" / "overview"


def begin(network: SlideNetwork, config: Mapping[str, Any]) -> str:
    """Give a network of these numbers the weights that ship; return their SHA-256.

    The head is kept where it has as many classes. A network of other numbers stays as it is, and
    the answer is "".

    Raises
    ------
    ManifestError
        If the weights that ship are damaged.
    """
    if dict(config) != NETWORKS["reference"]:
        return ""
    spec = verify_slide_weights(reference_overview())
    tensors = {k: torch.from_numpy(v) for k, v in load_slide_weights(reference_overview()).items()}
    if network.head.out_features != len(spec.classes):
        tensors |= {f"head.{name}": t for name, t in network.head.state_dict().items()}
    network.load_state_dict(tensors)
    return spec.sha256
