"""Weights on disk: safetensors, and a manifest with their checksum. No pickles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from models.build import build
from models.errors import ManifestError
from models.spec import MANIFEST_NAME, WEIGHTS_NAME, ModelSpec, file_sha256, verify


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
    except (RuntimeError, TypeError, ValueError, SafetensorError) as err:
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {err}") from err
    return spec, network.to(device).eval()


def save_network(folder: Path, spec: ModelSpec, network: nn.Module) -> ModelSpec:
    """Write weights and manifest; return the spec with the weights' checksum.

    Weights are float16: half the size, and no class of an answer changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: t.detach().to("cpu", torch.float16).contiguous()
        for name, t in network.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS_NAME)
    spec = replace(spec, sha256=file_sha256(folder / WEIGHTS_NAME))
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    return spec


def save_untrained(folder: Path, spec: ModelSpec) -> ModelSpec:
    """Write the untrained network of `spec`, with the same random weights each time; to time it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return save_network(folder, spec, build(spec))
