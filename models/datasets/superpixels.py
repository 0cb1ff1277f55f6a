"""Superpixels of an IHC tile with a proposed class each, for a person to correct.

Section 4.2 of arXiv 2512.22335 makes the labels of M this way, with another tool. Superpixels are
those of SLIC (Achanta et al., IEEE TPAMI 2012;34:2274).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.geojson import Ring
from models.datasets.store import LABEL_PX
from models.spec import LABEL_STEP, TILE_MPP

TILE_UM = LABEL_PX * LABEL_STEP * TILE_MPP
COMPACTNESS = 10.0
"""Weight of nearness against likeness of color (L*a*b*); larger is more square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Superpixel:
    """A superpixel with the index of its proposed class.

    `rings` are (n, 2) closed rings of (x, y), the outline and then the holes, in px of the tile's
    label map (`LABEL_STEP` px of the tile). Those of a tile cover it without gap or overlap.
    """

    label: int
    rings: tuple[Ring, ...]


def superpixels(
    tile: NDArray[np.uint8], classes: NDArray[np.uint8], *, size_um: float
) -> list[Superpixel]:
    """Divide a tile, uint8 RGB (512, 512, 3), into superpixels of about `size_um` each way.

    `classes` uint8 (128, 128), 0-4 (0 is background), proposes their classes: tumor where at least
    half of a superpixel is tumor, then the class that covers most of it.
    """
    from skimage.segmentation import slic  # slow to load

    small = cv2.resize(tile, (LABEL_PX, LABEL_PX), interpolation=cv2.INTER_AREA)
    count = max(1, round((TILE_UM / size_um) ** 2))
    numbers = slic(small, n_segments=count, compactness=COMPACTNESS, sigma=1, start_label=1)
    return [
        Superpixel(label=_proposed(classes[inside]), rings=rings)
        for inside in (numbers == number for number in np.unique(numbers))
        for rings in outlines(inside)
    ]


def outlines(inside: NDArray[np.bool_]) -> list[tuple[Ring, ...]]:
    """Outlines of a mask, along the edges of its px: per piece the outline, then its holes."""
    # Rings of OpenCV run through centers of px. On px of half the size each edge between px has
    # a center on either side: 2k - 1 and 2k lie at the edge k.
    fine = np.repeat(np.repeat(inside.astype(np.uint8), 2, axis=0), 2, axis=1)
    found, tree = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = tree[0][:, 3].tolist()
    rings = [_closed(contour[:, 0]) for contour in found]
    return [
        (ring, *(hole for hole, of in zip(rings, parents, strict=True) if of == number))
        for number, (ring, parent) in enumerate(zip(rings, parents, strict=True))
        if parent < 0
    ]


def _closed(contour: NDArray[np.int32]) -> Ring:
    """Ring along the edges between px from a contour (n, 2) on px of half the size."""
    points = (contour.astype(np.int64) + 1) // 2
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    return np.concatenate([points, points[:1]]).astype(np.float64)


def _proposed(classes: NDArray[np.uint8]) -> int:
    counts = np.bincount(classes, minlength=2)
    if 2 * counts[1:].sum() < counts.sum():
        return 0
    return 1 + int(counts[1:].argmax())
