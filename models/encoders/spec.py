"""Description of an encoder without loading it: torch-free facts from the manifest of its folder.

An encoder turns a tile into a vector, and its weights are frozen: nothing that is trained on its
vectors changes it. Its folder holds ``manifest.json`` and ``model.safetensors``. An encoder of
transformers' format has its ``config.json`` too, as that library exports it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ManifestError, is_short
from models.spec import MANIFEST_NAME, TILE_MPP, TILE_PX, WEIGHTS_NAME, check_weights, file_sha256

CONFIG_NAME = "config.json"
"""Configuration of a network in transformers' format."""
ARCHITECTURES = ("convolutional", "vit", "transformers")
"""``convolutional`` and ``vit`` are ours, ``transformers`` is read from `CONFIG_NAME`."""
TILE_UM = TILE_PX * TILE_MPP
"""Edge of the tiles in which slides are read."""
ROUNDED = 1.01
"""Largest ratio of an encoder's tile to one of the grid at which it counts as that size. Encoders
name their resolution with two digits, and 224 px at 0.64 µm/px are a px wider than the grid's."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Suffixes of weights that are pickles: to load one runs whatever code it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Facts of an encoder.

    Input: tiles of `tile_px` x `tile_px` px at `mpp` µm/px with glass at 255. `mean` and `std`
    normalize them: RGB in 0-1 if `pixels` is ``rgb``, optical density (Beer-Lambert) per channel if
    it is ``optical-density``. Output: `dimension` numbers per tile. `config` holds the numbers of
    an architecture of ours. `sha256` is that of the weights, `config_sha256` that of
    `CONFIG_NAME`, empty where there is none. `license`, `trained` and `figures` are for people.

    Raises
    ------
    ValueError
        If the architecture is unknown, or a number cannot be.
    """

    name: str
    version: str
    architecture: str
    tile_px: int
    mpp: float
    dimension: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixels: str = "rgb"
    config: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    config_sha256: str = ""
    license: str = ""
    trained: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(f"unknown architecture {self.architecture!r}: {known}")
        if self.pixels not in ("rgb", "optical-density"):
            raise ValueError(f"pixels {self.pixels!r}: rgb or optical-density")
        if not (0 < self.mpp < math.inf and self.tile_px >= 8 and self.dimension >= 1):
            raise ValueError("mpp, tile_px and dimension must be positive, tile_px at least 8")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise ValueError("mean and std need three numbers each, those of std above 0")

    @property
    def input_px(self) -> int:
        """Edge in px of the network's input: the tile's, which is not resized."""
        return self.tile_px

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything that a vector depends on, and of name and version.

        Weights and bags that sites keep name their encoder by it.
        """
        people = ("license", "trained", "figures")
        facts = {name: value for name, value in asdict(self).items() if name not in people}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of the manifest."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read_encoder(folder: Path) -> EncoderSpec:
    """Read the manifest of an encoder's folder.

    Raises
    ------
    ManifestError
        If the file is missing, is not JSON, or states what cannot be.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = json.loads(path.read_text())
        for key in ("mean", "std"):
            raw[key] = tuple(raw[key])
        return EncoderSpec(**raw)
    except FileNotFoundError as err:
        raise ManifestError(
            f"{path} is missing. Describe the encoder: python -m models.encoders.describe --help"
        ) from err
    except (OSError, ValueError, KeyError, TypeError) as err:
        if is_short(err):
            raise
        raise ManifestError(f"{path}: not a usable manifest of an encoder ({err}).") from err


def fits_grid(spec: EncoderSpec) -> bool:
    """Return whether a tile in which slides are read holds one of the encoder's."""
    wide = spec.tile_px * spec.mpp <= ROUNDED * TILE_UM
    return wide or round(TILE_UM / spec.mpp) >= spec.tile_px


def fits_float16(vectors: NDArray[np.float32]) -> bool:
    """Return whether vectors are finite numbers that a bag can hold."""
    largest = np.finfo(np.float16).max
    return bool((np.abs(vectors) <= largest).all())  # False for what is no number


def verify_encoder(folder: Path) -> EncoderSpec:
    """Return the manifest of an encoder after a check of its files against their checksums.

    Raises
    ------
    ManifestError
        If the manifest is unusable, the weights are pickled, or a checksum differs, or a file
        cannot be read.
    OSError
        If the machine is short of memory or open files.
    """
    config = folder / CONFIG_NAME
    try:
        refuse_pickles(folder)
        spec = read_encoder(folder)
        check_weights(folder, spec.sha256)
        other = spec.architecture == "transformers" and (
            not config.is_file() or file_sha256(config) != spec.config_sha256
        )
    except OSError as err:
        if is_short(err):
            raise
        raise ManifestError(f"{folder} cannot be read: {err.strerror}.") from err
    if other:
        raise ManifestError(
            f"{config} is missing or is not the one that the manifest describes. "
            "Install the encoder again."
        )
    return spec


def refuse_pickles(folder: Path) -> None:
    """Refuse a folder that has pickled weights and no others.

    Raises
    ------
    ManifestError
        If it is one.
    """
    if (folder / WEIGHTS_NAME).is_file() or not folder.is_dir():
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise ManifestError(
            f"{folder / pickled[0]}: pickled weights can run code and are not read. "
            f"Export them as safetensors: {WEIGHTS_NAME}."
        )


def reference_encoder() -> Path:
    """Folder of the encoder that is part of this distribution."""
    return Path(__file__).parents[1] / "reference" / "encoder"
