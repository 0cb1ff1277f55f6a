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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from appliance.geometry import TILE_MPP
from appliance.readers.cell_tally import CellTally, tally_cells
from models.deconvolution import DAB, HAEMATOXYLIN, unmix

Array = NDArray[np.float32]
Labels = NDArray[np.int32]

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

STEP = 2
"""Factor of coarsening: cells are measured at 0.56 µm/px, since a membrane is about 1 µm thick."""
_MPP = TILE_MPP * STEP
_BARRIER_UM_PER_OD = 30.0
"""Cost of a ridge of DAB to a growing cell, in µm of distance per optical density."""
_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)
_MEMBRANE_OD = 0.15
"""Ridge of DAB from which px are membrane and never nucleus."""
_MIN_CONTRAST_OD = 0.015
"""Least difference in hematoxylin between nuclei and the rest of the tumor; below it, no nuclei."""
_GLASS_OD = 0.01
"""Hematoxylin up to which px are vacuole or lumen, not nucleus."""
_MIN_NUCLEUS_UM2 = 12.0
_CUT = 4
"""Factor by which a nucleus cut by the tile's edge may be smaller."""
_MAX_HOLE_UM2 = 60.0
"""Largest hole in a nucleus: pale chromatin within a rim; larger ones are tissue between nuclei."""
_MIN_TUMOR_PX = 50
_MIN_OUTLINE_PX = 8

STAIN_VECTORS = np.array([HAEMATOXYLIN, DAB, np.cross(HAEMATOXYLIN, DAB)], dtype=np.float32)
"""Unit vectors of hematoxylin and DAB, and of the residual that neither stain explains."""
STAIN_VECTORS /= np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)


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
    haematoxylin, dab = _stains(pixels)
    labels = _enlarged(label_map, haematoxylin.shape)
    return _measure(_map(haematoxylin, dab, labels > 0), dab, labels)


