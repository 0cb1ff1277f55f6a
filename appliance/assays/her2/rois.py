"""Blocks of tiles that decided a score, as polygons with their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.domain import Her2Score
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.measured import Roi, TileFinding
from appliance.geometry import TILE_UM

DECIDING_SHARE = 0.25
"""Least share (0-1) of a deciding tile's tumor in the score's class or a higher one. Half of the
largest share of any tile is the limit where that is less."""
MOST = 20
"""Most blocks that are listed, largest first."""
FINE = 16
"""Outlines run 1 / (2 · FINE) of a tile inside the tiles' edges, so that a block whose tiles meet
again at a corner has a simple polygon."""


def deciding_rois(
    tiles: Sequence[TileFinding], score: Her2Score | None, *, all_decide: bool = False
) -> tuple[Roi, ...]:
    """Blocks of tiles, joined edge to edge, that decided the score; all scored tumor for a 0.

    With `all_decide` each of the tiles decided, whatever its share: it holds a cluster of cells.
    """
    if score is None:
        return ()
    shares = {
        tile: sum(tile.percent[score.grade :]) / sum(tile.percent)
        for tile in tiles
        if sum(tile.percent) > 0
    }
    most = max(shares.values(), default=0.0)
    if most <= 0:
        return ()
    least = 0.0 if all_decide else min(DECIDING_SHARE, most / 2)
    deciding = {(tile.row, tile.column): tile for tile, share in shares.items() if share >= least}
    mask = np.zeros([max(place[k] for place in deciding) + 1 for k in (0, 1)], dtype=np.uint8)
    for place in deciding:
        mask[place] = 1
    count, blocks = cv2.connectedComponents(mask, connectivity=4)
    sizes = np.bincount(blocks.ravel(), minlength=count)[1:]
    largest = (np.argsort(-sizes, kind="stable")[:MOST] + 1).tolist()
    return tuple(
        _roi(
            f"R{number}",
            blocks == block,
            [tile for place, tile in deciding.items() if blocks[place] == block],
        )
        for number, block in enumerate(largest, start=1)
    )


def _roi(name: str, block: NDArray[np.bool_], tiles: Sequence[TileFinding]) -> Roi:
    shares = np.array([tile.percent for tile in tiles]).sum(axis=0)
    grades = Counter(tile.grade for tile in tiles)
    intensities = Counter(tile.intensity for tile in tiles)
    return Roi(
        name=name,
        outline_um=_outline(block),
        tiles=len(tiles),
        tumor_area_mm2=float(shares.sum()) / 100 * TILE_UM**2 / 1e6,
        percent=dict(zip(CLASS_NAMES, (100 * shares / shares.sum()).tolist(), strict=True)),
        grades={name: grades[k] for k, name in enumerate(CLASS_NAMES)},
        intensities={name: intensities[k] for k, name in enumerate(CLASS_NAMES)},
    )


def _outline(block: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Outer outline of a block of tiles, (x, y) in µm of the slide; holes are not cut out."""
    fine = np.kron(np.pad(block, 1).astype(np.uint8), np.ones((FINE, FINE), dtype=np.uint8))
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = ((contours[0][:, 0, :] + 0.5) / FINE - 1) * TILE_UM
    return tuple((float(x), float(y)) for x, y in points)
