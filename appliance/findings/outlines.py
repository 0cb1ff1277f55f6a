"""Outlines of areas of a raster: polygons with holes, along the edges of its px."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.findings.label_map import CHUNK_ROWS, LabelMap

Ring = NDArray[np.int64]
"""Closed ring, int64 (n, 2): (x, y) of px corners, in px of the raster."""
_STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""(x, y) of one px to the east, south, west and north; y runs down."""


def polygons_of(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """Return the polygons of the areas of a mask (rows, columns): the outline, then the holes.

    Px that touch by a corner alone are two areas. Filled by the even-odd rule, the polygons give
    the mask back, px for px. Time and memory grow with the length of the outlines.
    """
    starts, directions, areas = _edges(mask)
    polygons: dict[int, list[Ring]] = {}
    outlines: dict[int, Ring] = {}
    for ring in _rings(starts, directions):
        turns = directions[ring] != np.roll(directions[ring], 1)
        corners = starts[ring[turns]]
        closed = np.vstack([corners, corners[:1]])
        area = int(areas[ring[0]])
        # Edges have their px on the right hand: outlines and holes run in opposite directions.
        if _doubled_area(closed) > 0:
            outlines[area] = closed
        else:
            polygons.setdefault(area, []).append(closed)
    return [[outlines[area], *polygons.get(area, [])] for area in sorted(outlines)]


def thinned(labels: LabelMap, step: int) -> NDArray[np.uint8]:
    """Return the px in the middle of each block of `step` x `step` px: uint8 (rows, columns).

    Shares are preserved, and thin structures are not. The map is read band by band.
    """
    rows, columns = labels.shape
    middle_rows, middle_columns = (_middles(length, step) for length in (rows, columns))
    parts = []
    for top in range(0, rows, CHUNK_ROWS):
        wanted = middle_rows[(middle_rows >= top) & (middle_rows < top + CHUNK_ROWS)]
        if wanted.size:
            band = labels[top : top + CHUNK_ROWS, 0:columns]
            parts.append(np.asarray(band)[np.ix_(wanted - top, middle_columns)])
    return np.concatenate(parts)


def _middles(length: int, step: int) -> NDArray[np.int64]:
    return np.minimum(np.arange(-(-length // step)) * step + step // 2, length - 1)


def _edges(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges between the mask's px and others: start (n, 2), direction, area (n,).

    A direction is an index of `_STEPS`; the mask's px lies to the right of its edges.
    """
    inside = np.pad(mask, 1)
    _, area = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    own = inside[1:-1, 1:-1]
    others = (inside[:-2, 1:-1], inside[1:-1, 2:], inside[2:, 1:-1], inside[1:-1, :-2])
    # Corner of a px where its northern, eastern, southern and western edge start.
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    found = []
    for direction, (other, (dx, dy)) in enumerate(zip(others, corners, strict=True)):
        rows, columns = np.nonzero(own & ~other)
        found.append(
            np.column_stack(
                [
                    columns + dx,
                    rows + dy,
                    np.full(rows.size, direction),
                    area[rows + 1, columns + 1],
                ]
            )
        )
    edges = np.concatenate(found).astype(np.int64)
    return edges[:, :2], edges[:, 2], edges[:, 3]


def _rings(starts: NDArray[np.int64], directions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rings that the edges form, each as the indices of its edges in order."""
    if not starts.size:
        return []
    width = int(starts[:, 0].max()) + 2

    def keys(points: NDArray[np.int64], towards: NDArray[np.int64]) -> NDArray[np.int64]:
        return (points[:, 1] * width + points[:, 0]) * len(_STEPS) + towards

    known = keys(starts, directions)
    order = np.argsort(known)
    ends = starts + _STEPS[directions]
    following = np.full(len(starts), -1)
    # The turn to the right comes last and wins: it stays with the px, where two touch by a corner.
    for turn in (3, 0, 1):
        wanted = keys(ends, (directions + turn) % len(_STEPS))
        place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
        hit = known[order[place]] == wanted
        following[hit] = order[place[hit]]
    return _cycles(following.tolist())


def _cycles(following: Sequence[int]) -> list[NDArray[np.int64]]:
    seen = bytearray(len(following))
    rings = []
    for first in range(len(following)):
        if seen[first]:
            continue
        ring, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            ring.append(edge)
            edge = following[edge]
        rings.append(np.array(ring))
    return rings


def _doubled_area(ring: Ring) -> int:
    x, y = ring[:, 0], ring[:, 1]
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
