"""What makes a tile's label, and which tiles are none. Source: arXiv 2503.22069 (approach 3)."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError
from models.spec import CLASSES, Task

OVERLAP = 0.05
"""A class counts when so much of the tile is of it."""
MAX_WHITE, MAX_BLACK = 0.7, 0.2
"""Tiles with more glass, or more ink, edge or fold, are left out."""
WHITE, BLACK = 235, 40
"""A px is white when its darkest channel is brighter (optical density 0.035; glass is 255), black
when its brightest channel is darker."""
IGNORE = "ignore"
"""As a class in `names`: what is so called is passed over."""
_ALIASES: dict[Task, dict[str, str]] = {
    Task.TUMOR: {"tumour": "tumor", "stroma": "other", "necrosis": "other", "normal": "other",
                 "immune cells": "other"},
    Task.INTENSITY: {"0": "none", "1+": "faint", "2+": "weak", "3+": "strong"},
    Task.SEGMENTATION: {"none": "0", "faint": "1+", "weak": "2+", "strong": "3+",
                        "other": "background", "stroma": "background"},
}  # fmt: skip
"""QuPath's own class names, and the two ways to write a score."""


def class_of(task: Task, name: str, names: Mapping[str, str]) -> int | None:
    """Index of the class that `name` means, or none where it is to be passed over.

    `names` is the caller's own dictionary and goes before the usual names; case is nothing.

    Raises
    ------
    DataSetError
        If nobody knows the name. The caller adds the file.
    """
    own = {key.casefold(): value for key, value in names.items()}
    key = name.casefold()
    meant = own.get(key, _ALIASES[task].get(key, key)).casefold()
    if meant == IGNORE:
        return None
    if meant not in CLASSES[task]:
        known = ", ".join(CLASSES[task])
        raise DataSetError(
            f"class {name!r} is unknown for {task}. Known: {known}. "
            f"Translate it with --class '{name}=CLASS', or pass it over with '{name}={IGNORE}'."
        )
    return CLASSES[task].index(meant)


def tile_label(task: Task, shares: NDArray[np.float64]) -> int | None:
    """Label of a tile from the share (0-1) of each class; none where no class reaches `OVERLAP`.

    Tumor goes before what else is there, as in the generator. Of intensities the widest counts.
    """
    counts = shares >= OVERLAP
    if not counts.any():
        return None
    if task is Task.TUMOR:
        return int(counts[1])
    return int(np.where(counts, shares, 0).argmax())


def usable(tile: NDArray[np.uint8]) -> bool:
    """Not too white and not too black; `tile` uint8 (512, 512, 3), its glass at 255."""
    white = float((tile.min(axis=2) > WHITE).mean())
    black = float((tile.max(axis=2) < BLACK).mean())
    return white <= MAX_WHITE and black <= MAX_BLACK


def clahe(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation of a tile's lightness; same shape."""
    lab = cv2.cvtColor(tile, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    equal: NDArray[np.uint8] = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return equal
