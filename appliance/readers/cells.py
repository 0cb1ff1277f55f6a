"""Tumor cells of an IHC tile: number per class, and completeness of their membranes.

Color deconvolution (Ruifrok & Johnston 2001) gives hematoxylin and DAB. Nuclei are split by
watershed on their distance transform. A cell extends from its nucleus to the nearest ridge of DAB,
half way to its neighbor, or `REACH_UM`, and never beyond the tumor that network M labels. M labels
whole cells, so the class of a cell is that of M. Guidelines also ask for the stained share of a
cell's outline (ASCO/CAP 2018: complete, incomplete), which M does not give; it is measured here.

A border belongs to both cells beside it: light microscopy cannot assign the receptors to one of
them, and a pathologist calls both membranes stained. All limits below are in µm or optical density
(amounts along the unit vector of a stain). Frame: tile px, origin at the tile's upper left corner;
rasters in this file are `STEP` times coarser.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.readers.cell_tally import CellTally, tally_cells
from appliance.readers.nucleus_shapes import (
    COARSE_MPP,
    GLASS_OD,
    MIN_CONTRAST_OD,
    STEP,
    Array,
    Labels,
    coarse_density,
    disc,
    filled,
    flattened,
    medians,
    smooth,
    split_nuclei,
    stain_amounts,
)

VISIBLE_OD = 0.09
"""Least excess of DAB over the cell's cytoplasm at which a membrane is stained."""
TOLERANCE_UM = 1.1
"""Largest distance of a membrane from the outline found, about one px of M's label. Stained arcs
grow by this distance at each end."""
REACH_UM = 7.0
"""Extent of a cell beyond its nucleus where no neighbor and no membrane ends it."""
CYTOPLASM_UM = 1.7
"""Distance from the outline at which cytoplasm begins, so that a thick membrane is not taken as its
own background."""

_BARRIER_UM_PER_OD = 30.0
"""Cost of a ridge of DAB to a growing cell, in µm of distance per optical density."""
_MEMBRANE_OD = 0.15
"""Ridge of DAB from which px are membrane and never nucleus."""
_MIN_TUMOR_PX = 50
_MIN_OUTLINE_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMap:
    """Label rasters of nuclei and cells, int32 (T / `STEP`, T / `STEP`): 0 none, k the k-th cell.

    All cells on the tumor are numbered; `TileCells.number` lists those that were counted.
    """

    nuclei: Labels
    cells: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCells:
    """Tumor cells of a tile, one row each, and their tally.

    Attributes
    ----------
    number
        int32 (n,), the cell's number in `CellMap`.
    xy_px
        float32 (n, 2), center of the nucleus (x, y) in tile px.
    grade
        uint8 (n,), class 0-3.
    completeness
        float32 (n,), stained share (0-1) of the outline; NaN for a cell that the tile's edge cuts.
    membrane_od
        float32 (n,), mean DAB of the stained outline as optical density, cytoplasm included; 0
        where none is stained, NaN for a cell that the tile's edge cuts.
    """

    number: Labels
    xy_px: Array
    grade: NDArray[np.uint8]
    completeness: Array
    membrane_od: Array
    tally: CellTally


