"""Folds on an overview: long lines along which tissue lies double or more.

A fold is denser than the tissue on both sides of it, by the same factor in every color. Another
tissue or another stain differs in color too.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FOLD_MPP = 32.0
"""Resolution of the search, µm per px."""
FOLD_LENGTH_UM, FOLD_WIDTH_UM = 1000.0, 45.0
PART_UM = 280.0
"""Length of the parts of a fold that must each be denser; a row of stained nests has gaps."""
BESIDE_UM = (160.0, 280.0)
"""Distances at which the tissue on both sides is compared."""
FOLDED = 1.35
"""Least factor of density against both sides, averaged over a part."""
SAME_COLOR = 0.25
"""Largest difference of that factor between the colors (natural logarithm)."""
ANGLES = 12


def fold_mask(
    density: NDArray[np.float32], mask: NDArray[np.bool_], mpp: float
) -> NDArray[np.bool_]:
    """Px on a fold, bool (rows, cols).

    `density` is optical density float32 (rows, cols, 3) at `mpp`; `mask` is the tissue, bool.
    """
    rows, columns = mask.shape
    scale = mpp / FOLD_MPP
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    there = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
    logs = np.log(np.maximum(small, 0.01)) * there[..., None]
    folded = np.zeros(there.shape, dtype=np.uint8)
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
        line = _line(float(angle), PART_UM)
        share = cv2.filter2D(there, -1, line, borderType=cv2.BORDER_CONSTANT)
        mean = cv2.filter2D(logs, -1, line, borderType=cv2.BORDER_CONSTANT)
        mean /= np.maximum(share, 1e-3)[..., None]
        across = np.array([-np.sin(angle), np.cos(angle)])
        sides = [_denser(mean, share, sign * across) for sign in (-1, 1)]
        part = (share > 0.7) & (np.minimum(*sides) > np.log(FOLDED))
        # Folds are wavy, and wider than their middle, which alone was found.
        wide = cv2.dilate(part.astype(np.uint8), np.ones((3, 3), dtype=np.uint8))
        folded |= cv2.morphologyEx(wide, cv2.MORPH_OPEN, _thin(float(angle)))
    whole_size: NDArray[np.bool_] = (
        cv2.resize(folded, (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    )
    return whole_size


def _line(angle: float, length_um: float) -> NDArray[np.float32]:
    """Weights of a line as wide as a fold, 0 outside it, of sum 1."""
    reach = int(length_um / 2 / FOLD_MPP) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] * FOLD_MPP
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    on = (np.abs(along) <= length_um / 2) & (np.abs(across) <= FOLD_WIDTH_UM)
    kernel = on * np.exp(-((across / FOLD_WIDTH_UM) ** 2))
    weights: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return weights


def _thin(angle: float) -> NDArray[np.uint8]:
    """Kernel of a line of `FOLD_LENGTH_UM`, one px wide."""
    reach = int(FOLD_LENGTH_UM / 2 / FOLD_MPP)
    line = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    x, y = round(reach * np.cos(angle)), round(reach * np.sin(angle))
    cv2.line(line, (reach - x, reach - y), (reach + x, reach + y), 1)
    return line


def _denser(
    mean: NDArray[np.float32], share: NDArray[np.float32], across: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Excess density of lines over the tissue on one side (logarithm, least of the colors).

    Far below 0 where there is no tissue or the color differs.
    """
    rows, columns = share.shape
    most = np.full(share.shape, -9, dtype=np.float32)
    for distance in BESIDE_UM:
        x, y = across * distance / FOLD_MPP
        shift = np.array([[1, 0, x], [0, 1, y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        beside = mean - cv2.warpAffine(mean, shift, (columns, rows), flags=flags)
        tissue = cv2.warpAffine(share, shift, (columns, rows), flags=flags)
        least = beside.min(axis=2)
        same = beside.max(axis=2) - least < SAME_COLOR
        most = np.maximum(most, np.where(same & (tissue > 0.5), least, -9)).astype(np.float32)
    return most
