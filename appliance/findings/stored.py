"""What a step leaves for the next: the files in its artifact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.findings.findings import ModelReference
from appliance.readers.cell_tally import CellTally
from appliance.readers.reading import TileReadings
from appliance.registration.alignment import Alignment
from models.spec import ModelSpec


def folder_of(key: str, store: ArtifactStore) -> Path:
    """Folder of the artifact that a step's outcome names."""
    return store.path(ArtifactKey.parse(key))


def save_unreadable(folder: Path, percent: float) -> None:
    """Write which share (0-100) of the tiles asked for the slide's file did not give."""
    (folder / "reading.json").write_text(json.dumps({"unreadable_percent": percent}))


def load_unreadable(folder: Path) -> float:
    """Read what `save_unreadable` wrote."""
    return float(json.loads((folder / "reading.json").read_text())["unreadable_percent"])


def save_readings(folder: Path, tiles: TileReadings, read: NDArray[np.uint8], mpp: float) -> None:
    """Write what L and M say of each tile, how each tile of the grid was `read`, and the `mpp` of
    the label map beside it."""
    np.savez_compressed(
        folder / "tiles.npz",
        places=tiles.places,
        intensity=tiles.intensity,
        certainty=tiles.certainty,
        counts=tiles.counts,
        read=read,
        mpp=mpp,
    )
    cells = {number: asdict(tally) for number, tally in tiles.cells.items()}
    (folder / "cells.json").write_text(json.dumps(cells))


def load_readings(folder: Path) -> tuple[TileReadings, NDArray[np.uint8], float]:
    """Read what `save_readings` wrote."""
    cells = json.loads((folder / "cells.json").read_text())
    with np.load(folder / "tiles.npz", allow_pickle=False) as arrays:
        tiles = TileReadings(
            places=arrays["places"],
            intensity=arrays["intensity"],
            certainty=arrays["certainty"],
            counts=arrays["counts"],
            cells={
                int(number): CellTally(**{name: tuple(v) for name, v in tally.items()})
                for number, tally in cells.items()
            },
        )
        return tiles, arrays["read"], float(arrays["mpp"])


def load_probability(read: Path) -> NDArray[np.float32]:
    """C's answers on an H&E slide, float32 (rows, columns of its tile grid), NaN where none."""
    probability: NDArray[np.float32] = np.load(read / "probability.npy", allow_pickle=False)
    return probability


def load_alignment(key: str, store: ArtifactStore) -> Alignment:
    """How a pair's slides lie on each other."""
    return Alignment.load(folder_of(key, store))


def save_models(folder: Path, specs: Sequence[ModelSpec]) -> None:
    """Write ``models.json``: who said what the artifact holds."""
    said = [
        ModelReference(
            task=spec.task.value,
            name=spec.name,
            version=spec.version,
            sha256=spec.sha256,
            fingerprint=spec.fingerprint,
        )
        for spec in specs
    ]
    (folder / "models.json").write_text(json.dumps([asdict(model) for model in said]))


def load_models(folder: Path) -> list[ModelReference]:
    """Read what `save_models` wrote."""
    return [ModelReference(**raw) for raw in json.loads((folder / "models.json").read_text())]
