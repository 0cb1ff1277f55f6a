"""Measures of nuclei and stain of a tile: the frozen encoder of the interim reader's trial.

A pathology encoder, such as the paper's PLIP, sees nuclei; the networks that ship were trained to
tell tumor or stain, and hardly do. These measures stand in for one. They know nothing of HER2, of
a class or of the generator, and are the same for both stains.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.nucleus_measures import LEAST_RADIUS_UM, UM_PER_PX, filled, measured_nuclei

Floats = NDArray[np.floating]
HEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""Optical density of the dyes in red, green and blue (Ruifrok and Johnston, 2001)."""
LEAST_NUCLEI = 4
LEAST_OUTLINE_PX = 60
"""Area from which the outline of a part of the mask is measured."""
NUCLEI = 22
"""Number of measures of all nuclei together, which come first."""


def measured(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the measures (N, 99) of a slide's tiles uint8 RGB (N, T, T, 3) at 0.5 µm/px.

    22 of all nuclei of a tile together, 9 of its stain, 68 of single nuclei.
    """
    amounts = [_hematoxylin(tile) for tile in tiles]
    together = [
        np.concatenate([_nuclei(amount), _stain(tile)])
        for amount, tile in zip(amounts, tiles, strict=True)
    ]
    return np.concatenate([np.stack(together), measured_nuclei(amounts)], axis=1)


def _stain(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return mean, deviation and 0.9 quantile of the optical density of each color."""
    density = _density(tile).reshape(-1, 3)
    parts = density.mean(axis=0), density.std(axis=0), np.quantile(density, 0.9, axis=0)
    return np.concatenate(parts).astype(np.float32)


def _nuclei(amount: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return size, its spread, number, chromatin, texture and outline of nuclei; zeros if none."""
    mask, threshold, roundness = _mask(amount)
    if mask.all():  # one color: no px is outside, and distances would have no end
        return np.zeros(NUCLEI, dtype=np.float32)
    far = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    smooth = cv2.GaussianBlur(far, (0, 0), 1.0)
    # Nuclei that touch each other have a summit of the distance each: their smaller half axis.
    summit = smooth >= cv2.dilate(smooth, np.ones((9, 9), np.uint8)) - 1e-6
    radius = smooth[summit & (smooth * UM_PER_PX > LEAST_RADIUS_UM)] * UM_PER_PX
    if len(radius) < LEAST_NUCLEI:
        return np.zeros(NUCLEI, dtype=np.float32)
    inside, core, rim = far > 0, far > 3, (far > 0) & (far <= 2)
    within = amount[inside]
    middle = amount[core] if core.any() else within
    fine = amount - cv2.GaussianBlur(amount, (0, 0), 2.0)
    found = [
        *np.quantile(radius, (0.1, 0.25, 0.5, 0.75, 0.9)),
        radius.mean(),
        radius.std(),
        radius.std() / radius.mean(),
        np.log1p(len(radius)),
        mask.mean(),
        within.mean(),
        within.std(),
        middle.mean(),
        middle.std(),
        *np.quantile(middle, (0.1, 0.95)),
        amount[rim].mean() - middle.mean(),
        fine[core].std() if core.any() else 0.0,
        np.quantile(fine[inside], 0.98),
        roundness,
        amount[~inside].mean() if not inside.all() else 0.0,
        threshold,
    ]
    return np.array(found, dtype=np.float32)


def _density(tile: NDArray[np.uint8]) -> Floats:
    density: Floats = -np.log((tile.astype(np.float32) + 1) / 256)
    return density


def _hematoxylin(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    dyes = np.array([HEMATOXYLIN, EOSIN, np.cross(HEMATOXYLIN, EOSIN)])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    amount = np.maximum((_density(tile) @ np.linalg.inv(dyes))[..., 0], 0)
    return amount.astype(np.float32)


def _mask(amount: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """Return the mask of nuclei without holes, its threshold (Otsu), and how round outlines are.

    The last is the median of perimeter² / (4π area); a circle has 1.
    """
    scaled = np.clip(cv2.GaussianBlur(amount, (0, 0), 1.0) * 100, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)
    mask, outlines = filled(scaled > threshold)
    sizes = [(cv2.contourArea(each), cv2.arcLength(each, True)) for each in outlines]
    round_ = [around**2 / (4 * np.pi * area) for area, around in sizes if area > LEAST_OUTLINE_PX]
    return mask, threshold / 100, float(np.median(round_)) if round_ else 1.0
