"""Bag: the vectors of a slide's tiles, their places, and where it was drawn the truth of each.

The file is safetensors; it is read without torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from models.errors import DataSetError

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """Tiles of one slide, row by row whatever the order they were given in.

    Attributes
    ----------
    slide
        Name of the slide, for messages.
    encoder
        Fingerprint of the encoder that gave the vectors.
    vectors
        float16 (n, D).
    places
        int32 (n, 2): column and row of each tile in the slide's grid; no two are equal.
    truth
        float16 (n, 5): share (0-1) of the tile's px that are background and tumor scored 0, 1+, 2+,
        3+; None where nobody knows.

    Raises
    ------
    DataSetError
        If there is no tile, a shape differs, a number is not finite, or two tiles have one place.
    """

    slide: str
    encoder: str
    vectors: NDArray[np.float16]
    places: NDArray[np.int32]
    truth: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        n = len(self.vectors)
        if n == 0:
            raise DataSetError(f"{self.slide}: no tile holds tissue, so that there is no bag.")
        if self.vectors.ndim != 2 or self.places.shape != (n, 2):
            raise DataSetError(f"{self.slide}: a bag needs vectors (n, D) and places (n, 2).")
        if self.truth is not None and self.truth.shape != (n, 5):
            raise DataSetError(f"{self.slide}: the truth of a bag has shape (n, 5).")
        if not np.isfinite(self.vectors).all():
            raise DataSetError(f"{self.slide}: the encoder gave numbers that are not finite.")
        # Answers must not depend on the order in which tiles came.
        order = np.lexsort((self.places[:, 0], self.places[:, 1]))
        places = self.places[order]
        if n > 1 and (places[1:] == places[:-1]).all(axis=1).any():
            raise DataSetError(f"{self.slide}: two tiles of the bag have one place.")
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "vectors", self.vectors[order])
        if self.truth is not None:
            object.__setattr__(self, "truth", self.truth[order])

    def __len__(self) -> int:
        return len(self.vectors)

    def only(self, chosen: NDArray[np.int64]) -> Bag:
        """Return the bag of some of its tiles."""
        truth = None if self.truth is None else self.truth[chosen]
        return replace(self, vectors=self.vectors[chosen], places=self.places[chosen], truth=truth)


def save_bag(bag: Bag, path: Path) -> None:
    """Write a bag.

    Raises
    ------
    OSError
        If the file cannot be written, as on a full disk.
    """
    tensors: dict[str, NDArray[Any]] = {"vectors": bag.vectors, "places": bag.places}
    if bag.truth is not None:
        tensors["truth"] = bag.truth
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    facts = json.dumps({"slide": bag.slide, "encoder": bag.encoder})
    # Not `save_file`: its error of a full disk is no OSError.
    path.write_bytes(save(tensors, metadata={"bag": facts}))


def load_bag(path: Path) -> Bag:
    """Read what `save_bag` wrote.

    Raises
    ------
    DataSetError
        If the file is missing, damaged, or no bag.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})["bag"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Bag(**facts, **tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as err:
        raise DataSetError(f"{path}: not a bag of tiles ({err}). Encode the slide again.") from err
