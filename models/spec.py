"""What a network is, without loading one: torch-free facts, read from its manifest."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.errors import ManifestError

MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "MODEL_CARD.md"
TILE_PX = 512
"""Edge in px of the tiles that networks are made for (arXiv 2512.22335, Eq. 1-2)."""
TILE_MPP = 0.2793
"""Their resolution in µm per px."""


class Task(StrEnum):
    """What a network answers."""

    TUMOR = "tumor"  #: C: is there tumor on this H&E tile
    INTENSITY = "intensity"  #: L: stain intensity of an IHC tile: none, faint, weak, strong
    SEGMENTATION = "segmentation"  #: M: per-pixel class of an IHC tile


CLASSES: dict[Task, tuple[str, ...]] = {
    Task.TUMOR: ("other", "tumor"),
    Task.INTENSITY: ("none", "faint", "weak", "strong"),
    Task.SEGMENTATION: ("background", "0", "1+", "2+", "3+"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One set of weights, or one that can be trained.

    `tile_px` x `tile_px` px tiles at `mpp` µm/px go in; the network itself resizes them to
    `input_px`. `mean` and `std` normalise what the network sees: RGB in 0-1 when `pixels` is
    ``rgb``, optical density (Beer-Lambert) per channel when it is ``optical-density``.
    `config` holds the architecture's own numbers (hidden size, layers, …).
    `temperature` (> 0) divides the logits (calibration, `models.training.calibration`).
    `appearance` says what its training tiles looked like (`models.appearance`); none: unknown.
    `trained` and `figures` are for people.

    Raises
    ------
    ValueError
        If the temperature is not a positive number.
    """

    name: str
    version: str
    task: Task
    architecture: str
    input_px: int
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixels: str = "optical-density"
    tile_px: int = TILE_PX
    mpp: float = TILE_MPP
    temperature: float = 1.0
    appearance: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    trained: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature}: must be a positive number")

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that an answer depends on or states: weights, calibration, classes, …

        The checksum alone does not cover what stands only in the manifest.
        """
        facts = {k: v for k, v in asdict(self).items() if k not in ("trained", "figures")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The manifest's text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read_manifest(folder: Path) -> ModelSpec:
    """Read ``folder/manifest.json``.

    Raises
    ------
    ManifestError
        If the file is missing, is not JSON, or has unknown or missing keys.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = json.loads(path.read_text())
        raw["task"] = Task(raw["task"])
        for key in ("classes", "mean", "std"):
            raw[key] = tuple(raw[key])
        return ModelSpec(**raw)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ManifestError(
            f"{path}: not a usable manifest ({err}). Export the weights again."
        ) from err


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(folder: Path) -> ModelSpec:
    """The manifest of `folder`, once its weights file has the checksum that the manifest states.

    Raises
    ------
    ManifestError
        If the manifest is unusable, the weights are missing or their checksum differs.
    """
    spec = read_manifest(folder)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise ManifestError(f"{weights} is missing. Install the weights again.")
    actual = file_sha256(weights)
    if actual != spec.sha256:
        raise ManifestError(
            f"{weights}: checksum {actual[:12]}… is not the manifest's {spec.sha256[:12]}…. "
            "The file was changed or damaged; install the weights again."
        )
    return spec


def reference_folder(task: Task) -> Path:
    """Folder of the reference weights that ship for `task`."""
    return Path(__file__).parent / "reference" / task.value
