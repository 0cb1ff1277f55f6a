"""Control tissue: lies on the HER2 slide alone, is never scored, and says whether the run worked.

Laboratories put tissue or cell lines of known staining beside the patient's. Where its strongest
part is not stained as it should be, a score of 0 means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.findings.classes import CLASS_NAMES, percent_of_tumor
from appliance.findings.findings import ControlFacts
from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.registration.mapping import SlideMapping
from appliance.slides.tissue import Tissue, mask_share

PARTNERED = 0.2
"""A piece of which less is covered by H&E tissue has no partner there."""
NEAR_UM = 100.0
"""H&E tissue is taken for so much wider than it is: sections differ at their rims."""
LEAST_MM2 = 0.02
"""Smaller pieces are crumbs; a core of a tissue array has 0.3 mm² and more."""
JOIN_UM = 60.0
"""Tissue closer than this is one piece."""
LOOK_UM = 32.0
"""Distance between the places of H&E tissue that are carried onto the IHC slide."""
LEAST_SHARE = 0.4
"""Of a tile, to be read; of a piece that fills no tile so far, the fullest tile is read."""
MOST_TILES = 64
"""Read of a slide's control tissue: enough to tell, whatever its size."""
STAINED_SHARE = 0.1
"""A tile shows a class on so many of its px; such a share of the tiles shows the control's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTissue:
    """Where it lies: `pieces` int32 (rows, columns) at `mpp` over the IHC slide, 0 elsewhere."""

    pieces: NDArray[np.int32]
    mpp: float

    @property
    def area_mm2(self) -> float:
        """Area in mm²."""
        return float(np.count_nonzero(self.pieces)) * self.mpp**2 / 1e6

    def tiles(self, grid: TileGrid) -> tuple[TileIndex, ...]:
        """Tiles to read, at most `MOST_TILES`, spread over the whole, in reading order."""
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
        """The labels of a tile's px, (n,), that lie on control tissue; `labels` (rows, columns)
        cover the whole tile."""
        places = [
            ((start + (np.arange(n) + 0.5) / n) * TILE_UM / self.mpp).astype(int)
            for start, n in zip((index.row, index.column), labels.shape, strict=True)
        ]
        rows, columns = (
            np.minimum(place, size - 1)
            for place, size in zip(places, self.pieces.shape, strict=True)
        )
        on: NDArray[np.uint8] = labels[self.pieces[np.ix_(rows, columns)] > 0]
        return on


def find_control(
    mapping: SlideMapping, he_tissue: Tissue, ihc_tissue: Tissue, pen: NDArray[np.bool_]
) -> ControlTissue:
    """Pieces of IHC tissue that no H&E tissue comes to lie on; `pen`, bool as the IHC tissue's
    mask, is none.

    A fragment of the block that the H&E slide lost, or that found no place, is taken for control
    tissue too: nothing tells them apart.
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


def judge_control(
    area_mm2: float, counts: Sequence[NDArray[np.int64]], strongest: int
) -> ControlFacts | None:
    """What the control tissue says; `counts` (5,) its px per class of M, for each tile read.

    It works when `strongest` (0-3), or more, is what enough px show on enough of its tiles.
    None without control tissue. Where M finds nothing the control is unstained: it may be stroma,
    or dirt, but a run that failed looks no other.
    """
    counts = [n for n in counts if n.any()]
    if not counts:
        return None
    shown = [
        max((k for k in range(4) if n[k + 1 :].sum() >= STAINED_SHARE * n.sum()), default=0)
        for n in counts
    ]
    seen = max(
        k for k in range(4) if sum(grade >= k for grade in shown) >= STAINED_SHARE * len(shown)
    )
    return ControlFacts(
        area_mm2=area_mm2,
        tiles=len(counts),
        percent=percent_of_tumor(np.sum(counts, axis=0)),
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
    """Where H&E tissue comes to lie on the IHC slide, or `NEAR_UM` beside it."""
    step = max(1, round(LOOK_UM / he_tissue.mpp))
    row, column = (n * step for n in np.nonzero(he_tissue.mask[::step, ::step]))
    places = np.stack([column, row], axis=1).astype(np.float64) + 0.5
    placed = mapping.forward(places * he_tissue.mpp)
    px = np.floor(placed[~np.isnan(placed[:, 0])] / mpp).astype(int)
    px = px[((px >= 0) & (px < shape[::-1])).all(axis=1)]
    empty = np.ones(shape, dtype=np.uint8)
    empty[px[:, 1], px[:, 0]] = 0
    far = cv2.distanceTransform(empty, cv2.DIST_L2, 3) if len(px) else np.full(shape, np.inf)
    covered: NDArray[np.bool_] = far * mpp <= NEAR_UM + LOOK_UM
    return covered
