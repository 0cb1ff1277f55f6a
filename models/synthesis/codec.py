"""JPEG as scanners write it, by OpenCV: generating tiles needs no other codec."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def jpeg_coded(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Encode RGB pixels, uint8 (rows, columns, 3), at `quality` (0-100) and decode them again.

    Baseline JPEG, 4:2:0, libjpeg's integer transform.
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: NDArray[np.uint8] = cv2.cvtColor(
        np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB
    )
    return decoded
