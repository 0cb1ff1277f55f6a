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

from appliance.analysis.findings import CLASS_NAMES, ControlFacts
from appliance.analysis.mapping import SlideMapping
from appliance.analysis.scoring import percent_of_tumor
from appliance.analysis.tissue import Tissue, tissue_share
from appliance.geometry import TileGrid, TileIndex

PARTNERED = 0.2
"""A piece of which less lies on H&E tissue has no partner there."""
NEAR_UM = 100.0
"""H&E tissue is taken for so much wider than it is: sections differ at their rims."""
LEAST_MM2 = 0.02
"""Smaller pieces are crumbs; a core of a tissue array has 0.3 mm² and more."""
JOIN_UM = 60.0
"""Tissue closer than this is one piece."""
LOOK_UM = 32.0
"""Distance between the places of a piece that are looked up on the H&E slide."""
LEAST_SHARE = 0.4
"""Of a tile, to be read."""
MOST_TILES = 64
"""Read of a slide's control tissue: enough to tell, whatever its size."""
STAINED_SHARE = 0.1
"""A tile shows a class on so many of its px; such a share of the tiles shows the control's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTissue:
    """Where it lies: `mask` bool (rows, columns) at `mpp` over the IHC slide."""

    mask: NDArray[np.bool_]
    mpp: float

    @property
    def area_mm2(self) -> float:
        """Area in mm²."""
        return float(self.mask.sum()) * self.mpp**2 / 1e6

    def tiles(self, grid: TileGrid) -> tuple[TileIndex, ...]:
        """Tiles to read, at most `MOST_TILES`, spread over the whole, in reading order."""
        tissue = Tissue(mask=self.mask, mpp=self.mpp, white_rgb=(255, 255, 255), area_mm2=0.0)
        share = tissue_share(tissue, grid)
        rows, columns = np.nonzero(share >= LEAST_SHARE)
        every = -(-len(rows) // MOST_TILES) or 1
        return tuple(
            TileIndex(int(c), int(r)) for r, c in zip(rows[::every], columns[::every], strict=True)
        )


def find_control(mapping: SlideMapping, he_tissue: Tissue, ihc_tissue: Tissue) -> ControlTissue:
    """Pieces of IHC tissue that have no H&E partner.

    A fragment of the block that the H&E slide lost is taken for control tissue too: nothing tells
    them apart. It is as little scored.
    """
    mpp, mask = ihc_tissue.mpp, ihc_tissue.mask
    pieces, count = _pieces(ihc_tissue)
    step = max(1, round(LOOK_UM / mpp))
    row, column = (n * step for n in np.nonzero(mask[::step, ::step]))
    places = np.stack([column, row], axis=1).astype(np.float64) + 0.5
    back = mapping.inverse(places * mpp)
    piece = pieces[row, column]
    looked_at = np.maximum(np.bincount(piece, minlength=count), 1)
    partnered = np.bincount(piece, weights=_on(he_tissue, back), minlength=count) / looked_at
    area_mm2 = np.bincount(pieces[mask], minlength=count) * mpp**2 / 1e6
    alone = (partnered < PARTNERED) & (area_mm2 >= LEAST_MM2)
    alone[0] = False
    return ControlTissue(mask=alone[pieces] & mask, mpp=mpp)


def judge_control(
    area_mm2: float, counts: Sequence[NDArray[np.int64]], strongest: int
) -> ControlFacts | None:
    """What the control tissue says; `counts` (5,) px of M's classes per tile that was read.

    It works when `strongest` (0-3), or more, is what most stained px show on enough of its tiles.
    None without control tissue.
    """
    if not counts:
        return None
    shown = [
        max(
            (k for k in range(4) if n[k + 1 :].sum() >= STAINED_SHARE * n.sum()),
            default=0,
        )
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


def _pieces(tissue: Tissue) -> tuple[NDArray[np.int32], int]:
    reach = max(1, round(JOIN_UM / 2 / tissue.mpp))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.morphologyEx(tissue.mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, pieces = cv2.connectedComponents(joined)
    return pieces.astype(np.int32), count


def _on(tissue: Tissue, points_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (n, 2), slide µm, lie on tissue or `NEAR_UM` beside it; NaN does not."""
    reach = max(1, round(NEAR_UM / tissue.mpp))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(tissue.mask.astype(np.uint8), kernel) > 0
    px = np.floor(np.nan_to_num(points_um, nan=-1e9) / tissue.mpp).astype(int)
    inside = ((px >= 0) & (px < near.shape[::-1])).all(axis=1)
    on = np.zeros(len(px), dtype=bool)
    on[inside] = near[px[inside, 1], px[inside, 0]]
    return on
