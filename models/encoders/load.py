"""Encoders with their weights: ours, and vision transformers in transformers' format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.encoders.convolutional import ConvolutionalEncoder, ConvolutionalShape
from models.encoders.spec import CONFIG_NAME, EncoderSpec, verify_encoder
from models.errors import ManifestError
from models.pixels import Pixels
from models.spec import WEIGHTS_NAME
from models.vit import VisionTransformer, VitShape

KINDS = ("vit", "dinov2", "dinov2_with_registers")
"""Types of networks in transformers' format that are read: those that answer with a class token."""
_UNUSED = ("pooler.", "classifier.", "head.", "mask_token", "embeddings.mask_token")
"""Beginnings of the names of tensors that an export may hold and that no vector depends on."""


class Encoder:
    """Frozen network on a device, ready to encode tiles."""

    def __init__(self, spec: EncoderSpec, trunk: nn.Module, device: str = "cpu") -> None:
        self.spec, self.device = spec, device
        self._network = nn.Sequential(Pixels(spec), trunk).to(device).eval()

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return vectors, float32 (N, D), of tiles uint8 (N, T, T, 3), glass at 255."""
        with torch.inference_mode():
            pixels = torch.from_numpy(tiles).to(self.device).permute(0, 3, 1, 2)
            vectors: NDArray[np.float32] = self._network(pixels).float().cpu().numpy()
        return vectors


def load_encoder(folder: Path, device: str = "cpu") -> Encoder:
    """Return the encoder of a folder.

    Raises
    ------
    ManifestError
        If the weights are pickled, missing, changed, or do not fit the architecture, the
        architecture is unknown, or the vectors have another dimension than the manifest states.
    """
    spec = verify_encoder(folder)
    try:
        tensors = {name: t.float() for name, t in load_file(folder / WEIGHTS_NAME).items()}
        trunk = build_trunk(spec, folder)
        trunk.load_state_dict(_named(spec, tensors))
    except (RuntimeError, TypeError, ValueError, SafetensorError) as err:
        said = " ".join(str(err).split())[:300]
        raise ManifestError(f"{folder}: the weights do not fit the architecture: {said}") from err
    encoder = Encoder(spec, trunk, device)
    blank = np.full((1, spec.tile_px, spec.tile_px, 3), 255, dtype=np.uint8)
    found = encoder.encode(blank).shape[1]
    if found != spec.dimension:
        raise ManifestError(
            f"{folder}: the encoder gives {found} numbers per tile, its manifest states "
            f"{spec.dimension}. Correct 'dimension', or install the weights that belong to it."
        )
    return encoder


def build_trunk(spec: EncoderSpec, folder: Path) -> nn.Module:
    """Return the untrained network of a manifest; ``forward(pixels)`` gives (N, D).

    Raises
    ------
    ManifestError
        If the configuration of a network in transformers' format cannot be read.
    TypeError
        If `spec.config` has an unknown key.
    """
    if spec.architecture == "convolutional":
        numbers: dict[str, Any] = dict(spec.config)
        if "widths" in numbers:
            numbers["widths"] = tuple(numbers["widths"])
        return ConvolutionalEncoder(ConvolutionalShape(**numbers))
    if spec.architecture == "vit":
        return _ClassToken(VisionTransformer(VitShape(**spec.config), spec.tile_px))
    return _ClassToken(_transformers_network(folder / CONFIG_NAME), read=_last_hidden_state)


class _ClassToken(nn.Module):
    """Vision transformer of which the class token is the vector."""

    def __init__(self, body: nn.Module, read: Callable[[Any], Tensor] = lambda out: out) -> None:
        super().__init__()
        self.body, self._read = body, read

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (N, D) of normalized `pixels` (N, 3, P, P)."""
        tokens = self._read(self.body(pixels))  # (N, 1 + patches, D)
        return tokens[:, 0]


def _last_hidden_state(answer: Any) -> Tensor:
    tokens: Tensor = answer.last_hidden_state
    return tokens


def _transformers_network(path: Path) -> nn.Module:
    """Return the untrained network of a ``config.json``; no code of the folder is run."""
    # It costs seconds; encoders of ours do without.
    from transformers import AutoConfig, AutoModel

    try:
        raw = json.loads(path.read_text())
        kind = raw.pop("model_type")
    except (OSError, ValueError, KeyError) as err:
        raise ManifestError(f"{path}: not a configuration of transformers ({err}).") from err
    if kind not in KINDS:
        raise ManifestError(
            f"{path}: networks of type {kind!r} are not read; there are: {', '.join(KINDS)}."
        )
    config = AutoConfig.for_model(kind, **raw)
    options = {"add_pooling_layer": False} if kind == "vit" else {}
    network: nn.Module = AutoModel.from_config(config, **options)
    if hasattr(network.embeddings, "mask_token"):
        # Of training alone; exports often leave it out.
        network.embeddings.mask_token = None
    return network


def _named(spec: EncoderSpec, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the trunk's names; those of `_UNUSED` are left out."""
    if spec.architecture != "transformers":
        return tensors
    return {f"body.{name}": tensor for name, tensor in _without_head(tensors)}


def _without_head(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        # A network with a head keeps its body under the name of its type.
        first, _, rest = name.partition(".")
        plain = rest if first in ("vit", "dinov2", "dinov2_with_registers") else name
        if not plain.startswith(_UNUSED):
            yield plain, tensor
