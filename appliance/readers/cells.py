"""Tumor cells of an IHC tile: how many of each class, and how complete their membranes are.

Colour deconvolution (Ruifrok & Johnston 2001) gives haematoxylin and DAB; nuclei are split by
watershed on their distance transform; a cell reaches from its nucleus to the nearest ridge of DAB,
half way to its neighbour, or `REACH_UM`, and never out of the tumor that network M labels. M labels
whole cells, so a cell's class is M's; what M does not say, and guidelines ask for, is how much of a
cell's outline is stained (ASCO/CAP 2018: complete, incomplete). That is measured here.

A border belongs to both cells beside it: light microscopy cannot tell whose receptors they are, and
a pathologist calls both membranes stained. All limits below are in µm or optical density (amounts
along the unit vector of a stain). Frame: tile px, origin at the tile's corner; rasters in here are
`STEP` times coarser.
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
"""A membrane is seen where DAB exceeds the cell's cytoplasm by so much."""
TOLERANCE_UM = 1.1
"""A membrane may lie so far from the outline that was found, which is as sure as a px of M's label.
Stained arcs get longer by as much at each end."""
REACH_UM = 7.0
"""Of a cell beyond its nucleus, where no neighbour and no membrane ends it."""
CYTOPLASM_UM = 1.7
"""Cytoplasm begins so far within the outline: a thick membrane is not its own background."""

STEP = 2
"""Cells are measured at half the tile's resolution, 0.56 µm: a membrane is about 1 µm thick."""
_MPP = TILE_MPP * STEP
_BARRIER_UM_PER_OD = 30.0
"""How far a ridge of DAB holds a growing cell back."""
_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)
_MEMBRANE_OD = 0.15
"""A ridge of DAB as strong as this is no nucleus."""
_MIN_CONTRAST_OD = 0.015
"""Nuclei and the rest of the tumor differ by so much haematoxylin, or there are none."""
_GLASS_OD = 0.01
"""No nucleus is as pale as this: vacuoles and lumens are."""
_MIN_NUCLEUS_UM2 = 12.0
_CUT = 4
"""A nucleus cut by the tile's edge may be so many times smaller."""
_MAX_HOLE_UM2 = 60.0
"""Pale chromatin within a rim; larger holes are tissue between nuclei."""
_MIN_TUMOR_PX = 50
_MIN_OUTLINE_PX = 8

_VECTORS = np.array([HAEMATOXYLIN, DAB, np.cross(HAEMATOXYLIN, DAB)], dtype=np.float32)
# The third colour is what neither stain explains.
_VECTORS /= np.linalg.norm(_VECTORS, axis=1, keepdims=True)
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMap:
    """Where nuclei and cells are: int32 (T / `STEP`, T / `STEP`) each, 0 none, k the k-th cell.

    Cells of all kinds that lie on the tumor; `TileCells.number` says which were counted.
    """

    nuclei: Labels
    cells: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCells:
    """The tumor cells of a tile, one row each, and their tally.

    `number` int32 (n,) in `CellMap`; `xy_px` float32 (n, 2) the nucleus's center (x, y) in tile px;
    `grade` uint8 (n,) 0-3; `completeness` float32 (n,) the stained share (0-1) of the outline, NaN
    for a cell that the tile's edge cuts; `membrane_od` float32 (n,) the mean DAB of the stained
    outline as optical density, cytoplasm included, 0 where none is stained, NaN as above.
    """

    number: Labels
    xy_px: Array
    grade: NDArray[np.uint8]
    completeness: Array
    membrane_od: Array
    tally: CellTally


