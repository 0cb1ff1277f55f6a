"""Truth about each tumor cell of a generated tile; read from the generator without changing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.spec import TILE_PX
from models.synthesis.canvas import Canvas, Territory
from models.synthesis.cells import Kind
from models.synthesis.fields import Array
from models.synthesis.render import MARGIN_PX
from models.synthesis.tile_pairs import tile_scene

DRAWN = 0.5
"""Amount (0-1) above which a px of an outline counts as stained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTruth:
    """Tumor cells with their center on a tile, a row each.

    `xy_px` float64 (n, 2): center in tile px, origin at the tile's corner; `grade` uint8 (n,) 0-3;
    `membrane` the DAB of its own membrane; `completeness` the intended stained share (0-1) of its
    outline. `drawn` is the stained share of the outline as drawn. It differs from the intended one:
    stain comes in arcs, and a cell shares each border with a neighbor, whose stain is drawn on half
    of these borders. NaN if the cell extends over the tile's edge.
    """

    xy_px: NDArray[np.float64]
    grade: NDArray[np.uint8]
    membrane: Array
    completeness: Array
    drawn: Array


def tile_cells(seed: int) -> CellTruth:
    """Return the tumor cells of the IHC tile that `synthesize_tile_pair` draws from `seed`."""
    world, view, _ = tile_scene(seed)
    size = TILE_PX + 2 * MARGIN_PX
    canvas = Canvas(world, view, -MARGIN_PX, -MARGIN_PX, (size, size), control=True)
    territory = canvas.territory
    cells = territory.cells
    xy_px = canvas.to_px(cells.xy_um) - MARGIN_PX
    on_tile = ((xy_px >= 0) & (xy_px < TILE_PX)).all(axis=1)
    chosen = np.flatnonzero(on_tile & (cells.kind == Kind.TUMOR))
    return CellTruth(
        xy_px=xy_px[chosen],
        grade=cells.grade[chosen],
        membrane=cells.membrane[chosen],
        completeness=cells.completeness[chosen],
        drawn=_drawn(territory, canvas.stained_outline())[chosen],
    )


def _drawn(territory: Territory, arcs: Array) -> Array:
    """Stained share of the border px that touch each cell; NaN for cells on a tile's edge."""
    cells = territory.cells
    inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    border = territory.edge[inner] > 0
    stained = ((arcs > DRAWN) & (territory.of(cells.membrane) > 0))[inner][border]
    owner = np.where(territory.inside, territory.who, -1)
    # A border is drawn on one of its two cells. Assign it to both, each px once per cell.
    around = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    near = np.stack([np.roll(owner, shift, (0, 1))[inner][border] for shift in around])
    near.sort(axis=0)
    first = near >= 0
    first[1:] &= near[1:] != near[:-1]
    length = np.bincount(near[first], minlength=len(cells))
    drawn = np.bincount(near[first & stained], minlength=len(cells))
    share = (drawn / np.maximum(length, 1)).astype(np.float32)
    owner[inner] = -1
    share[owner[owner >= 0]] = np.nan
    share[length == 0] = np.nan
    return share
