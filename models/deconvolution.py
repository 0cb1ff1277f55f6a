"""Color deconvolution: amounts of stain from the light that a slide transmits.

Optical density OD = -log10(I / I0) adds up over stains: OD = Σ amount · vector. The vectors are
those of Ruifrok & Johnston (Anal Quant Cytol Histol 2001;23:291).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

HEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.092, 0.954, 0.283)
DAB = (0.300, 0.590, 0.750)


def unmix(density: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Concentrations (rows, columns, 3) of three stains from optical density (same shape).

    `vectors` (3, 3): one row per stain. The inverse of OD = Σ amount · vector.
    """
    inverse = np.linalg.inv(vectors.astype(np.float64)).astype(np.float32)
    concentrations: NDArray[np.float32] = cv2.transform(density, np.ascontiguousarray(inverse.T))
    return concentrations
