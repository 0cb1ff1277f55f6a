"""Strong stain outside the tumor: the largest focus of it on a target slide.

Only what C calls tumor on the anatomy slide is scored on the target slide. Tumor that C missed, or
that the next section alone shows, would go unseen. Strong stain is where it matters most. Two
readers look: the plain reader on the overview, always, and M on the tiles that it annotates.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.findings.measured import StainFocus
from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.readers.control import find_control, lost_share
from appliance.readers.nucleus_shapes import STAIN_VECTORS
from appliance.readers.reader import AnatomySlide, TileInput
from appliance.slides.artefacts import find_artefacts
from models.deconvolution import unmix

NEAR_TILES = 1
"""Width in tiles of the rim around the tumor that belongs to it: sections differ there, and the
slides may fit onto each other only within 100 µm."""
CELL_UM = 25.0
"""Wanted px of the picture that is looked at: the coarsest overview has no finer one."""
STRONG_OD = 0.15
"""Mean DAB of such a px, as optical density, from which it is strongly stained."""
JOIN_PX = 5
"""Edge of the closing that joins nests: those less than 100 µm apart are one focus."""
MOST_LOST = 0.1
"""Share (0-1) of the H&E tissue without a place beyond which what has no partner on the target
slide may be that tissue, not control tissue."""
LEAST_SHARE = 0.05
"""Least share (0-1) of a tile's px that M calls strongly stained for the tile to be part of a
focus: stray px would join foci that lie apart."""


def focus_on_overview(given: TileInput, reader: str) -> StainFocus | None:
    """Largest strongly stained focus of the overview outside the tumor tiles, by its DAB.

    It is rich in nuclei, as stroma with brown background is not. Control tissue, pen, folds and
    lines narrower than 3 px of `CELL_UM`, such as a stained edge of the section, are left out;
    control tissue not where more than `MOST_LOST` of the H&E tissue has no place. None
    without a focus, and without an anatomy slide beside, where nothing tells control tissue.
    """
    if given.beside is None:
        return None
    mask, mpp = given.tissue.mask, given.tissue.mpp
    rows, columns = (max(1, round(n * mpp / CELL_UM)) for n in mask.shape)
    cell_um = (mask.shape[1] * mpp / columns, mask.shape[0] * mpp / rows)
    small = cv2.resize(given.picture, (columns, rows), interpolation=cv2.INTER_AREA)
    away = _outside(given.tiles, given.slide.grid)
    at = np.ix_(
        *(
            np.minimum(((np.arange(n) + 0.5) * um / TILE_UM).astype(int), tiles - 1)
            for n, um, tiles in zip((rows, columns), cell_um[::-1], away.shape, strict=True)
        )
    )
    tissue = cv2.resize(mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    strong = _strong(small, given.tissue.white_rgb, tissue) & away[at]
    if not _solid(strong).any():
        return None  # most slides: what follows takes a second
    usable = cv2.resize(_usable(given, given.beside), (columns, rows), interpolation=cv2.INTER_AREA)
    solid = _solid(strong & (usable > 0.5))
    joined = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((JOIN_PX, JOIN_PX), np.uint8))
    return _largest(solid * (cell_um[0] * cell_um[1] / 1e6), joined, cell_um, reader)


def _solid(strong: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Strongly stained px without lines narrower than 3 px: uint8 0 and 1."""
    solid: NDArray[np.uint8] = cv2.morphologyEx(
        strong.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    return solid


def _usable(given: TileInput, beside: AnatomySlide) -> NDArray[np.float32]:
    """Tissue without what is taken for control tissue, pen and folds: 0 and 1, of the overview."""
    tissue = given.tissue
    marks = find_artefacts(given.picture, tissue)
    usable = tissue.mask & ~marks
    if lost_share(beside.mapping, beside.tissue) <= MOST_LOST:
        usable &= find_control(beside.mapping, beside.tissue, tissue, marks).pieces == 0
    return usable.astype(np.float32)


def focus_on_tiles(
    strong: NDArray[np.float64], tumor: Sequence[TileIndex], reader: str
) -> StainFocus | None:
    """Largest focus of tiles that touch each other, outside the tumor tiles.

    `strong` (rows, columns of the tile grid) is the share (0-1) of a tile's px that is strongly
    stained; 0 for a tile that does not count, such as control tissue.
    """
    rows, columns = strong.shape
    counts = (strong >= LEAST_SHARE) & _outside(tumor, TileGrid(columns, rows))
    mm2 = np.where(counts, strong, 0.0) * TILE_UM**2 / 1e6
    return _largest(mm2, counts.astype(np.uint8), (TILE_UM, TILE_UM), reader)


def _outside(tumor: Sequence[TileIndex], grid: TileGrid) -> NDArray[np.bool_]:
    """Tiles farther than `NEAR_TILES` from the tumor tiles: bool (rows, columns of the grid)."""
    near = np.zeros(grid.shape, dtype=np.uint8)
    for tile in tumor:
        near[tile.row, tile.column] = 1
    edge = 2 * NEAR_TILES + 1
    outside: NDArray[np.bool_] = cv2.dilate(near, np.ones((edge, edge), np.uint8)) == 0
    return outside


def _strong(
    pixels: NDArray[np.uint8], white_rgb: tuple[int, int, int], tissue: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Strongly stained px of cellular tissue, bool (rows, columns), by color deconvolution.

    Cellular: with at least as much hematoxylin as the median of the tissue that is not strongly
    stained. The counterstain of laboratories differs too much for a fixed limit.
    """
    light = np.maximum(pixels, 1) / np.array(white_rgb, dtype=np.float32)
    density = np.maximum(-np.log10(light), 0).astype(np.float32)
    hematoxylin, dab, _ = np.moveaxis(unmix(density, STAIN_VECTORS), -1, 0)
    stained = tissue & (dab >= STRONG_OD)
    rest = hematoxylin[tissue & ~stained]
    strong: NDArray[np.bool_] = stained & (hematoxylin >= (np.median(rest) if rest.size else 0.0))
    return strong


def _largest(
    mm2: NDArray[np.float64],
    joined: NDArray[np.uint8],
    cell_um: tuple[float, float],
    reader: str,
) -> StainFocus | None:
    """Region of `joined` (8 neighbors) with the largest sum of `mm2`, of cells of (x, y) µm."""
    count, regions = cv2.connectedComponents(joined, connectivity=8)
    areas = np.bincount(regions.ravel(), weights=mm2.ravel(), minlength=count)
    areas[0] = 0
    largest = int(areas.argmax())
    if areas[largest] <= 0:
        return None
    rows, columns = np.nonzero(regions == largest)
    x, y = (
        float(np.average(place + 0.5, weights=mm2[rows, columns])) * um
        for place, um in zip((columns, rows), cell_um, strict=True)
    )
    return StainFocus(area_mm2=float(areas[largest]), x_um=x, y_um=y, reader=reader)
