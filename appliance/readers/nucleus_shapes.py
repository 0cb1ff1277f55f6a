"""Stains of an IHC tile, and nuclei split by the shape of a mask.

Readers of cells and of nuclei share it. Rasters are `STEP` times coarser than the tile; lengths are
µm, stain amounts optical density along the unit vector of a stain.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_MPP
from models.deconvolution import DAB, HEMATOXYLIN, unmix

Array = NDArray[np.float32]
Labels = NDArray[np.int32]

STEP = 2
"""Factor of coarsening: nuclei and cells are measured at 0.56 µm/px, since a membrane is about 1 µm
thick."""
COARSE_MPP = TILE_MPP * STEP
GLASS_OD = 0.01
"""Hematoxylin up to which px are vacuole or lumen, not nucleus."""
MIN_CONTRAST_OD = 0.015
"""Least difference in hematoxylin between nuclei and the rest of the tissue, else no nuclei."""
_NEIGHBORS = np.ones((3, 3), dtype=np.uint8)
_MIN_NUCLEUS_UM2 = 12.0
_CUT = 4
"""Factor by which a nucleus cut by the tile's edge may be smaller."""
_MAX_HOLE_UM2 = 60.0
"""Largest hole in a nucleus: pale chromatin within a rim; larger ones are tissue between nuclei."""

STAIN_VECTORS = np.array([HEMATOXYLIN, DAB, np.cross(HEMATOXYLIN, DAB)], dtype=np.float32)
"""Unit vectors of hematoxylin and DAB, and of the residual that neither stain explains."""
STAIN_VECTORS /= np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)


def coarse_density(pixels: NDArray[np.uint8]) -> Array:
    """Optical density of a tile, float32 (rows, columns, 3), coarser by `STEP`."""
    size = (pixels.shape[1] // STEP, pixels.shape[0] // STEP)
    density: Array = cv2.resize(cv2.LUT(pixels, _DENSITY), size, interpolation=cv2.INTER_AREA)
    return density


def stain_amounts(density: Array) -> tuple[Array, Array]:
    """Hematoxylin and DAB of an optical density, float32 (rows, columns) each."""
    amounts = unmix(density, STAIN_VECTORS)
    return np.ascontiguousarray(amounts[..., 0]), np.ascontiguousarray(amounts[..., 1])


def residual(density: Array) -> Array:
    """Part of an optical density that neither stain explains, float32 (rows, columns)."""
    unexplained: Array = cv2.transform(density, STAIN_VECTORS[2:])
    return unexplained


def smooth(layer: Array, um: float) -> Array:
    """Layer under a Gaussian of sigma `um`."""
    smoothed: Array = cv2.GaussianBlur(layer, (0, 0), um / COARSE_MPP)
    return smoothed


def disc(um: float) -> NDArray[np.uint8]:
    """Disc of radius `um` as a structuring element."""
    width = 2 * round(um / COARSE_MPP) + 1
    element: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return element


def flattened(layer: Array, where: NDArray[np.bool_], um: float) -> Array:
    """Layer less its mean in the surroundings, a few cells wide, over the px in `where`.

    Counterstain and folds are uneven.
    """
    weight = where.astype(np.float32)
    mean = smooth(layer * weight, um) / np.maximum(smooth(weight, um), 1e-3)
    flat: Array = (layer - mean).astype(np.float32)
    return flat


def split_nuclei(mask: NDArray[np.uint8], height_um: float) -> Labels:
    """Number the nuclei of a mask (0 and 1) from 1, by watershed on the distance from its rim.

    Of two maxima, one is noise if the saddle between them is less than `height_um` deep.
    """
    from skimage.segmentation import watershed  # slow to load; the daemon does not need it

    depth = smooth(cv2.distanceTransform(mask, cv2.DIST_L2, 5) * COARSE_MPP, 0.5)
    seeds = cv2.connectedComponents(tops(depth, height_um, 0.8).astype(np.uint8))[1]
    nuclei = watershed(-depth, seeds, mask=mask > 0)
    area = np.bincount(nuclei.ravel()) * COARSE_MPP**2
    # A nucleus that the left or upper edge cuts is counted on this tile only.
    area[nuclei[0]] *= _CUT
    area[nuclei[:, 0]] *= _CUT
    large = area >= _MIN_NUCLEUS_UM2
    large[0] = False  # background
    number = np.where(large, np.cumsum(large), 0)
    numbered: Labels = number[nuclei].astype(np.int32)
    return numbered


def tops(layer: Array, height: float, above: float) -> NDArray[np.bool_]:
    """Mask of the h-maxima of a layer (values not below 0).

    These are maxima higher than `above` that rise by `height` over the saddle to a higher one
    (Soille, Morphological Image Analysis 2003, 6.3.4). The result is that of scikit-image's
    `h_maxima`, which sorts all px. Here the layer, lowered by `height`, is dilated under itself
    until nothing changes. Few rounds suffice, because px too low for a relevant saddle, most of a
    tile, are set to 0 first.
    """
    low = layer <= above - 2 * height
    precision = 2 * np.finfo(layer.dtype).resolution * np.abs(layer)
    under = np.where(low, 0, layer - height - precision).astype(np.float32)
    limit = np.where(low, 0, layer).astype(np.float32)
    changed = True
    while changed:
        before = under
        for _ in range(4):
            under = np.minimum(cv2.dilate(under, _NEIGHBORS), limit)
        changed = not np.array_equal(before, under)
    found: NDArray[np.bool_] = (layer > above) & (layer - under >= height)
    return found


def filled(mask: NDArray[np.uint8], blue: Array, cytoplasm: float) -> NDArray[np.uint8]:
    """Fill the small holes of a mask, except those paler than cytoplasm (vacuoles, clefts)."""
    n, parts, facts, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    area = facts[:, cv2.CC_STAT_AREA]
    mean = np.bincount(parts.ravel(), weights=blue.ravel(), minlength=n) / np.maximum(area, 1)
    hole = (area * COARSE_MPP**2 < _MAX_HOLE_UM2) & (mean > cytoplasm)
    hole[0] = False  # component 0 is the mask itself
    whole: NDArray[np.uint8] = mask | hole[parts].astype(np.uint8)
    return whole


def medians(layer: Array, regions: Labels, where: NDArray[np.bool_], n: int) -> Array:
    """Median of a layer over each of `n` regions, (n,); NaN for a region without px in `where`."""
    number, values = regions[where], layer[where]
    order = np.lexsort((values, number))
    number, values = number[order], values[order]
    first = np.searchsorted(number, np.arange(n))
    behind = np.searchsorted(number, np.arange(n), side="right")
    found = np.full(n, np.nan, dtype=np.float32)
    some = behind > first
    found[some] = values[(first + behind)[some] // 2]
    return found
