"""What pictures show of a case: its findings, which slide, and words and colors of the tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from appliance.assays.assay import RGB, Assay
from appliance.delivery.pictures.drawing import Key
from appliance.domain import SlideFacts
from appliance.findings.findings import Findings
from appliance.findings.measured import TileFinding
from appliance.findings.overlay import OUTLINE, PROBABILITY_COLORS
from appliance.geometry import TILE_UM, TileIndex
from models.spec import CLASSES, Task

What = Literal["he", "ihc"]
"""Anatomy slide or target slide."""
Level = Literal["patch", "roi", "slide"]
"""One tile, a block of tiles, or the whole slide: the levels of the paper's figures 9-13."""
WHATS: tuple[What, ...] = get_args(What)
LEVELS: tuple[Level, ...] = get_args(Level)
NO_TUMOR = "N"
OTHER: RGB = (120, 120, 120)
"""Color of a tile that is not scored."""


@dataclass(frozen=True, kw_only=True)
class PicturedCase:
    """Case under a name that is no accession: it is printed, and part of file names."""

    name: str
    findings: Findings
    assay: Assay

    def facts(self, what: What) -> SlideFacts:
        """Facts of a slide."""
        return self.findings.he if what == "he" else self.findings.ihc

    def label(self, what: What) -> str:
        """Name of a slide's stain, for people."""
        return (self.assay.anatomy if what == "he" else self.assay.target).label

    def tiles(self, what: What) -> dict[TileIndex, TileFinding]:
        """Tiles with a tumor partner by their place on a slide."""
        return self._anatomy_tiles if what == "he" else self._target_tiles

    @cached_property
    def _anatomy_tiles(self) -> dict[TileIndex, TileFinding]:
        return {place_of_tile(tile, "he"): tile for tile in self.findings.tiles}

    @cached_property
    def _target_tiles(self) -> dict[TileIndex, TileFinding]:
        return {place_of_tile(tile, "ihc"): tile for tile in self.findings.tiles}

    @property
    def colors(self) -> list[RGB]:
        """Colors of the classes, lowest first."""
        return [named.color for named in self.assay.classes]

    @property
    def classes_title(self) -> str:
        """Title of a view of the classes."""
        return "Stain classes of M" if self.has_networks else "Stain classes"

    @property
    def has_networks(self) -> bool:
        """Return whether L and M read the target slide."""
        return any(opinion.reader == Task.SEGMENTATION for opinion in self.findings.opinions)

    def class_keys(self) -> list[Key]:
        """Legend of the classes."""
        return [Key(words=named.name, colors=(named.color,)) for named in self.assay.classes]


def place_of_tile(tile: TileFinding, what: What) -> TileIndex:
    """Place of a tile on the target slide, or of its partner on the anatomy slide."""
    if what == "he":
        return TileIndex(tile.he_column, tile.he_row)
    return TileIndex(tile.column, tile.row)


def heat_key(words: str) -> Key:
    """Legend of a heat map."""
    return Key(words=words, colors=tuple(color for _, color in PROBABILITY_COLORS))


def words_of(case: PicturedCase, what: What, index: TileIndex) -> tuple[tuple[str, ...], RGB]:
    """Words on a tile and color of its frame.

    The first word is the label of arXiv 2512.22335 (``NF/1+``), on the H&E slide that of the
    partner, as its figures 10-12 have it. ``N`` is a tile without tumor. It is gray, and so is
    tumor without a partner.
    """
    tile = case.tiles(what).get(index)
    if what == "he":
        said = tumor_words(case, index)
        if tile is None:
            first = "no pair" if is_tumor(case, index) else NO_TUMOR
            return ((first, said) if said else ()), OTHER
        return (tile.label, said), OUTLINE
    if tile is None:
        return (), OTHER
    if not scored(tile) or not case.assay.classes:
        return (tile.label,), OTHER
    grade, seen = case.assay.classes[tile.grade], CLASSES[Task.INTENSITY][tile.intensity]
    if not case.has_networks:
        return (tile.label,), grade.color
    return (tile.label, f"M {grade.name}, L {seen}"), grade.color


def tumor_words(case: PicturedCase, index: TileIndex) -> str:
    """What C says of a tile of the anatomy slide; empty where it did not read it."""
    probability = probability_of(case, index)
    if probability is None:
        return ""
    return f"{'tumor' if is_tumor(case, index) else 'no tumor'} {probability:.2f}"


def probability_of(case: PicturedCase, index: TileIndex) -> float | None:
    """Tumor probability (0-1) of a tile of the anatomy slide; None where C did not read it."""
    grid = case.findings.rasters.he_probability
    if not (0 <= index.row < grid.shape[0] and 0 <= index.column < grid.shape[1]):
        return None
    found = float(grid[index.row, index.column])
    return None if np.isnan(found) else found


def is_tumor(case: PicturedCase, index: TileIndex) -> bool:
    """Return whether a tile of the anatomy slide lies in the tumor area."""
    rasters = case.findings.rasters
    row, column = (int((n + 0.5) * TILE_UM / rasters.he_mpp) for n in (index.row, index.column))
    rows, columns = rasters.he_tumor.shape
    return bool(rasters.he_tumor[min(row, rows - 1), min(column, columns - 1)])


def scored(tile: TileFinding) -> bool:
    """Return whether M found tumor on a tile."""
    return sum(tile.percent) > 0
