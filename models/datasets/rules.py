"""Rules for labels of tiles. Source: arXiv 2503.22069 (approach 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError
from models.patch_counts.patches import OVERLAP
from models.spec import CLASSES, Task

IGNORE = "ignore"
"""Class in `names` that marks annotations to be skipped."""
_NO_TUMOR = (
    *("stroma", "normal", "normal stroma", "necrosis", "immune cells", "blood", "blood cells"),
    *("artifact", "artifacts", "artefact", "artefacts", "tissue artifact", "tissue artifacts"),
)
"""Names of what is no tumor: those of section 4.2 of arXiv 2512.22335, and QuPath's own."""
_SPELLINGS: dict[Task, dict[str, str]] = {
    Task.TUMOR: {"tumour": "tumor", "tumor cells": "tumor"},
    Task.INTENSITY: {"0": "none", "1+": "faint", "2+": "weak", "3+": "strong"},
    Task.SEGMENTATION: {"none": "0", "faint": "1+", "weak": "2+", "strong": "3+"},
}
"""Other ways to write a class, also where a caller's name is translated to it."""
_OTHERS: dict[Task, dict[str, str]] = {
    Task.TUMOR: dict.fromkeys(_NO_TUMOR, "other"),
    Task.INTENSITY: dict.fromkeys(("background", "plain", "other", *_NO_TUMOR), IGNORE),
    Task.SEGMENTATION: dict.fromkeys(("plain", "other", *_NO_TUMOR), "background"),
}
"""Class names of QuPath and of the papers for what is no tumor. L is asked about tumor alone:
what is none is skipped."""


def class_of(task: Task, name: str, names: Mapping[str, str]) -> int | None:
    """Return the index of the class that `name` means, None if it is to be skipped.

    `names` is the caller's dictionary and precedes the usual names. Case does not matter.

    Raises
    ------
    DataSetError
        If the name is unknown. The caller adds the file.
    """
    own = {key.casefold(): value for key, value in names.items()}
    key = name.casefold()
    meant = own.get(key, _OTHERS[task].get(key, key)).casefold()
    meant = _SPELLINGS[task].get(meant, meant)
    if meant in (IGNORE, f"{IGNORE}*"):
        return None
    if meant not in CLASSES[task]:
        known = ", ".join(CLASSES[task])
        raise DataSetError(
            f"class {name!r} is unknown for {task}. Known: {known}. "
            f"Translate it with --class '{name}=CLASS', or skip it with '{name}={IGNORE}'."
        )
    return CLASSES[task].index(meant)


def is_ignored(name: str, names: Mapping[str, str]) -> bool:
    """Return whether areas of a class are to be ignored by their own name, as ``Ignore*``.

    What L skips because it is no tumor is named tissue. `names` is as in `class_of`.
    """
    own = {key.casefold(): value for key, value in names.items()}
    key = name.casefold()
    return own.get(key, key).casefold() in (IGNORE, f"{IGNORE}*")


def labels_nothing(name: str, names: Mapping[str, str]) -> bool:
    """Return whether areas of a class lie over others and are no label, as ``Region*``.

    QuPath marks such classes by an asterisk. ``Ignore*`` is another matter: what it covers is
    skipped. `names` takes precedence, as in `class_of`.
    """
    key = name.casefold()
    return key.endswith("*") and key != f"{IGNORE}*" and key not in map(str.casefold, names)


def tile_label(task: Task, shares: NDArray[np.float64]) -> int | None:
    """Return the label of a tile from the share (0-1) per class, None if none reaches `OVERLAP`.

    Tumor precedes every other class, as in the generator. Of intensities the largest share wins.
    """
    counts = shares >= OVERLAP
    if not counts.any():
        return None
    if task is Task.TUMOR:
        return int(counts[1])
    return int(np.where(counts, shares, 0).argmax())
