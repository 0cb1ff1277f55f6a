"""Weights of a slide-level system on disk: safetensors, and a manifest with their checksum."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from models.errors import ManifestError
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask
from models.spec import MANIFEST_NAME, STEP_COUNT, WEIGHTS_NAME, check_weights, file_sha256

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSpec:
    """Description of one set of slide-level weights.

    `system` is a name in `models.slide_level.system.SYSTEMS`. `input` says what a slide is brought
    to before it is read (size in px, normalization, encoder); `config` holds the network's own
    numbers. `temperature` (> 0) divides the logits. `trained` and `figures` are for people.

    Raises
    ------
    ValueError
        If the temperature is not a positive number, or the classes are not those of the task.
    """

    name: str
    version: str
    system: str
    task: SlideTask
    classes: tuple[str, ...]
    input: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    sha256: str = ""
    trained: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature}: must be a positive number")
        if self.classes != SLIDE_CLASSES[self.task]:
            raise ValueError(f"classes {self.classes} are not those of the task {self.task}")

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything that an answer depends on: weights, input, temperature, …"""
        facts = {k: v for k, v in asdict(self).items() if k not in ("trained", "figures")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of the manifest."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def reference_overview() -> Path:
    """Folder of the overview's network that is part of this distribution."""
    return Path(__file__).parents[1] / "reference" / "overview"


def read_slide_manifest(folder: Path) -> SlideSpec:
    """Read ``folder/manifest.json``.

    Raises
    ------
    ManifestError
        If the file is missing, is not JSON, or has unknown or missing keys.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = json.loads(path.read_text())
        raw["task"] = SlideTask(raw["task"])
        raw["classes"] = tuple(raw["classes"])
        return SlideSpec(**raw)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ManifestError(
            f"{path}: not a usable manifest of a slide-level system ({err}). Train it again."
        ) from err


def verify_slide_weights(folder: Path) -> SlideSpec:
    """Return the manifest of `folder` after a check of the weights against its checksum.

    Raises
    ------
    ManifestError
        If the manifest is unusable, or the weights are missing or their checksum differs.
    """
    spec = read_slide_manifest(folder)
    check_weights(folder, spec.sha256)
    return spec


def save_slide_weights(
    folder: Path, spec: SlideSpec, tensors: Tensors, exact: Tensors | None = None
) -> SlideSpec:
    """Write weights as float16 and the manifest; return the spec with the weights' checksum.

    `exact` are arrays that keep their type, as the limits of a decision tree must.

    Raises
    ------
    ManifestError
        If a weight is no finite number of float16. Nothing is written.
    OSError
        If the folder cannot be written, as on a full disk.
    """
    stored = {name: _halved(t) for name, t in tensors.items()}
    if lost := _not_finite(stored):
        raise ManifestError(
            f"{folder}: {lost} holds what is no finite number: the training diverged. Nothing was "
            "written."
        )
    folder.mkdir(parents=True, exist_ok=True)
    stored |= {name: np.ascontiguousarray(t) for name, t in (exact or {}).items()}
    # Not `save_file`: its error of a full disk is no OSError.
    (folder / WEIGHTS_NAME).write_bytes(save(stored))
    spec = replace(spec, sha256=file_sha256(folder / WEIGHTS_NAME))
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    return spec


def load_slide_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the weights of a verified folder: float16 as float32, others as they are stored.

    Raises
    ------
    ManifestError
        If the file is no safetensors file, or a weight of it is no finite number.
    """
    path = folder / WEIGHTS_NAME
    try:
        stored: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as err:
        raise ManifestError(f"{path}: not readable weights ({err}). Train it again.") from err
    if lost := _not_finite(stored):
        raise ManifestError(f"{path}: {lost} holds what is no finite number. Train it again.")
    return {n: t.astype(np.float32) if t.dtype == np.float16 else t for n, t in stored.items()}


def _halved(array: NDArray[Any]) -> NDArray[np.float16]:
    """Return numbers as float16; whole ones, which only count steps, end at the largest."""
    if np.issubdtype(array.dtype, np.integer):
        array = np.minimum(array, int(np.finfo(np.float16).max))
    return np.ascontiguousarray(array, dtype=np.float16)


def _not_finite(stored: Tensors) -> str:
    """Name a weight that is no finite number, empty without one.

    Weights are float16. Steps that batch normalization counted are none: former files lack large
    ones.
    """
    weights = {n: t for n, t in stored.items() if t.dtype == np.float16}
    lost = (
        n for n, t in weights.items() if not n.endswith(STEP_COUNT) and not np.isfinite(t).all()
    )
    return next(lost, "")


def reference_slide_folder(name: str) -> Path:
    """Return the folder of slide-level reference weights that are part of this distribution."""
    return Path(__file__).parents[1] / "reference" / name


def add_figures(folder: Path, figures: Mapping[str, Any]) -> SlideSpec:
    """Write figures into the manifest of a folder; return the spec. Weights stay as they are."""
    spec = read_slide_manifest(folder)
    spec = replace(spec, figures=spec.figures | dict(figures))
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    return spec