def measure_cells(pixels: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> TileCells:
    """Find and measure the tumor cells of an IHC tile.

    `pixels` is uint8 RGB (T, T, 3) at 0.2793 µm/px with the glass at 255. `label_map` is uint8 of
    network M, (T / 4, T / 4): 0 background, 1-4 tumor scored 0 to 3+. A nucleus that the right or
    lower edge cuts is left to the next tile, so that adjacent tiles count each cell once
    (Gundersen's unbiased frame, J Microsc 1977;111:219). The result is deterministic.

    Raises
    ------
    ValueError
        If the label map does not cover the tile with whole px.
    """
    hematoxylin, dab = stain_amounts(coarse_density(pixels))
    labels = _enlarged(label_map, hematoxylin.shape)
    return _measure(_map(hematoxylin, dab, labels > 0), dab, labels)


def map_cells(pixels: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> CellMap:
    """Map the cells that `measure_cells` measures; same arguments and errors."""
    hematoxylin, dab = stain_amounts(coarse_density(pixels))
    return _map(hematoxylin, dab, _enlarged(label_map, hematoxylin.shape) > 0)


def _enlarged(label_map: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rows, columns = (n // m for n, m in zip(shape, label_map.shape, strict=True))
    labels: NDArray[np.uint8] = label_map.repeat(rows, axis=0).repeat(columns, axis=1)
    if labels.shape != shape:
        raise ValueError(f"label map {label_map.shape} does not fit a tile of {shape} x {STEP} px.")
    return labels


def _ridge(dab: Array) -> Array:
    """Ridge strength of DAB at the width of a membrane: difference of Gaussians, not below 0."""
    ridge: Array = np.maximum(smooth(dab, 0.4) - smooth(dab, 2.5), 0)
    return ridge


# nuclei and territories


def _map(hematoxylin: Array, dab: Array, tumor: NDArray[np.bool_]) -> CellMap:
    from skimage.segmentation import watershed  # slow to load; the daemon does not need it

    ridge = _ridge(dab)
    nuclei = _nuclei(hematoxylin, ridge, tumor)
    if not nuclei.any():
        return CellMap(nuclei=nuclei, cells=nuclei)
    far = cv2.distanceTransform((nuclei == 0).astype(np.uint8), cv2.DIST_L2, 5) * COARSE_MPP
    within = (tumor & (far < REACH_UM)) | (nuclei > 0)
    # All nuclei are flooded at once, so cells without a membrane between them meet half way.
    cells = watershed(far + _BARRIER_UM_PER_OD * ridge, nuclei, mask=within)
    return CellMap(nuclei=nuclei, cells=cells.astype(np.int32))


def _nuclei(hematoxylin: Array, ridge: Array, tumor: NDArray[np.bool_]) -> Labels:
    """Raster of nuclei, numbered from 1."""
    from skimage.filters import threshold_otsu  # slow to load; the daemon does not need it

    none = np.zeros(tumor.shape, dtype=np.int32)
    # Widened, because the border of M's label may cut a nucleus.
    near = cv2.dilate(tumor.astype(np.uint8), disc(1.1)) > 0
    # Strong DAB is left out: it looks like hematoxylin where a lab's brown differs from the
    # textbook's.
    free = near & (ridge < _MEMBRANE_OD)
    if np.count_nonzero(free) < _MIN_TUMOR_PX:
        return none
    # Clipped: values below 0 are brown of another hue than the textbook's, and glass would look
    # blue beside them.
    blue = smooth(np.maximum(hematoxylin, 0), 0.5)
    stained = blue > GLASS_OD
    blue -= ridge
    blue = flattened(blue, free, 8.0)
    values = blue[free]
    threshold = threshold_otsu(np.clip(values, *np.percentile(values, (0.5, 99.5))))
    dark, pale = values[values > threshold], values[values <= threshold]
    if not dark.size or dark.mean() - pale.mean() < MIN_CONTRAST_OD:
        return none
    mask = ((blue > threshold) & free & stained).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc(0.6))
    mask = filled(mask, blue, float(pale.mean()))
    # Of two maxima (µm from the rim), one is noise if the saddle between them is less than 0.05 µm
    # deep.
    return split_nuclei(mask, 0.05)


# measurement


def _measure(found: CellMap, dab: Array, labels: NDArray[np.uint8]) -> TileCells:
    n = int(found.nuclei.max()) + 1
    nuclei = found.nuclei.ravel()
    # The majority over the nucleus decides on tumor, the majority over the cell on the class.
    in_nucleus = _histogram(found.nuclei, labels, n)
    in_cell = _histogram(found.cells, labels, n)[:, 1:]
    counted = in_nucleus[:, 0] * 2 <= in_nucleus.sum(axis=1)
    counted &= in_cell.any(axis=1)
    counted[found.nuclei[-1]] = counted[found.nuclei[:, -1]] = False
    counted[0] = False
    grade = (3 - in_cell[:, ::-1].argmax(axis=1)).astype(np.uint8)  # a tie goes to the higher grade
    size = np.maximum(np.bincount(nuclei, minlength=n), 1)
    rows, columns = np.indices(found.nuclei.shape).reshape(2, -1)
    center = [np.bincount(nuclei, weights=at, minlength=n) / size for at in (columns, rows)]
    completeness, membrane = _membranes(found, dab, n)
    which = np.flatnonzero(counted).astype(np.int32)
    share, density, grades = completeness[which], membrane[which], grade[which]
    return TileCells(
        number=which,
        xy_px=((np.stack(center, axis=1)[which] + 0.5) * STEP).astype(np.float32),
        grade=grades,
        completeness=share,
        membrane_od=density,
        tally=tally_cells(grades, share, _clusters(found.cells, grade, counted)),
    )


def _histogram(regions: Labels, labels: NDArray[np.uint8], n: int) -> NDArray[np.int64]:
    """Count px of each label 0-4 in each of `n` regions: int64 (n, 5)."""
    both = regions.ravel().astype(np.int64) * 5 + labels.ravel()
    return np.bincount(both, minlength=5 * n).reshape(n, 5)


def _membranes(found: CellMap, dab: Array, n: int) -> tuple[Array, Array]:
    """Stained share of each cell's outline and mean DAB of the stained part, float32 (n,) each.

    Cells on the tile's edge are NaN, because part of their outline is not on the tile.
    """
    cells = found.cells
    outline = np.zeros(cells.shape, dtype=bool)
    for a, b in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        differs = cells[a] != cells[b]
        outline[a] |= differs
        outline[b] |= differs
    outline &= cells > 0
    brown = smooth(dab, 0.3)
    inner = ((cells > 0) & ~outline).astype(np.uint8)
    deep = cv2.distanceTransform(inner, cv2.DIST_L2, 5) * COARSE_MPP > CYTOPLASM_UM
    level = medians(brown, cells, deep & (found.nuclei == 0), n)
    # Cells without px of cytoplasm: the whole cell within its outline, nucleus included.
    level = np.where(np.isnan(level), medians(brown, cells, inner > 0, n), level)
    owner = cells[outline]
    nearby = cv2.dilate(brown, disc(TOLERANCE_UM))[outline]
    stained = nearby - level[owner] > VISIBLE_OD
    length = np.bincount(owner, minlength=n)
    seen = np.bincount(owner[stained], minlength=n)
    amount = np.bincount(owner[stained], weights=nearby[stained], minlength=n)
    share = (seen / np.maximum(length, 1)).astype(np.float32)
    density = (amount / np.maximum(seen, 1)).astype(np.float32)
    unknown = np.isnan(level) | (length < _MIN_OUTLINE_PX)
    for edge in (cells[0], cells[-1], cells[:, 0], cells[:, -1]):
        unknown[edge] = True
    share[unknown] = density[unknown] = np.nan
    return share, density


def _clusters(
    cells: Labels, grade: NDArray[np.uint8], counted: NDArray[np.bool_]
) -> tuple[int, ...]:
    """Count the cells of the largest group of touching cells of grade k or higher, k = 0 … 3."""
    from scipy.sparse import coo_array  # slow to load; the daemon does not need it
    from scipy.sparse.csgraph import connected_components

    pairs = [
        np.stack([cells[a].ravel(), cells[b].ravel()])
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]))
    ]
    one, other = np.concatenate(pairs, axis=1)
    touching = one != other
    one, other = one[touching], other[touching]
    n, largest = len(grade), []
    for least in range(4):
        taken = counted & (grade >= least)
        both = taken[one] & taken[other]
        graph = coo_array((np.ones(both.sum()), (one[both], other[both])), shape=(n, n))
        group = connected_components(graph, directed=False)[1]
        largest.append(int(np.bincount(group[taken], minlength=1).max()))
    return tuple(largest)
