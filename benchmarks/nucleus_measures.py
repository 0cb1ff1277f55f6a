"""Measures of single nuclei of a slide's tiles: more of the encoder of the interim reader's trial.

`benchmarks.tile_measures` takes all dark px of a tile together. Here nuclei that touch are split,
each is measured by itself, and small round ones, most of them lymphocytes, are left out by size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

Layer = NDArray[np.float32]
Labels = NDArray[np.int32]
Floats = NDArray[np.float64]

UM_PER_PX = 0.5
LEAST_RADIUS_UM = 1.0
LEAST_AREA_UM2 = 6.0
HOLE_PX = 400
"""Larger holes of the mask are no pale inside of a nucleus."""
EDGE_PX = 4
"""A nucleus whose center is nearer to the tile's edge is cut by it."""
CORE_PX, RIM_PX = 2.5, 2.0  # of 0.5 µm, as all px here
"""Distance from its outline beyond which a nucleus has its core, and up to which its rim."""
FINE_PX = 2.5
"""Width of the surroundings over which grains and nucleoli stand out."""
GROUPS = ((2.6, 0.35), (3.3, 0.4))
"""Least radius in µm and least ratio of the axes of the nuclei that are counted, twice: the larger
ones are tumor more surely, and fewer."""
LEAST_NUCLEI = (3, 2)
"""Least number of nuclei of each group that are measured."""
MEASURES = 12
"""Number of measures of a nucleus."""
RADIUS, CORE, RIM, BRIGHTEST, AXES = 0, 2, 3, 5, 8
"""Columns of a nucleus (`_nuclei`)."""
COLUMNS = 4 + len(GROUPS) * (2 * MEASURES + 8)
"""Number of measures of a tile."""


def measured_nuclei(amounts: Sequence[Layer]) -> NDArray[np.float32]:
    """Return the measures (N, 68) of the tiles of a slide, by their hematoxylin at 0.5 µm/px.

    One threshold (Otsu) serves all tiles. Where a tile has too few nuclei for a measure, it takes
    the mean of the slide's other tiles; 0 where no tile has any.
    """
    smooth = [cv2.GaussianBlur(amount, (0, 0), 1.0) for amount in amounts]
    scaled = np.clip(np.concatenate([each.ravel() for each in smooth]) * 100, 0, 255)
    threshold = cv2.threshold(scaled.astype(np.uint8)[None], 0, 255, cv2.THRESH_OTSU)[0] / 100
    found = np.stack(
        [
            _summary(_nuclei(amount, blurred > threshold), threshold)
            for amount, blurred in zip(amounts, smooth, strict=True)
        ]
    )
    known = np.isfinite(found)
    mean = np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, found, mean).astype(np.float32)


def _summary(nuclei: Floats, threshold: float) -> Floats:
    groups = [
        nuclei[(nuclei[:, RADIUS] > radius) & (nuclei[:, AXES] > round_)]
        for radius, round_ in GROUPS
    ]
    found = [np.log1p([len(nuclei), *map(len, groups)]), np.array([threshold])]
    for group, least in zip(groups, LEAST_NUCLEI, strict=True):
        if len(group) < least:
            found.append(np.full(2 * MEASURES + 8, np.nan))
            continue
        found += [
            group.mean(axis=0),
            group.std(axis=0),
            np.quantile(group[:, RADIUS], (0.25, 0.5, 0.75, 0.9)),
            np.quantile(group[:, BRIGHTEST], (0.5, 0.8)),
            np.median(group[:, (CORE, RIM)], axis=0),
        ]
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class _Raster:
    """Nuclei of a tile, numbered from 1, and the distance in px of each px from its outline."""

    nuclei: Labels
    depth: Layer
    outline: NDArray[np.bool_]


