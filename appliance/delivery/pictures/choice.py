"""Choice of the tiles and blocks that are shown; equal findings give equal choices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median

import numpy as np

from appliance.delivery.pictures.case import PicturedCase, What, is_tumor, place_of_tile, scored
from appliance.findings.measured import TileFinding
from appliance.geometry import TileGrid, TileIndex

PER_CLASS = 2
"""Most tiles of a class that are shown; the paper's figures 9-12 have two of each score."""
BLOCK_TILES = 12
"""Edge of a block in tiles, 1.7 mm: the paper's regions have 144 tiles (Table 3)."""
MOST_BLOCKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Block of tiles: its first one, and its numbers of rows and columns."""

    number: int
    first: TileIndex
    rows: int
    columns: int

    def tiles(self) -> list[TileIndex]:
        """Tiles of the block, row by row."""
        return [
            TileIndex(self.first.column + column, self.first.row + row)
            for row in range(self.rows)
            for column in range(self.columns)
        ]


def chosen_tiles(case: PicturedCase, what: What) -> list[TileIndex]:
    """Tiles that are shown one by one, lowest class first.

    Of each class those with most px of it, then tiles without tumor. On the anatomy slide these are
    the partners of the same tiles, then those in which C is surest that there is no tumor.
    """
    tiles = case.findings.tiles
    chosen: list[TileFinding] = []
    for grade in range(len(case.assay.classes)):
        of_grade = [tile for tile in tiles if scored(tile) and tile.grade == grade]
        of_grade.sort(key=lambda tile: (-tile.percent[tile.grade], tile.row, tile.column))
        chosen += of_grade[:PER_CLASS]
    places = [place_of_tile(tile, what) for tile in chosen]
    if what == "ihc":
        return places + [place_of_tile(t, what) for t in tiles if not scored(t)][:PER_CLASS]
    return places + _without_tumor(case)


def _without_tumor(case: PicturedCase) -> list[TileIndex]:
    grid = case.findings.rasters.he_probability
    rows, columns = np.nonzero(~np.isnan(grid))
    order = np.argsort(grid[rows, columns], kind="stable")
    found = (TileIndex(int(columns[k]), int(rows[k])) for k in order)
    return [index for index in found if not is_tumor(case, index)][:PER_CLASS]


def chosen_blocks(case: PicturedCase, what: What) -> list[Block]:
    """Blocks with most scored tiles, most first.

    They are those of a fixed grid of the target slide. On the anatomy slide a block begins where
    most of the partners of its tiles lie: by the median shift from tile to partner.
    """
    if not case.findings.tiles:
        return []
    members: dict[tuple[int, int], list[TileFinding]] = {}
    for tile in case.findings.tiles:
        place = tile.row // BLOCK_TILES, tile.column // BLOCK_TILES
        members.setdefault(place, []).append(tile)
    counts = Counter({place: sum(map(scored, tiles)) for place, tiles in members.items()})
    most = sorted(counts, key=lambda place: (-counts[place], place))[:MOST_BLOCKS]
    grid = TileGrid.of(*case.facts(what).size_um)
    blocks = []
    for number, (row, column) in enumerate(most, start=1):
        first = TileIndex(column * BLOCK_TILES, row * BLOCK_TILES)
        if what == "he":
            first = _partner_of(first, members[row, column], grid)
        blocks.append(
            Block(
                number=number,
                first=first,
                rows=min(BLOCK_TILES, grid.rows - first.row),
                columns=min(BLOCK_TILES, grid.columns - first.column),
            )
        )
    return blocks


def _partner_of(first: TileIndex, tiles: list[TileFinding], grid: TileGrid) -> TileIndex:
    column = first.column + round(median(tile.he_column - tile.column for tile in tiles))
    row = first.row + round(median(tile.he_row - tile.row for tile in tiles))
    return TileIndex(
        max(0, min(column, grid.columns - BLOCK_TILES)), max(0, min(row, grid.rows - BLOCK_TILES))
    )
