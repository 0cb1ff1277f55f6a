"""Smooth fields: coarse rasters over a block of tissue, `FIELD_UM` µm per px, origin top left."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FIELD_UM = 4.0

Array = NDArray[np.floating[Any]]
"""Float arrays; float32 where speed matters."""


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_um: float) -> Array:
    """Noise with zero mean and unit variance; features are about `scale_um` wide."""
    sigma = max(0.5, scale_um / FIELD_UM)
    step = max(1, int(sigma / 3))
    coarse = (max(4, shape[0] // step + 2), max(4, shape[1] // step + 2))
    noise = rng.standard_normal(coarse).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma / step, borderType=cv2.BORDER_REFLECT)
    noise = cv2.resize(noise, (coarse[1] * step, coarse[0] * step), interpolation=cv2.INTER_CUBIC)
    noise = noise[: shape[0], : shape[1]]
    spread = float(noise.std()) or 1.0
    result: Array = ((noise - noise.mean()) / spread).astype(np.float32)
    return result


def soft_level(field: Array, share: float, inside: NDArray[np.bool_]) -> float:
    """Threshold that `field` exceeds on the `share` of `inside`."""
    return float(np.quantile(field[inside], 1 - share)) if inside.any() else np.inf


def soft(field: Array, share: float, inside: NDArray[np.bool_], width: float) -> Array:
    """Soft mask (0-1, 0.5 at the edge) of the `share` of `inside` with the highest `field`."""
    if share <= 0 or not inside.any():
        return np.zeros_like(field)
    if share >= 1:
        return np.ones_like(field)
    mask: Array = np.clip((field - soft_level(field, share, inside)) / width + 0.5, 0, 1).astype(
        np.float32
    )
    return mask


def at(field: Array, xy_um: Array) -> Array:
    """Value of a field at points (n, 2), nearest px."""
    column = np.clip((xy_um[:, 0] / FIELD_UM).round().astype(int), 0, field.shape[1] - 1)
    row = np.clip((xy_um[:, 1] / FIELD_UM).round().astype(int), 0, field.shape[0] - 1)
    values: Array = field[row, column]
    return values
