"""Resized copies of tiles for classifiers, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.datasets.arrays import kept_array, new_array


def resized(images: NDArray[np.uint8], px: int, cache: Path) -> NDArray[np.uint8]:
    """Return the images, uint8 (N, T, T, 3), at `px` x `px`, a classifier's input size.

    The copy is made once and kept in `cache`. The filter is that of `models.pixels`.
    """
    if images.shape[1] == px:
        return images
    path = cache.with_suffix(f".{px}.npy")
    if not path.is_file():
        part = path.with_suffix(".part")
        small = new_array(part, (len(images), px, px, 3))
        for start in range(0, len(images), 64):
            batch = torch.from_numpy(np.array(images[start : start + 64])).permute(0, 3, 1, 2)
            out = functional.interpolate(batch, (px, px), mode="bilinear", antialias=True)
            small[start : start + 64] = out.permute(0, 2, 3, 1).numpy()
        small.flush()
        part.rename(path)
    return kept_array(path)