def _nuclei(amount: Layer, dark: NDArray[np.bool_]) -> Floats:
    """Return the measures (K, 12) of the nuclei of a tile.

    They are radius (µm), amount, amount of the core, rim less core, deviation of the core,
    brightest and palest grain, grain, ratio of the axes, area over that of the ellipse, outline² /
    area, and greatest depth (µm).
    """
    mask, _ = filled(dark)
    if mask.all() or not mask.any():
        return np.zeros((0, MEASURES))
    raster = _split(mask)
    numbers = np.arange(1, raster.nuclei.max() + 1)
    if not len(numbers):
        return np.zeros((0, MEASURES))
    nuclei, depth = raster.nuclei, raster.depth
    area_px = np.bincount(nuclei.ravel())[1:]
    core = np.where(depth > CORE_PX, nuclei, 0)
    rim = np.where((depth > 0) & (depth <= RIM_PX), nuclei, 0)
    fine = amount - cv2.GaussianBlur(amount, (0, 0), FINE_PX)
    in_core = _mean(amount, core, len(numbers))
    across, rows, columns = _axes(nuclei, len(numbers))
    ellipse_px = 4 * np.pi * np.sqrt(np.prod(across, axis=0))
    outline_px = np.bincount((nuclei * raster.outline).ravel(), minlength=len(numbers) + 1)[1:]
    has_core = np.isin(numbers, core)
    found = [
        np.sqrt(area_px / np.pi) * UM_PER_PX,
        _mean(amount, nuclei, len(numbers)),
        in_core,
        _mean(amount, rim, len(numbers)) - in_core,
        _spread(amount, core, len(numbers)),
        np.where(has_core, ndimage.maximum(fine, core, numbers), 0),
        np.where(has_core, -ndimage.minimum(fine, core, numbers), 0),
        _spread(fine, core, len(numbers)),
        np.sqrt(across[1] / across[0]),
        area_px / ellipse_px,
        outline_px**2 / area_px,
        ndimage.maximum(depth, nuclei, numbers) * UM_PER_PX,
    ]
    height, width = nuclei.shape
    whole = (rows >= EDGE_PX) & (rows <= height - 1 - EDGE_PX)
    whole &= (columns >= EDGE_PX) & (columns <= width - 1 - EDGE_PX)
    measures: Floats = np.stack(found, axis=1)
    kept: Floats = measures[whole & (area_px * UM_PER_PX**2 > LEAST_AREA_UM2)]
    return kept


def filled(
    dark: NDArray[np.bool_],
) -> tuple[NDArray[np.uint8], list[NDArray[np.int32]]]:
    """Return the mask of dark px without small holes, and the outlines of its parts."""
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    mask: NDArray[np.uint8] = opened.astype(np.uint8)
    contours, family = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for contour, (_, _, _, parent) in zip(
        contours, [] if family is None else family[0], strict=True
    ):
        if parent < 0:
            outlines.append(np.asarray(contour, dtype=np.int32))
        elif cv2.contourArea(contour) < HOLE_PX:
            cv2.drawContours(mask, [contour], -1, 1, -1)
    return mask, outlines


def _split(mask: NDArray[np.uint8]) -> _Raster:
    far = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (0, 0), 1.0)
    summit = far >= cv2.dilate(far, np.ones((9, 9), np.uint8)) - 1e-6
    seeds = (summit & (far * UM_PER_PX > LEAST_RADIUS_UM)).astype(np.uint8)
    nuclei = watershed(-far, cv2.connectedComponents(seeds)[1], mask=mask > 0).astype(np.int32)
    outline = np.zeros(nuclei.shape, dtype=bool)
    outline[:-1] |= nuclei[:-1] != nuclei[1:]
    outline[:, :-1] |= nuclei[:, :-1] != nuclei[:, 1:]
    inside = ((nuclei > 0) & ~outline).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5).astype(np.float32)
    return _Raster(nuclei, depth, outline)


def _mean(layer: Layer | Floats, nuclei: Labels, count: int) -> Floats:
    """Return the mean of a layer over each nucleus; 0 for one without px."""
    flat = nuclei.ravel()
    total = np.bincount(flat, weights=layer.ravel(), minlength=count + 1)[1:]
    return np.asarray(total / np.maximum(np.bincount(flat, minlength=count + 1)[1:], 1))


def _spread(layer: Layer, nuclei: Labels, count: int) -> Floats:
    mean = _mean(layer, nuclei, count)
    square = _mean(layer.astype(np.float64) ** 2, nuclei, count)
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)))


def _axes(nuclei: Labels, count: int) -> tuple[Floats, Floats, Floats]:
    """Return the variances (2, K) of px along the long and short axis, and rows and columns."""
    grid: NDArray[np.float64] = np.indices(nuclei.shape).astype(np.float64)
    y, x = grid[0], grid[1]
    rows, columns = _mean(y, nuclei, count), _mean(x, nuclei, count)
    tall = _mean(y * y, nuclei, count) - rows**2
    wide = _mean(x * x, nuclei, count) - columns**2
    slant = _mean(x * y, nuclei, count) - rows * columns
    middle, lean = (tall + wide) / 2, np.hypot((wide - tall) / 2, slant)
    return np.stack([middle + lean, np.maximum(middle - lean, 0.05)]), rows, columns
