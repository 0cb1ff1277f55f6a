"""Description of a network without loading one: torch-free facts from its manifest."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.errors import CalibrationError, ManifestError, is_short
from models.site_calibration import SiteCalibration

MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "MODEL_CARD.md"
STEP_COUNT = "num_batches_tracked"
"""End of the name of a tensor that counts steps of training; no answer depends on it."""
TILE_PX = 512
"""Edge in px of the tiles that networks are made for (arXiv 2512.22335, Eq. 1-2)."""
TILE_MPP = 0.2793
"""Resolution of these tiles in µm per px."""
TUMOR_SHARE = 0.1
"""Least share of tumor of a tumor tile. Annotated data sets use 5 % (overlap rule of arXiv
2503.22069), because hand-drawn outlines are inexact. Where the share is exact, a network trained
with 5 % also calls tiles with 2 %."""
LABEL_STEP = 4
"""Tile px per label px: M answers at a quarter of the tile's resolution."""


class Task(StrEnum):
    """Question that a network answers."""

    TUMOR = "tumor"  #: C: presence of tumor on an H&E tile
    INTENSITY = "intensity"  #: L: stain intensity of an IHC tile: none, faint, weak, strong
    SEGMENTATION = "segmentation"  #: M: per-pixel class of an IHC tile


CLASSES: dict[Task, tuple[str, ...]] = {
    Task.TUMOR: ("other", "tumor"),
    Task.INTENSITY: ("none", "faint", "weak", "strong"),
    Task.SEGMENTATION: ("background", "0", "1+", "2+", "3+"),
}
"""Class names by task, in the order of the network's outputs.

``background`` of M is all that is not tumor: glass, and stroma, lymphocytes, necrosis and benign
epithelium, however they are stained. ``0`` is unstained tumor. In arXiv 2512.22335 class 0 is the
plain background alone.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Description of one set of weights, or of a network to be trained.

    Input: `tile_px` x `tile_px` px tiles at `mpp` µm/px; the network itself resizes them to
    `input_px`. `mean` and `std` normalize its input: RGB in 0-1 if `pixels` is ``rgb``, optical
    density (Beer-Lambert) per channel if it is ``optical-density``.
    `config` holds the architecture's own parameters (hidden size, layers, …).
    `temperature` (> 0) divides the logits (calibration, `models.training.calibration`).
    `appearance` describes the training tiles (`models.appearance`); None: unknown.
    `trained` and `figures` are for people; ``figures["real"]`` says in one sentence without a full
    stop what the network did on real images, for reports.
    `site` is the calibration of the site where the weights are in use; None: not calibrated there.
    It lies beside the weights and is no part of the manifest.

    Raises
    ------
    ValueError
        If the temperature is not a positive number.
    CalibrationError
        If the site's calibration belongs to other weights or has another number of classes.
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
    site: SiteCalibration | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature}: must be a positive number")
        if self.site is None:
            return
        if self.site.weights != self.weights_fingerprint or self.site.task != self.task:
            raise CalibrationError(f"belongs to other weights than {self.name} {self.version}")
        if len(self.site.offsets) != len(self.classes):
            raise CalibrationError(f"{len(self.site.offsets)} offsets, {len(self.classes)} classes")

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything that an answer depends on: weights, calibration, classes, …

        The weights' checksum alone does not cover the facts of the manifest. Without a site's
        calibration it is `weights_fingerprint`.
        """
        if self.site is None:
            return self.weights_fingerprint
        both = f"{self.weights_fingerprint} {self.site.fingerprint}"
        return hashlib.sha256(both.encode()).hexdigest()

    @property
    def weights_fingerprint(self) -> str:
        """Hex SHA-256 of everything that an answer depends on but the site's calibration."""
        facts = {k: v for k, v in asdict(self).items() if k not in ("trained", "figures", "site")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of the manifest."""
        facts = {name: value for name, value in asdict(self).items() if name != "site"}
        return json.dumps(facts, indent=2, sort_keys=True) + "\n"


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
        if "site" in raw:
            raise ValueError("a site's calibration is no part of a manifest")
        return ModelSpec(**raw)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ManifestError(
            f"{path}: not a usable manifest ({err}). Export the weights again."
        ) from err


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(folder: Path) -> ModelSpec:
    """Return the manifest of `folder` after a check of the weights against its checksum.

    Raises
    ------
    ManifestError
        If the manifest is unusable, or the weights are missing or their checksum differs.
    """
    spec = read_manifest(folder)
    check_weights(folder, spec.sha256)
    return spec


def check_weights(folder: Path, sha256: str) -> None:
    """Check the weights of `folder` against the checksum of its manifest.

    Raises
    ------
    ManifestError
        If the weights are missing, cannot be read, or their checksum differs.
    OSError
        If the machine is short of memory or open files.
    """
    weights = folder / WEIGHTS_NAME
    try:
        if not weights.is_file():
            raise ManifestError(f"{weights} is missing. Install the weights again.")
        actual = file_sha256(weights)
    except OSError as err:
        if is_short(err):
            raise
        raise ManifestError(f"{weights} cannot be read: {err.strerror}.") from err
    if actual != sha256:
        raise ManifestError(
            f"{weights}: checksum {actual[:12]}… is not the manifest's {sha256[:12]}…. "
            "The file was changed or damaged; install the weights again."
        )


def reference_folder(task: Task) -> Path:
    """Folder of the reference weights of `task` that are part of this distribution."""
    return Path(__file__).parent / "reference" / task.value
