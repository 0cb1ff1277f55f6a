"""Weights on disk: safetensors, and a manifest with their checksum. No pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from models.build import build
from models.errors import FULL, ManifestError
from models.spec import MANIFEST_NAME, STEP_COUNT, WEIGHTS_NAME, ModelSpec, file_sha256, verify

_MOST = int(torch.finfo(torch.float16).max)


def load_network(folder: Path, device: str = "cpu") -> tuple[ModelSpec, nn.Module]:
    """Return spec and network of a weights folder, the network in evaluation mode.

    Raises
    ------
    ManifestError
        If manifest or weights are missing, changed, or do not fit the architecture.
    """
    spec = verify(folder)
    try:
        network = build(spec)
        tensors = {name: t.float() for name, t in load_file(folder / WEIGHTS_NAME).items()}
        network.load_state_dict(tensors)
        require_finite(tensors)
    except (RuntimeError, TypeError, ValueError, SafetensorError) as err:
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {err}") from err
    return spec, network.to(device).eval()


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are numbers.

    Steps that batch normalization counted are no weights: float16 of former files lacks the large
    ones.

    Raises
    ------
    ValueError
        If one is infinite or none: each answer would be the first class.
    """
    for name, tensor in tensors.items():
        if not name.endswith(STEP_COUNT) and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds what is no finite number")


def save_network(folder: Path, spec: ModelSpec, network: nn.Module) -> ModelSpec:
    """Write weights and manifest; return the spec with the weights' checksum.

    Weights are float16: half the size, and no class of an answer changes. Whole numbers, which only
    count steps, end at the largest float16.

    Raises
    ------
    ManifestError
        If a weight is no finite number of float16, and nothing is written; or the disk is full.
    """
    tensors = {
        name: (t if t.is_floating_point() else t.clamp(max=_MOST))
        .detach()
        .to("cpu", torch.float16)
        .contiguous()
        for name, t in network.state_dict().items()
    }
    try:
        require_finite(tensors)
    except ValueError as err:
        raise ManifestError(
            f"{folder}: {err}, and nothing was written. Train with a lower learning_rate."
        ) from err
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not `save_file`: its error of a full disk is no OSError.
        (folder / WEIGHTS_NAME).write_bytes(save(tensors))
        spec = replace(spec, sha256=file_sha256(folder / WEIGHTS_NAME))
        (folder / MANIFEST_NAME).write_text(spec.to_json())
    except OSError as err:
        if err.errno not in FULL:
            raise
        raise ManifestError(f"{folder}: {err.strerror}. Make room, and run it again.") from err
    return spec


def save_untrained(folder: Path, spec: ModelSpec) -> ModelSpec:
    """Write the untrained network of `spec`, with the same random weights each time; to time it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return save_network(folder, spec, build(spec))