def map_cells(pixels: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> CellMap:
    """Map the cells that `measure_cells` measures; same arguments and errors."""
    haematoxylin, dab = _stains(pixels)
    return _map(haematoxylin, dab, _enlarged(label_map, haematoxylin.shape) > 0)


# stains


def _stains(pixels: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Hematoxylin and DAB as optical density, float32 (rows, columns) each, coarser by `STEP`."""
    size = (pixels.shape[1] // STEP, pixels.shape[0] // STEP)
    density = cv2.resize(cv2.LUT(pixels, _DENSITY), size, interpolation=cv2.INTER_AREA)
    amounts = unmix(density, STAIN_VECTORS)
    return np.ascontiguousarray(amounts[..., 0]), np.ascontiguousarray(amounts[..., 1])


def _enlarged(label_map: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rows, columns = (n // m for n, m in zip(shape, label_map.shape, strict=True))
    labels: NDArray[np.uint8] = label_map.repeat(rows, axis=0).repeat(columns, axis=1)
    if labels.shape != shape:
        raise ValueError(f"label map {label_map.shape} does not fit a tile of {shape} x {STEP} px.")
    return labels


def _smooth(layer: Array, um: float) -> Array:
    smoothed: Array = cv2.GaussianBlur(layer, (0, 0), um / _MPP)
    return smoothed


def _disc(um: float) -> NDArray[np.uint8]:
    width = 2 * round(um / _MPP) + 1
    disc: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return disc


def _ridge(dab: Array) -> Array:
    """Ridge strength of DAB at the width of a membrane: difference of Gaussians, not below 0."""
    ridge: Array = np.maximum(_smooth(dab, 0.4) - _smooth(dab, 2.5), 0)
    return ridge


# nuclei and territories


def _map(haematoxylin: Array, dab: Array, tumor: NDArray[np.bool_]) -> CellMap:
    ridge = _ridge(dab)
    nuclei = _nuclei(haematoxylin, ridge, tumor)
    if not nuclei.any():
        return CellMap(nuclei=nuclei, cells=nuclei)
    far = cv2.distanceTransform((nuclei == 0).astype(np.uint8), cv2.DIST_L2, 5) * _MPP
    within = (tumor & (far < REACH_UM)) | (nuclei > 0)
    # All nuclei are flooded at once, so cells without a membrane between them meet half way.
    cells = watershed(far + _BARRIER_UM_PER_OD * ridge, nuclei, mask=within)
    return CellMap(nuclei=nuclei, cells=cells.astype(np.int32))


def _nuclei(haematoxylin: Array, ridge: Array, tumor: NDArray[np.bool_]) -> Labels:
    """Raster of nuclei, numbered from 1."""
    none = np.zeros(tumor.shape, dtype=np.int32)
    # Widened, because the border of M's label may cut a nucleus.
    near = cv2.dilate(tumor.astype(np.uint8), _disc(1.1)) > 0
    # Strong DAB is left out: it looks like hematoxylin where a lab's brown differs from the
    # textbook's.
    free = near & (ridge < _MEMBRANE_OD)
    if np.count_nonzero(free) < _MIN_TUMOR_PX:
        return none
    # Clipped: values below 0 are brown of another hue than the textbook's, and glass would look
    # blue beside them.
    blue = _smooth(np.maximum(haematoxylin, 0), 0.5)
    stained = blue > _GLASS_OD
    blue -= ridge
    # The mean of the surroundings, a few cells wide, is subtracted: counterstain and folds are
    # uneven.
    weight = free.astype(np.float32)
    blue -= _smooth(blue * weight, 8.0) / np.maximum(_smooth(weight, 8.0), 1e-3)
    values = blue[free]
    threshold = threshold_otsu(np.clip(values, *np.percentile(values, (0.5, 99.5))))
    dark, pale = values[values > threshold], values[values <= threshold]
    if not dark.size or dark.mean() - pale.mean() < _MIN_CONTRAST_OD:
        return none
    mask = ((blue > threshold) & free & stained).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(0.6))
    mask = _filled(mask, blue, float(pale.mean()))
    depth = _smooth(cv2.distanceTransform(mask, cv2.DIST_L2, 5) * _MPP, 0.5)
    # Of two maxima (µm from the rim), one is noise if the saddle between them is less than 0.05 µm
    # deep.
    tops = _tops(depth, 0.05, 0.8)
    seeds = cv2.connectedComponents(tops.astype(np.uint8))[1]
    nuclei = watershed(-depth, seeds, mask=mask > 0)
    area = np.bincount(nuclei.ravel()) * _MPP**2
    # A nucleus that the left or upper edge cuts is counted on this tile only.
    area[nuclei[0]] *= _CUT
    area[nuclei[:, 0]] *= _CUT
    large = area >= _MIN_NUCLEUS_UM2
    large[0] = False  # background
    number = np.where(large, np.cumsum(large), 0)
    numbered: Labels = number[nuclei].astype(np.int32)
    return numbered


def _tops(layer: Array, height: float, above: float) -> NDArray[np.bool_]:
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
            under = np.minimum(cv2.dilate(under, _NEIGHBOURS), limit)
        changed = not np.array_equal(before, under)
    tops: NDArray[np.bool_] = (layer > above) & (layer - under >= height)
    return tops


def _filled(mask: NDArray[np.uint8], blue: Array, cytoplasm: float) -> NDArray[np.uint8]:
    """Fill the small holes of a mask, except those paler than cytoplasm (vacuoles, clefts)."""
    n, parts, facts, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    area = facts[:, cv2.CC_STAT_AREA]
    mean = np.bincount(parts.ravel(), weights=blue.ravel(), minlength=n) / np.maximum(area, 1)
    hole = (area * _MPP**2 < _MAX_HOLE_UM2) & (mean > cytoplasm)
    hole[0] = False  # component 0 is the mask itself
    filled: NDArray[np.uint8] = mask | hole[parts].astype(np.uint8)
    return filled


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
    brown = _smooth(dab, 0.3)
    inner = ((cells > 0) & ~outline).astype(np.uint8)
    deep = cv2.distanceTransform(inner, cv2.DIST_L2, 5) * _MPP > CYTOPLASM_UM
    level = _medians(brown, cells, deep & (found.nuclei == 0), n)
    # Cells without px of cytoplasm: the whole cell within its outline, nucleus included.
    level = np.where(np.isnan(level), _medians(brown, cells, inner > 0, n), level)
    owner = cells[outline]
    nearby = cv2.dilate(brown, _disc(TOLERANCE_UM))[outline]
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


def _medians(layer: Array, regions: Labels, where: NDArray[np.bool_], n: int) -> Array:
    """Median of a layer over each of `n` regions, (n,); NaN for a region without px in `where`."""
    number, values = regions[where], layer[where]
    order = np.lexsort((values, number))
    number, values = number[order], values[order]
    first = np.searchsorted(number, np.arange(n))
    behind = np.searchsorted(number, np.arange(n), side="right")
    medians = np.full(n, np.nan, dtype=np.float32)
    some = behind > first
    medians[some] = values[(first + behind)[some] // 2]
    return medians


def _clusters(
    cells: Labels, grade: NDArray[np.uint8], counted: NDArray[np.bool_]
) -> tuple[int, ...]:
    """Count the cells of the largest group of touching cells of grade k or higher, k = 0 … 3."""
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
