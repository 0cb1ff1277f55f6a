"""Pen marks on an overview: ink has colors that no stain of a section has."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STROKE_UM = 40.0
"""Sigma of the smoothing: a stroke of a pen is far wider, nests of nuclei are narrower."""
LEAST_INK = 0.3
"""Density that ink adds to that of the slide's usual tissue, in its strongest channel."""
BLUE_INK = (1.15, 2.2)
"""Blue and green ink: least red over green, red over blue. Hematoxylin has 0.93 and 2.2, DAB
less."""
BLACK_INK = (0.85, 0.75)
"""Black ink: least red over green, blue over red. Hematoxylin has 0.93 and 0.4, DAB 0.5 and 2.9."""
RED_INK = (0.3, 0.65)
"""Red ink: red over green at most, blue over green at least. Eosin has 0.1 and 0.1, DAB 0.5 and
1.4."""


def pen_mask(
    density: NDArray[np.float32], mask: NDArray[np.bool_], mpp: float
) -> NDArray[np.bool_]:
    """Px with the color of ink, bool (rows, cols).

    `density` is optical density float32 (rows, cols, 3) at `mpp`; `mask` is the tissue, bool.
    """
    if not mask.any():
        return mask
    smooth = cv2.GaussianBlur(density, (0, 0), max(0.5, STROKE_UM / mpp))
    # Ink lies over tissue: subtract the usual tissue to get the color of the ink.
    red, green, blue = (
        np.maximum(smooth[..., k] - np.median(density[..., k][mask]), 1e-3) for k in range(3)
    )
    pen: NDArray[np.bool_] = (
        ((red > LEAST_INK) & (red > BLUE_INK[0] * green) & (red > BLUE_INK[1] * blue))
        | ((red > LEAST_INK) & (red > BLACK_INK[0] * green) & (blue > BLACK_INK[1] * red))
        | ((green > LEAST_INK) & (red < RED_INK[0] * green) & (blue > RED_INK[1] * green))
    )
    return pen
