"""Encoders with their weights: ours, and vision transformers in transformers' format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.encoders.convolutional import ConvolutionalEncoder, ConvolutionalShape
from models.encoders.spec import CONFIG_NAME, EncoderSpec, fits_float16, verify_encoder
from models.errors import ManifestError, is_short
from models.pixels import Pixels
from models.spec import WEIGHTS_NAME
from models.vit import VisionTransformer, VitShape

KINDS = ("vit", "dinov2", "dinov2_with_registers")
"""Types of networks in transformers' format that are read: those that answer with a class token."""
_UNUSED = "mask_token"
"""Tensor of training alone, which exports may leave out."""


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
        architecture is unknown, takes no tiles of the manifest's size, or the vectors are no finite
        numbers, too large for a bag, or have another dimension than the manifest states.
    OSError, MemoryError, RuntimeError
        If the machine is short of memory, threads or open files.
    """
    return encoder_of(folder, verify_encoder(folder), device)


def encoder_of(folder: Path, spec: EncoderSpec, device: str = "cpu") -> Encoder:
    """Return the encoder of a folder by a manifest that need not lie in it; raises as above."""
    try:
        # Where too many files are open, safetensors says that there is no such file.
        (folder / WEIGHTS_NAME).open("rb").close()
        if spec.architecture == "transformers":
            trunk = _of_transformers(folder)
        else:
            trunk = build_trunk(spec)
            tensors = load_file(folder / WEIGHTS_NAME)
            trunk.load_state_dict({name: t.float() for name, t in tensors.items()})
        # On the CPU: an error of the device is not the encoder's.
        blank = np.full((1, spec.tile_px, spec.tile_px, 3), 255, dtype=np.uint8)
        vectors = Encoder(spec, trunk).encode(blank)
    except (RuntimeError, TypeError, ValueError, OSError, SafetensorError) as err:
        if is_short(err):
            raise
        said = " ".join(str(err).split())[:300]
        raise ManifestError(f"{folder}: the weights do not fit the architecture: {said}") from err
    if not np.isfinite(vectors).all():
        raise ManifestError(
            f"{folder}: the encoder's answer is no finite number. Export the encoder again."
        )
    if not fits_float16(vectors):
        raise ManifestError(
            f"{folder}: the encoder's answer has numbers beyond 65504, which a bag cannot hold "
            "(float16). Export the encoder with its last normalization."
        )
    if vectors.shape[1] != spec.dimension:
        raise ManifestError(
            f"{folder}: the encoder gives {vectors.shape[1]} numbers per tile, its manifest states "
            f"{spec.dimension}. Correct 'dimension', or install the weights that belong to it."
        )
    return Encoder(spec, trunk, device)


def build_trunk(spec: EncoderSpec) -> nn.Module:
    """Return the untrained network of an architecture of ours; ``forward(pixels)`` gives (N, D).

    Raises
    ------
    TypeError
        If `spec.config` has an unknown key.
    """
    numbers: dict[str, Any] = dict(spec.config)
    if spec.architecture == "vit":
        return _ClassToken(VisionTransformer(VitShape(**numbers), spec.tile_px))
    if "widths" in numbers:
        numbers["widths"] = tuple(numbers["widths"])
    return ConvolutionalEncoder(ConvolutionalShape(**numbers))


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


def _of_transformers(folder: Path) -> nn.Module:
    """Return the network of a folder in transformers' format; no code of the folder is run.

    Raises
    ------
    ManifestError
        If the configuration cannot be read, is of another type, or tensors are missing.
    """
    # It costs seconds; encoders of ours do without.
    from transformers import AutoModel
    from transformers.utils import logging

    path = folder / CONFIG_NAME
    try:
        kind = json.loads(path.read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        if is_short(err):
            raise
        raise ManifestError(f"{path}: not a configuration of transformers ({err}).") from err
    if kind not in KINDS:
        raise ManifestError(
            f"{path}: networks of type {kind!r} are not read; there are: {', '.join(KINDS)}."
        )
    options = {"add_pooling_layer": False} if kind == "vit" else {}
    # What it would warn of is an error below.
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, loading = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, dtype=torch.float32, **options,
        )  # fmt: skip
    finally:
        logging.set_verbosity(said)
        logging.enable_progress_bar()
    missing = sorted(name for name in loading["missing_keys"] if not name.endswith(_UNUSED))
    if missing:
        raise ManifestError(
            f"{folder / WEIGHTS_NAME}: {len(missing)} tensors are missing, such as {missing[0]}. "
            "Export the encoder again."
        )
    return _ClassToken(network, read=_last_hidden_state)
