"""Calibration of the glass: networks see empty glass at 255 per channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def calibrated(pixels: NDArray[np.uint8], white: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Scale the image, uint8 (rows, columns, 3), so that its glass `white` becomes 255 per
    channel."""
    if white == (255, 255, 255):
        return pixels
    scaled = pixels.astype(np.float32) * (255.0 / np.asarray(white, dtype=np.float32))
    result: NDArray[np.uint8] = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return result