def measure_cells(pixels: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> TileCells:
    """Find and measure the tumor cells of an IHC tile.

    `pixels` uint8 RGB (T, T, 3) at 0.2793 µm/px with the glass at 255; `label_map` uint8 of M,
    (T / 4, T / 4), 0 background, 1-4 tumor scored 0 to 3+. A nucleus that the right or lower edge
    cuts is left to the next tile, so that tiles side by side count each cell once (Gundersen's
    unbiased frame, J Microsc 1977;111:219). Deterministic.

    Raises
    ------
    ValueError
        If the label map does not cover the tile with whole px.
    """
    haematoxylin, dab = _stains(pixels)
    labels = _enlarged(label_map, haematoxylin.shape)
    return _measure(_map(haematoxylin, dab, labels > 0), dab, labels)


def map_cells(pixels: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> CellMap:
    """Where the cells are that `measure_cells` measures; takes and raises the same."""
    haematoxylin, dab = _stains(pixels)
    return _map(haematoxylin, dab, _enlarged(label_map, haematoxylin.shape) > 0)


# stains


def _stains(pixels: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Haematoxylin and DAB, each (rows, columns) at `STEP`."""
    size = (pixels.shape[1] // STEP, pixels.shape[0] // STEP)
    density = cv2.resize(cv2.LUT(pixels, _DENSITY), size, interpolation=cv2.INTER_AREA)
    amounts = unmix(density, _VECTORS)
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
    """How far DAB stands out in a line as thin as a membrane: difference of Gaussians."""
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
    # Flooded from all nuclei at once: where no membrane is, cells meet half way.
    cells = watershed(far + _BARRIER_UM_PER_OD * ridge, nuclei, mask=within)
    return CellMap(nuclei=nuclei, cells=cells.astype(np.int32))


def _nuclei(haematoxylin: Array, ridge: Array, tumor: NDArray[np.bool_]) -> Labels:
    """Nuclei numbered from 1."""
    none = np.zeros(tumor.shape, dtype=np.int32)
    # M's border may cut a nucleus.
    near = cv2.dilate(tumor.astype(np.uint8), _disc(1.1)) > 0
    # Strong DAB looks like haematoxylin when a lab's brown is not the textbook's: left out.
    free = near & (ridge < _MEMBRANE_OD)
    if np.count_nonzero(free) < _MIN_TUMOR_PX:
        return none
    # Below 0 is brown of another hue than the textbook's: glass would look blue beside it.
    blue = _smooth(np.maximum(haematoxylin, 0), 0.5)
    stained = blue > _GLASS_OD
    blue -= ridge
    # Against the mean of its surroundings, a few cells wide: counterstain and folds are uneven.
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
    # Of two tops (µm from the rim) one is noise when the waist between them is no deeper than this.
    tops = _tops(depth, 0.05, 0.8)
    seeds = cv2.connectedComponents(tops.astype(np.uint8))[1]
    nuclei = watershed(-depth, seeds, mask=mask > 0)
    area = np.bincount(nuclei.ravel()) * _MPP**2
    # The other part of a nucleus that the left or upper edge cuts is counted nowhere else.
    area[nuclei[0]] *= _CUT
    area[nuclei[:, 0]] *= _CUT
    large = area >= _MIN_NUCLEUS_UM2
    large[0] = False  # what is no nucleus
    number = np.where(large, np.cumsum(large), 0)
    numbered: Labels = number[nuclei].astype(np.int32)
    return numbered


def _tops(layer: Array, height: float, above: float) -> NDArray[np.bool_]:
    """The h-maxima of a layer (not below 0): tops higher than `above` that rise by `height` above
    the waist to a higher one (Soille, Morphological Image Analysis 2003, 6.3.4).

    As scikit-image's `h_maxima`, which sorts all px. Here the layer, lowered by `height`, is
    dilated under itself until nothing changes: soon, without what is too low to be a waist that
    matters, and most of a tile is.
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
    """The mask with its small holes, but for those paler than cytoplasm: vacuoles, clefts."""
    n, parts, facts, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    area = facts[:, cv2.CC_STAT_AREA]
    mean = np.bincount(parts.ravel(), weights=blue.ravel(), minlength=n) / np.maximum(area, 1)
    hole = (area * _MPP**2 < _MAX_HOLE_UM2) & (mean > cytoplasm)
    hole[0] = False  # what is mask already
    filled: NDArray[np.uint8] = mask | hole[parts].astype(np.uint8)
    return filled


# measurement


def _measure(found: CellMap, dab: Array, labels: NDArray[np.uint8]) -> TileCells:
    n = int(found.nuclei.max()) + 1
    nuclei = found.nuclei.ravel()
    # Majorities over a nucleus (is it tumor?) and over its cell (which class?).
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
    """Px of each label 0-4 in each of `n` regions, (n, 5)."""
    both = regions.ravel().astype(np.int64) * 5 + labels.ravel()
    return np.bincount(both, minlength=5 * n).reshape(n, 5)


def _membranes(found: CellMap, dab: Array, n: int) -> tuple[Array, Array]:
    """Per cell: stained share of its outline, mean DAB of what is stained, float32 (n,) each.

    NaN for cells on the tile's edge: part of their outline is not on the tile.
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
    # Hardly any cytoplasm: the whole of the cell within its outline, nucleus included.
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
    """Median of a layer over each of `n` regions, (n,); NaN for one without px in `where`."""
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
    """Cells in the largest group of touching cells of grade k or higher, for k = 0 … 3."""
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
