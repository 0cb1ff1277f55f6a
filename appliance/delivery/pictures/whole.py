"""Picture of a whole slide, from the findings: no slide is opened."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.delivery.pictures.case import (
    OTHER,
    PicturedCase,
    What,
    heat_key,
    is_tumor,
    probability_of,
    scored,
)
from appliance.delivery.pictures.drawing import Key, View, picture
from appliance.delivery.pictures.layers import OPACITY, with_attention, with_tile_heat
from appliance.delivery.pictures.second_reader import SecondView
from appliance.domain import SlideFacts
from appliance.findings.overlay import (
    OUTLINE,
    Picture,
    attention_heat,
    attention_title,
    blend,
    stain_layer,
    tumor_layer,
)
from appliance.geometry import TILE_UM, TileGrid, TileIndex

LONGEST_PX = 900
"""Longest edge of one view."""
Value = TypeVar("Value", bound=np.generic)


def slide_picture(
    case: PicturedCase,
    what: What,
    thumbnail: NDArray[np.uint8],
    second: SecondView | None = None,
) -> NDArray[np.uint8]:
    """Picture of a whole slide: RGB uint8 (rows, columns, 3).

    Original, tumor probability (anatomy slide) or stain classes (target slide), the tiles in the
    color of their class; of the target slide also the weight of each tile in the answer of readers
    that weigh tiles, and what spoke for the class that the second reader gave the slide.
    `thumbnail` is RGB uint8 of the whole slide.
    """
    scale = min(1.0, LONGEST_PX / max(thumbnail.shape[:2]))
    size = [max(1, round(n * scale)) for n in thumbnail.shape[1::-1]]
    pixels = np.asarray(cv2.resize(thumbnail, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    facts, rasters, shape = case.facts(what), case.findings.rasters, pixels.shape[:2]
    if what == "he":
        name, layer = "Tumor probability of C", tumor_layer(rasters, facts, shape)
        legend = [heat_key("tumor probability, 0 to 1"), Key(words="rim", colors=(OUTLINE,))]
    else:
        name, found = case.classes_title, stain_layer(rasters, facts, shape, case.colors)
        layer = found if found is not None else np.zeros((*shape, 4), dtype=np.uint8)
        legend = []
    views = [("Original", None), (name, layer), ("Tiles by class", _tile_layer(case, what, shape))]
    mpp, pairs = facts.size_um[0] / shape[1], len(case.findings.tiles)
    drawn = [(title, blend(Picture(pixels, laid), OPACITY)) for title, laid in views]
    weighed = case.findings.rasters.attention if what == "ihc" else {}
    for reader, weights in weighed.items():
        heat = _by_tile(attention_heat(weights), facts, shape)
        drawn.append((attention_title(reader), with_tile_heat(pixels, heat)))
    if weighed:
        legend = [*legend, heat_key("weight of a tile, none to the most")]
    if second is not None:
        title = f"Second reader: what spoke for {second.word}"
        drawn.append((title, with_attention(pixels, second.heat)))
        legend = [*legend, heat_key("second reader, weak to strong")]
    return picture(
        f"{case.name}, {case.label(what)}: whole slide; {pairs} tumor pair{'s' * (pairs != 1)}",
        [View(title=title, pixels=shown, mpp=mpp) for title, shown in drawn],
        [*legend, *case.class_keys(), Key(words="tumor, not scored", colors=(OTHER,))],
        columns=2 if shape[1] > 1.5 * shape[0] else 3,
    )


def _tile_layer(case: PicturedCase, what: What, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Layer of the tiles in the color of the class that covers most of their px; RGBA uint8.

    A tile of the anatomy slide has the color of its partner. Tumor that is not scored is gray.
    """
    facts = case.facts(what)
    grid = TileGrid.of(*facts.size_um)
    tiles = np.zeros((*grid.shape, 4), dtype=np.uint8)
    if what == "he":
        for row in range(grid.rows):
            for column in range(grid.columns):
                index = TileIndex(column, row)
                if probability_of(case, index) is not None and is_tumor(case, index):
                    tiles[row, column] = (*OTHER, 255)
    for index, tile in case.tiles(what).items():
        color = case.assay.classes[tile.grade].color if scored(tile) and case.colors else OTHER
        tiles[index.row, index.column] = (*color, 255)
    return _by_tile(tiles, facts, shape)


def _by_tile(values: NDArray[Value], facts: SlideFacts, shape: tuple[int, ...]) -> NDArray[Value]:
    """Return for each px of a picture of `shape` the value of the tile that its center lies on."""
    r, c = (
        np.minimum(((np.arange(px) + 0.5) * um / px / TILE_UM).astype(int), count - 1)
        for px, um, count in zip(shape, facts.size_um[::-1], values.shape, strict=False)
    )
    sampled: NDArray[Value] = values[np.ix_(r, c)]
    return sampled
