"""Control tissue of the HER2 slide: its stain shows whether the staining run worked.

Laboratories put tissue or cell lines of known staining beside the patient's tissue, on the HER2
slide only. Control tissue is never scored. Where its strongest part is not stained as expected, a
score of 0 is not valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.findings.classes import CLASS_NAMES, percent_of_tumor
from appliance.findings.measured import ControlFacts
from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.registration.mapping import SlideMapping
from appliance.slides.tissue import Tissue, mask_share

PARTNERED = 0.2
"""Least share (0-1) of a piece that H&E tissue covers; a piece below it has no partner."""
NEAR_UM = 100.0
"""Margin by which H&E tissue is widened, because sections differ at their rims."""
LEAST_MM2 = 0.02
"""Least area of a piece; smaller ones are crumbs. A tissue array core has at least 0.3 mm²."""
JOIN_UM = 60.0
"""Distance below which parts of tissue form one piece."""
LOOK_UM = 32.0
"""Spacing of the points of H&E tissue that are mapped onto the IHC slide."""
LEAST_SHARE = 0.4
"""Least share (0-1) of a tile that a piece fills for the tile to be read. The fullest tile of a
piece is read where no tile reaches it."""
MOST_TILES = 64
"""Limit of tiles read of a slide's control tissue; sufficient for any size."""
STAINED_SHARE = 0.1
"""Least share (0-1) of a tile's px, or of its nuclei, at which the tile shows a class, and least
share of the tiles at which the control tissue shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTissue:
    """Position of control tissue on the IHC slide.

    `pieces` is int32 (rows, columns) at `mpp` over the slide: the number of the piece, 0 elsewhere.
    """

    pieces: NDArray[np.int32]
    mpp: float

    @property
    def area_mm2(self) -> float:
        """Area of all pieces in mm²."""
        return float(np.count_nonzero(self.pieces)) * self.mpp**2 / 1e6

    def share(self, grid: TileGrid) -> NDArray[np.float32]:
        """Share (0-1) of each tile that is control tissue, float32 (rows, columns of the grid)."""
        return mask_share(self.pieces > 0, self.mpp, grid)

    def tiles(self, grid: TileGrid) -> tuple[TileIndex, ...]:
        """Tiles to read, at most `MOST_TILES`, spread over all pieces, in reading order."""
        read = np.zeros(grid.shape, dtype=bool)
        for number in np.unique(self.pieces[self.pieces > 0]):
            share = mask_share(self.pieces == number, self.mpp, grid)
            read |= share >= min(LEAST_SHARE, float(share.max()))
        rows, columns = np.nonzero(read)
        every = -(-len(rows) // MOST_TILES) or 1
        return tuple(
            TileIndex(int(c), int(r)) for r, c in zip(rows[::every], columns[::every], strict=True)
        )

    def within(self, index: TileIndex, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels (n,) of the px of a tile that lie on control tissue.

        `labels` (rows, columns) covers the whole tile.
        """
        on: NDArray[np.uint8] = labels[self.holds(index, labels.shape)]
        return on

    def holds(self, index: TileIndex, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return whether each px of a tile lies on control tissue, bool of `shape`.

        `shape` (rows, columns) is that of a raster over the whole tile.
        """
        places = [
            ((start + (np.arange(n) + 0.5) / n) * TILE_UM / self.mpp).astype(int)
            for start, n in zip((index.row, index.column), shape, strict=True)
        ]
        rows, columns = (
            np.minimum(place, size - 1)
            for place, size in zip(places, self.pieces.shape, strict=True)
        )
        held: NDArray[np.bool_] = self.pieces[np.ix_(rows, columns)] > 0
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReading:
    """Control tissue: its area, and px per class (n, 5) of the tiles that were read."""

    area_mm2: float
    counts: list[list[int]]


def find_control(
    mapping: SlideMapping, he_tissue: Tissue, ihc_tissue: Tissue, pen: NDArray[np.bool_]
) -> ControlTissue:
    """Find the pieces of IHC tissue onto which no H&E tissue is mapped.

    `pen`, bool of the shape of the IHC tissue mask, marks px under pen, which are not tissue. A
    fragment of the block that is missing from the H&E slide, or that was not aligned, is taken for
    control tissue too: the slides do not tell them apart.
    """
    mpp = ihc_tissue.mpp
    mask = ihc_tissue.mask & ~pen
    pieces, count = _pieces(mask, mpp)
    covered = _covered(mapping, he_tissue, mask.shape, mpp)
    size = np.bincount(pieces[mask], minlength=count)
    partnered = np.bincount(pieces[mask & covered], minlength=count) / np.maximum(size, 1)
    alone = (partnered < PARTNERED) & (size * mpp**2 / 1e6 >= LEAST_MM2)
    alone[0] = False
    return ControlTissue(pieces=np.where(alone[pieces] & mask, pieces, 0), mpp=mpp)


def lost_share(mapping: SlideMapping, he_tissue: Tissue) -> float:
    """Share (0-1) of the H&E tissue that has no place on the IHC slide."""
    placed = mapping.forward(_places(he_tissue))
    return float(np.isnan(placed[:, 0]).mean()) if len(placed) else 0.0


def judge_control(
    area_mm2: float, counts: Sequence[NDArray[np.int64]], strongest: int, *, least: int = 0
) -> ControlFacts | None:
    """Judge the staining run by its control tissue; None without control tissue.

    `counts` holds the px per class of network M, (5,), of each tile read, or what else is counted
    per class. The run worked when enough of them on enough tiles show class `strongest` (0-3) or a
    higher one, and at least `least` on all tiles together. Control tissue in which M finds no tumor
    counts as unstained: it may be stroma or dirt, but a failed run looks the same.
    """
    counts = [n for n in counts if n.any()]
    if not counts:
        return None
    shown = [
        max((k for k in range(4) if n[k + 1 :].sum() >= STAINED_SHARE * n.sum()), default=0)
        for n in counts
    ]
    total = np.sum(counts, axis=0)
    seen = max(
        k
        for k in range(4)
        if sum(grade >= k for grade in shown) >= STAINED_SHARE * len(shown)
        and (k == 0 or total[k + 1 :].sum() >= least)
    )
    return ControlFacts(
        area_mm2=area_mm2,
        tiles=len(counts),
        percent=percent_of_tumor(total),
        strongest=CLASS_NAMES[seen],
        works=seen >= strongest,
    )


def _pieces(mask: NDArray[np.bool_], mpp: float) -> tuple[NDArray[np.int32], int]:
    reach = max(1, round(JOIN_UM / 2 / mpp))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, pieces = cv2.connectedComponents(joined)
    return pieces.astype(np.int32), count


def _covered(
    mapping: SlideMapping, he_tissue: Tissue, shape: tuple[int, ...], mpp: float
) -> NDArray[np.bool_]:
    """Mask of H&E tissue mapped onto the IHC slide, widened by `NEAR_UM`: bool of `shape`."""
    placed = mapping.forward(_places(he_tissue))
    px = np.floor(placed[~np.isnan(placed[:, 0])] / mpp).astype(int)
    px = px[((px >= 0) & (px < shape[::-1])).all(axis=1)]
    empty = np.ones(shape, dtype=np.uint8)
    empty[px[:, 1], px[:, 0]] = 0
    far = cv2.distanceTransform(empty, cv2.DIST_L2, 3) if len(px) else np.full(shape, np.inf)
    covered: NDArray[np.bool_] = far * mpp <= NEAR_UM + LOOK_UM
    return covered


def _places(he_tissue: Tissue) -> NDArray[np.float64]:
    """Points (n, 2) of H&E tissue in µm, `LOOK_UM` apart."""
    step = max(1, round(LOOK_UM / he_tissue.mpp))
    row, column = (n * step for n in np.nonzero(he_tissue.mask[::step, ::step]))
    places: NDArray[np.float64] = np.stack([column, row], axis=1).astype(np.float64) + 0.5
    return places * he_tissue.mpp
