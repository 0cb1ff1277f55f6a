"""The pairing of tiles of both slides' grids: the mapping I of arXiv 2512.22335, Eq. 3-4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.registration.mapping import SlideMapping
from appliance.slides.tissue import MIN_TISSUE_SHARE

REACH_TILES = 1.0
"""Largest distance between the centers of partners, in tiles."""
SAME_TILES = 0.71
"""Distance on the IHC slide, in tiles, up to which tumor tiles of two pieces show the same tissue.
No place is farther from the nearest center of a grid of tiles (half a diagonal)."""
NO_EDGE = 1e6
"""Cost of a tumor tile without partner, which no pairing reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """IHC tiles to read, and their H&E partners.

    `ihc_tiles` are scored; `partner` takes each to an H&E tile, one to one. `margin` are tiles with
    tissue around them, or all others with tissue, which are read and annotated, not scored. Both go
    row by row. `unscored_he` are
    tumor tiles of the H&E slide without partner: tumor that is not scored. Where the H&E slide has
    several sections of tissue that the IHC slide has once, a tile counts once.
    """

    ihc_tiles: tuple[TileIndex, ...]
    partner: Mapping[TileIndex, TileIndex]
    margin: tuple[TileIndex, ...]
    unscored_he: tuple[TileIndex, ...]


def map_tumor(
    he_tumor: NDArray[np.float32],
    mapping: SlideMapping,
    he_grid: TileGrid,
    ihc_grid: TileGrid,
    ihc_tissue_share: NDArray[np.float32],
    *,
    threshold: float,
    margin_tiles: int | None = 0,
) -> TilePlan:
    """Pair each tumor tile of the H&E slide with an IHC tile.

    `he_tumor` is float32 (rows, columns of `he_grid`), NaN where no tile was read;
    `ihc_tissue_share` is float32 (rows, columns of `ihc_grid`). An IHC tile without tissue, or
    farther than `REACH_TILES` from every free tumor tile, has no partner: on-slide control tissue
    is never scored. Of all one-to-one pairings the one with the smallest sum of distances is taken.
    `margin_tiles` is the width of the margin in tiles; None: all other tiles with tissue.
    """
    rows, columns = np.nonzero(np.nan_to_num(he_tumor, nan=-1.0) >= threshold)
    found = [TileIndex(int(c), int(r)) for r, c in zip(rows, columns, strict=True)]
    tumor = _once(found, mapping, he_grid)
    pairs = _pair(tumor, mapping, he_grid, ihc_grid, ihc_tissue_share)
    partner = {ihc: tumor[number] for number, ihc in pairs.items()}
    order = sorted(partner, key=lambda index: (index.row, index.column))
    return TilePlan(
        ihc_tiles=tuple(order),
        partner=partner,
        margin=_margin(order, ihc_tissue_share, margin_tiles),
        unscored_he=tuple(t for number, t in enumerate(tumor) if number not in pairs),
    )


def _once(tumor: list[TileIndex], mapping: SlideMapping, he_grid: TileGrid) -> list[TileIndex]:
    """The tumor tiles without those whose tissue an earlier piece's tumor tile shows already.

    An H&E slide often has two or three levels of a biopsy and the IHC slide one. Their tiles would
    take neighbors' places, beyond the tumor.
    """
    if len(mapping.pieces) < 2 or not tumor:
        return tumor
    from scipy.spatial import cKDTree  # slow to load; the daemon does not need it

    centers = he_grid.centers_um()[[t.row for t in tumor], [t.column for t in tumor]]
    place, piece = mapping.forward(centers) / TILE_UM, mapping.piece_at(centers)
    kept = np.ones(len(tumor), dtype=bool)
    for number in range(2, len(mapping.pieces) + 1):
        before = (piece > 0) & (piece < number) & kept
        mine = np.flatnonzero(piece == number)
        if before.any() and len(mine):
            kept[mine] = cKDTree(place[before]).query(place[mine])[0] > SAME_TILES
    return [tile for tile, stays in zip(tumor, kept.tolist(), strict=True) if stays]


def _pair(
    tumor: list[TileIndex],
    mapping: SlideMapping,
    he_grid: TileGrid,
    ihc_grid: TileGrid,
    share: NDArray[np.float32],
) -> dict[int, TileIndex]:
    """IHC tile of each tumor tile that has a partner, by the tumor tile's number."""
    if not tumor:
        return {}
    centers = he_grid.centers_um()[[t.row for t in tumor], [t.column for t in tumor]]
    place = mapping.forward(centers) / TILE_UM - 0.5  # IHC grid, tile centers at integers
    # NaN, tissue that the IHC slide lacks, becomes a place near no tile.
    place = np.nan_to_num(place, nan=-9.0)
    edges: list[tuple[int, int, float]] = []
    nearest = np.round(place).astype(int)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            x, y = nearest[:, 0] + dx, nearest[:, 1] + dy
            distance = np.hypot(x - place[:, 0], y - place[:, 1])
            ok = (x >= 0) & (x < ihc_grid.columns) & (y >= 0) & (y < ihc_grid.rows)
            ok &= distance <= REACH_TILES
            for number in np.flatnonzero(ok):
                if share[y[number], x[number]] >= MIN_TISSUE_SHARE:
                    target = int(y[number]) * ihc_grid.columns + int(x[number])
                    edges.append((int(number), target, float(distance[number])))
    return {
        number: TileIndex(target % ihc_grid.columns, target // ihc_grid.columns)
        for number, target in _assign(edges).items()
    }


def _margin(
    tiles: list[TileIndex], share: NDArray[np.float32], width: int | None
) -> tuple[TileIndex, ...]:
    """Tiles with tissue within `width` tiles of `tiles`, or at any distance, row by row."""
    scored = np.zeros(share.shape, dtype=bool)
    for tile in tiles:
        scored[tile.row, tile.column] = True
    wanted = ~scored & (share >= MIN_TISSUE_SHARE)
    if width is not None:
        from scipy.ndimage import maximum_filter  # slow to load; the daemon does not need it

        wanted &= maximum_filter(scored, size=2 * width + 1)
    rows, columns = np.nonzero(wanted)
    return tuple(TileIndex(int(c), int(r)) for r, c in zip(rows, columns, strict=True))


def _assign(edges: list[tuple[int, int, float]]) -> dict[int, int]:
    """Cheapest one-to-one assignment over (source, target, distance) with the most pairs."""
    if not edges:
        return {}
    from scipy.sparse import coo_array  # slow to load; the daemon does not need it
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    sources = sorted({e[0] for e in edges})
    targets = sorted({e[1] for e in edges})
    s_index = {s: i for i, s in enumerate(sources)}
    t_index = {t: i for i, t in enumerate(targets)}
    n, m = len(sources), len(targets)
    rows = [s_index[s] for s, _, _ in edges] + list(range(n))
    cols = [t_index[t] for _, t, _ in edges] + [m + i for i in range(n)]
    # Every source may also stay without target, at `NO_EDGE`.
    costs = [distance + 1e-3 for _, _, distance in edges] + [NO_EDGE] * n
    graph = coo_array((costs, (rows, cols)), shape=(n, m + n)).tocsr()
    matched_rows, matched_cols = min_weight_full_bipartite_matching(graph)
    return {
        sources[r]: targets[c]
        for r, c in zip(matched_rows.tolist(), matched_cols.tolist(), strict=True)
        if c < m
    }
