"""Patches of one slide at one resolution, with the class that an annotation gives each.

The file is safetensors; patches are JPEG-coded in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from models.errors import FULL, DataSetError
from models.patch_counts.resolutions import PATCH_PX, RESOLUTIONS

SUFFIX = ".safetensors"
UNLABELED = -1
"""Label of a patch that no annotation covers enough."""
CLASSES = 4
"""Classes of patches: 0, 1+, 2+, 3+."""
OVERLAP = 0.05
"""Least share of a patch or tile that an annotation covers, for its class to count."""
_QUALITY = 95
_LIMIT = 0.10
"""Share of tumor cells above which a score counts (ASCO/CAP), in the truth of a drawn patch."""
_LEAST_TUMOR = 0.05
"""Share of a drawn patch that is tumor, below which the patch has no score of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSet:
    """Patches of a slide, row by row of its grid.

    Attributes
    ----------
    slide
        Name of the slide, for messages.
    resolution
        Name in `RESOLUTIONS`.
    coded
        JPEG of each patch, as cut: RGB, 224 px, glass at 255. Neither excluded by its whiteness nor
        equalized; patches that are glass alone are left out.
    places
        int32 (n, 2): column and row of each patch in the grid.
    labels
        int8 (n,): class of the annotation that covers `OVERLAP` or more, else `UNLABELED`.
    truth
        float16 (n, 5): share (0-1) of a drawn patch that is background and tumor cells of 0, 1+,
        2+, 3+; None where nobody knows.

    Raises
    ------
    DataSetError
        If the resolution or a label is unknown, or a shape differs.
    """

    slide: str
    resolution: str
    coded: tuple[bytes, ...]
    places: NDArray[np.int32]
    labels: NDArray[np.int8]
    truth: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        n = len(self.coded)
        if self.resolution not in RESOLUTIONS:
            known = ", ".join(RESOLUTIONS)
            raise DataSetError(f"{self.slide}: resolution {self.resolution!r} is none of {known}.")
        if self.places.shape != (n, 2) or self.labels.shape != (n,):
            raise DataSetError(f"{self.slide}: {n} patches need places ({n}, 2), labels ({n},).")
        if self.truth is not None and self.truth.shape != (n, 5):
            raise DataSetError(f"{self.slide}: the truth of patches has shape (n, 5).")
        if n and not (self.labels.min() >= UNLABELED and self.labels.max() < CLASSES):
            raise DataSetError(f"{self.slide}: a label is none of {UNLABELED} to {CLASSES - 1}.")

    def __len__(self) -> int:
        return len(self.coded)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Return a patch: uint8 RGB (224, 224, 3).

        Raises
        ------
        DataSetError
            If it cannot be decoded, or has another size.
        """
        read = cv2.imdecode(np.frombuffer(self.coded[number], np.uint8), cv2.IMREAD_COLOR)
        if read is None or read.shape != (PATCH_PX, PATCH_PX, 3):
            raise DataSetError(f"{self.slide}: patch {number} is no picture of {PATCH_PX} px.")
        pixels: NDArray[np.uint8] = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
        return pixels

    def own_labels(self) -> NDArray[np.int8]:
        """Return the score of each drawn patch by its own cells, int8 (n,), where it is labeled.

        The score is the guideline's: the highest one that more than 10 % of the tumor cells have or
        exceed. Patches without label or with less than 5 % tumor are `UNLABELED`.

        Raises
        ------
        DataSetError
            If the truth of the patches is not known.
        """
        if self.truth is None:
            raise DataSetError(f"{self.slide}: the truth of its patches is not known.")
        cells = self.truth[:, 1:].astype(np.float64)
        tumor = cells.sum(axis=1)
        at_least = cells[:, ::-1].cumsum(axis=1)[:, ::-1] / np.maximum(tumor, 1e-6)[:, None]
        # `at_least` falls with the score: the last one above the limit is the highest.
        score = (at_least > _LIMIT).sum(axis=1) - 1
        known = (self.labels != UNLABELED) & (tumor >= _LEAST_TUMOR)
        return np.where(known, score, UNLABELED).astype(np.int8)


def coded(pixels: NDArray[np.uint8]) -> bytes:
    """Return the JPEG of a patch, uint8 RGB (224, 224, 3)."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    _, stream = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)
    return bytes(stream.tobytes())


def save_patches(patches: PatchSet, path: Path) -> None:
    """Write patches, whole or not at all; folders on the way are made.

    Raises
    ------
    DataSetError
        If the disk is full.
    """
    tensors: dict[str, NDArray[Any]] = {
        "coded": np.frombuffer(b"".join(patches.coded), np.uint8),
        "ends": np.cumsum([len(one) for one in patches.coded], dtype=np.int64),
        "places": patches.places,
        "labels": patches.labels,
    }
    if patches.truth is not None:
        tensors["truth"] = patches.truth
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    facts = json.dumps({"slide": patches.slide, "resolution": patches.resolution})
    hidden = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not `save_file`: its error of a full disk is no OSError.
        hidden.write_bytes(save(tensors, metadata={"patches": facts}))
        hidden.replace(path)
    except OSError as err:
        if err.errno not in FULL:
            raise
        raise DataSetError(f"{path.parent}: {err.strerror}. Make room.") from err


def load_patches(path: Path) -> PatchSet:
    """Read what `save_patches` wrote.

    Raises
    ------
    DataSetError
        If the file is missing, damaged, or holds no patches.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["patches"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stream, ends = tensors.pop("coded").tobytes(), tensors.pop("ends").tolist()
        starts = [0, *ends[:-1]]
        parts = tuple(stream[a:b] for a, b in zip(starts, ends, strict=True)) if ends else ()
        return PatchSet(**facts, coded=parts, **tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as err:
        raise DataSetError(f"{path}: no file of patches ({err}). Cut the slide again.") from err
