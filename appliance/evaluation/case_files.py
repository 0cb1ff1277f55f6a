"""Files of a case with known truth, as ``tandem synth`` writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.findings.classes import CLASS_NAMES
from appliance.geometry import TILE_UM, TileGrid, TileIndex
from models.datasets.images import read_rgb
from models.errors import DataSetError
from models.synthesis.receptors import RECEPTORS

COARSEST = 1.25
"""Largest size of a px of the true classes, in px of the label map."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """A pair of slides and its truth, as ``tandem synth`` writes them."""

    he: Path
    ihc: Path
    truth: Path


def find_cases(folder: Path) -> list[CaseFiles]:
    """Cases in `folder`: ``truth/CASE.json`` with ``CASE_HE.*`` and ``CASE_HER2.*`` above it.

    The truth of an ER or PR slide of the block (``truth/CASE_ER.json``) is left alone.

    Raises
    ------
    DataSetError
        If there is none, or one lacks a slide.
    """
    cases = []
    for truth in sorted(folder.rglob("truth/*.json")):
        if truth.stem.endswith(tuple(f"_{receptor}" for receptor in RECEPTORS)):
            continue
        home = truth.parent.parent
        he, ihc = (_slide(home, f"{truth.stem}_{stain}") for stain in ("HE", "HER2"))
        if he is None or ihc is None:
            raise DataSetError(f"{truth}: no {truth.stem}_HE.* and {truth.stem}_HER2.* in {home}.")
        cases.append(CaseFiles(he=he, ihc=ihc, truth=truth))
    if not cases:
        raise DataSetError(
            f"{folder}: no pairs with truth (truth/CASE.json beside CASE_HE.svs and "
            "CASE_HER2.svs, as `tandem synth` writes them). For tiles: tandem evaluate tiles."
        )
    return cases


def read_truth(path: Path) -> dict[str, Any]:
    """Facts of a case's truth.

    Raises
    ------
    DataSetError
        If the file cannot be read, or lacks what ``tandem synth`` writes.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise DataSetError(f"{path}: not readable as a case's truth ({err}).") from err
    needed = {"score", "masks_mpp", "classes_mpp", "percent"}
    if missing := needed - set(facts):
        raise DataSetError(
            f"{path}: no {min(missing)!r}; a case's truth is as `tandem synth` writes it."
        )
    if facts["score"] not in CLASS_NAMES:
        raise DataSetError(f"{path}: score {facts['score']!r}: use {', '.join(CLASS_NAMES)}.")
    return facts


def read_true_tumor(truth: Path) -> Floats:
    """True tumor on the H&E slide, float32 0 or 1, at the truth's ``masks_mpp``."""
    mask = read_rgb(truth.with_name(f"{truth.stem}_he_tumor.png"))[..., 0]
    return (mask > 127).astype(np.float32)


def read_true_classes(truth: Path, classes_mpp: float, mpp: float) -> NDArray[np.uint8]:
    """True label map of the IHC slide, uint8 0-4, at `mpp`; its file is at `classes_mpp`.

    Raises
    ------
    DataSetError
        If the file's px are much larger than those of `mpp`: borders would be in wrong places.
    """
    if classes_mpp > COARSEST * mpp:
        raise DataSetError(
            f"{truth}: classes at {classes_mpp:.3f} µm/px are too coarse to be compared with a "
            f"label map at {mpp:.3f} µm/px."
        )
    classes = read_rgb(truth.with_name(f"{truth.stem}_ihc_classes.png"))[..., 0]
    if abs(classes_mpp - mpp) <= 1e-3:
        return classes
    # The label at each px's center.
    rows, columns = (
        np.minimum((np.arange(round(n * classes_mpp / mpp)) + 0.5) * mpp / classes_mpp, n - 1)
        for n in classes.shape
    )
    found: NDArray[np.uint8] = classes[rows.astype(int)[:, None], columns.astype(int)]
    return found


def tumor_shares(mask: Floats, grid: TileGrid, mpp: float) -> Floats:
    """Tumor share (rows, columns of `grid`) of each tile, from a mask of the slide at `mpp`."""
    shares = np.zeros(grid.shape, dtype=np.float32)
    for row in range(grid.rows):
        for column in range(grid.columns):
            tile = part_in_tile(mask, mpp, TileIndex(column, row))
            # Divide by a whole tile: the part of a border tile outside the slide is glass.
            shares[row, column] = tile.sum() / round(TILE_UM / mpp) ** 2
    return np.minimum(shares, 1)


def part_in_tile(raster: NDArray[Any], mpp: float, index: TileIndex) -> NDArray[Any]:
    """The part of a slide-wide raster that lies in a tile; smaller at the slide's edge."""
    x, y = (round(k * TILE_UM / mpp) for k in (index.column, index.row))
    size = round(TILE_UM / mpp)
    return raster[y : y + size, x : x + size]


def _slide(home: Path, stem: str) -> Path | None:
    return min(home.glob(f"{stem}.*"), default=None)
