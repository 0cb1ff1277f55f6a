"""Pen and folds on a thumbnail: what lies over tissue and is no stain.

Pen has colours that no stain of a section has. A fold is a long line along which tissue lies twice
or more: denser than beside it on both sides, by as much in every colour, so that it is no other
tissue and no other stain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TileGrid, TileIndex
from appliance.slides.tissue import Tissue, mask_share, usable_px

STROKE_UM = 40.0
"""Of smoothing: a stroke of a pen is far wider, nests of nuclei are narrower."""
LEAST_INK = 0.3
"""Density that ink adds to that of the slide's usual tissue, in its strongest color."""
BLUE_INK = (1.15, 2.2)
"""Blue and green ink: red over green, red over blue. Haematoxylin has 0.93 and 2.2, DAB less."""
BLACK_INK = (0.85, 0.75)
"""Black ink: red over green, blue over red. Haematoxylin has 0.93 and 0.4, DAB 0.5 and 2.9."""
RED_INK = (0.3, 0.65)
"""Red ink: red over green at most, blue over green at least. Eosin has 0.1 and 0.1, DAB 0.5 and
1.4."""

HIDDEN_UM = 400.0
"""Half the width of a stroke that tissue on both sides of it says it crosses."""

FOLD_MPP = 32.0
FOLD_LENGTH_UM, FOLD_WIDTH_UM = 1000.0, 45.0
PART_UM = 280.0
"""A fold is denser in each of its parts; a row of stained nests has gaps."""
BESIDE_UM = (160.0, 280.0)
"""Distances at which the tissue on both sides of a fold is looked at."""
FOLDED = 1.35
"""Times as dense, on average over a part, as on both sides."""
SAME_COLOR = 0.25
"""A fold's factor differs by so much at most between the colours (natural logarithm)."""
ANGLES = 12


MARKED_SHARE = 0.2
"""A tile is marked when so much of it is."""


def marked_percent(
    thumbnail: NDArray[np.uint8], tissue: Tissue, grid: TileGrid, tiles: Sequence[TileIndex]
) -> float:
    """Share (0-100) of `tiles` under pen or on a fold, 0 of none; or of the tissue that opaque pen
    hides, where that is more: what it hides is in no tile."""
    share = mask_share(find_artefacts(thumbnail, tissue), tissue.mpp, grid)
    marked = [share[tile.row, tile.column] >= MARKED_SHARE for tile in tiles]
    return 100 * max(float(np.mean(marked)) if marked else 0.0, _hidden(thumbnail, tissue))


def find_artefacts(thumbnail: NDArray[np.uint8], tissue: Tissue) -> NDArray[np.bool_]:
    """Where pen or folds lie over tissue, bool (rows, cols) as the thumbnail, which is uint8 RGB at
    `tissue.mpp`. Green and opaque black pen are no tissue to begin with, see `find_tissue`."""
    density = _density(thumbnail, tissue)
    marks: NDArray[np.bool_] = _pen(density, tissue) | _folds(density, tissue)
    return marks & tissue.mask


def find_pen(thumbnail: NDArray[np.uint8], tissue: Tissue) -> NDArray[np.bool_]:
    """Where pen lies that was taken for tissue, bool as `find_artefacts`."""
    return _pen(_density(thumbnail, tissue), tissue) & tissue.mask


def _hidden(thumbnail: NDArray[np.uint8], tissue: Tissue) -> float:
    """Share (0-1) of the tissue that lies under green or black pen, where tissue is round it."""
    around = _closed(tissue.mask, HIDDEN_UM / tissue.mpp)
    hidden = int((around & ~tissue.mask & ~usable_px(thumbnail)).sum())
    return hidden / max(1, hidden + int(tissue.mask.sum()))


def _closed(mask: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """Morphological closing by a disc, by distances: a disc of hundreds of px as a kernel took half
    of a case's time."""
    pad = math.ceil(reach_px) + 1
    padded = np.pad(mask, pad)
    if not mask.any():
        return mask
    wide = (
        cv2.distanceTransform((~padded).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        <= reach_px
    )
    closed = (
        cv2.distanceTransform(wide.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > reach_px
    )
    inner: NDArray[np.bool_] = closed[pad:-pad, pad:-pad] | mask
    return inner


def _density(thumbnail: NDArray[np.uint8], tissue: Tissue) -> NDArray[np.float32]:
    light = np.maximum(thumbnail, 1) / np.array(tissue.white_rgb, dtype=np.float32)
    density: NDArray[np.float32] = np.maximum(-np.log10(light), 0).astype(np.float32)
    return density


def _pen(density: NDArray[np.float32], tissue: Tissue) -> NDArray[np.bool_]:
    if not tissue.mask.any():
        return tissue.mask
    smooth = cv2.GaussianBlur(density, (0, 0), max(0.5, STROKE_UM / tissue.mpp))
    # Ink lies over tissue: what it adds to the usual has its color.
    red, green, blue = (
        np.maximum(smooth[..., k] - np.median(density[..., k][tissue.mask]), 1e-3) for k in range(3)
    )
    pen: NDArray[np.bool_] = (
        ((red > LEAST_INK) & (red > BLUE_INK[0] * green) & (red > BLUE_INK[1] * blue))
        | ((red > LEAST_INK) & (red > BLACK_INK[0] * green) & (blue > BLACK_INK[1] * red))
        | ((green > LEAST_INK) & (red < RED_INK[0] * green) & (blue > RED_INK[1] * green))
    )
    return pen


def _folds(density: NDArray[np.float32], tissue: Tissue) -> NDArray[np.bool_]:
    rows, columns = tissue.mask.shape
    scale = tissue.mpp / FOLD_MPP
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    there = cv2.resize(tissue.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
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
    """Weights of a line as wide as a fold, 0 where it does not reach."""
    reach = int(length_um / 2 / FOLD_MPP) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] * FOLD_MPP
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    on = (np.abs(along) <= length_um / 2) & (np.abs(across) <= FOLD_WIDTH_UM)
    kernel = on * np.exp(-((across / FOLD_WIDTH_UM) ** 2))
    weights: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return weights


def _thin(angle: float) -> NDArray[np.uint8]:
    """A line of `FOLD_LENGTH_UM`, one px wide."""
    reach = int(FOLD_LENGTH_UM / 2 / FOLD_MPP)
    line = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    x, y = round(reach * np.cos(angle)), round(reach * np.sin(angle))
    cv2.line(line, (reach - x, reach - y), (reach + x, reach + y), 1)
    return line


def _denser(
    mean: NDArray[np.float32], share: NDArray[np.float32], across: NDArray[np.float64]
) -> NDArray[np.float32]:
    """By how much (logarithm, least of the colours) lines are denser than those beside them, on
    one side; far below 0 where there is no tissue or the colour is another."""
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
