"""Pictures of single tiles and of blocks of tiles, from the slide's own px."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.delivery.pictures.attention import LETTERS, class_asked, heat_of
from appliance.delivery.pictures.case import (
    OTHER,
    PicturedCase,
    What,
    heat_key,
    probability_of,
    scored,
    words_of,
)
from appliance.delivery.pictures.choice import Block
from appliance.delivery.pictures.drawing import Key, View, framed, picture
from appliance.delivery.pictures.layers import with_attention, with_classes, with_heat
from appliance.errors import SlideError
from appliance.findings.overlay import OUTLINE
from appliance.geometry import TILE_PX, TILE_UM, TileIndex
from appliance.slides.annotated import CalibratedSlide

if TYPE_CHECKING:
    from appliance.readers.inference import Network

BLOCK_TILE_PX = 72
"""Edge of a tile in the picture of a block, in px of 2 µm."""
UNREADABLE = 200
"""Gray of a tile that the file does not give."""


def tile_picture(
    case: PicturedCase,
    what: What,
    index: TileIndex,
    slide: CalibratedSlide,
    network: Network | None,
) -> NDArray[np.uint8]:
    """Picture of one tile at 0.2793 µm/px: RGB uint8 (rows, columns, 3).

    Original, M's classes (target slide), label, and what the classifier attends to.
    """
    pixels = _pixels(slide, index)
    label, color = words_of(case, what, index)
    views = [_view("Original", pixels)]
    if what == "ihc":
        views.append(_view(case.classes_title, with_classes(case, pixels, index, (1, 1))))
    views.append(_view("Label", framed(pixels, label, color, size=30, line=10)))
    if network is not None:
        (heat,) = heat_of(network, [pixels], [class_asked(case, what, index)])
        views.append(_view(f"Attention of {LETTERS[what]}", with_attention(pixels, heat)))
    title = f"{case.name}, {case.label(what)}: tile of column {index.column}, row {index.row}"
    heat_words = ["attention within the tile"] if network is not None else []
    return picture(title, views, _legend(case, what, heat_words), columns=len(views))


def block_picture(
    case: PicturedCase,
    what: What,
    block: Block,
    slide: CalibratedSlide,
    network: Network | None,
    done: Callable[[int], None],
) -> NDArray[np.uint8]:
    """Picture of a block of tiles at 2 µm/px: RGB uint8 (rows, columns, 3).

    Original, M's classes or C's tumor probability, labels, and attention. `done` is called with the
    number of tiles after each row. Attention is shown where the classifier's answer counts: on
    scored tiles of the target slide; on the anatomy slide it is multiplied by the tumor
    probability, as what C attends to on a tile without tumor is no tumor.
    """
    strips = []
    for row in range(block.rows):
        indices = block.tiles()[row * block.columns : (row + 1) * block.columns]
        strips.append(_strips(case, what, indices, slide, network))
        done((row + 1) * block.columns)
    original, labeled, attended = (np.vstack(parts) for parts in zip(*strips, strict=True))
    return _block_views(case, what, block, original, labeled, attended if network else None)


def _strips(
    case: PicturedCase,
    what: What,
    indices: Sequence[TileIndex],
    slide: CalibratedSlide,
    network: Network | None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """One row of a block: original, labels, attention."""
    tiles = [_pixels(slide, index) for index in indices]
    heats = _weighed_heat(case, what, indices, tiles, network)
    labeled, attended = [], []
    small = [_small(tile) for tile in tiles]
    for index, pixels in zip(indices, small, strict=True):
        words, color = words_of(case, what, index)
        framed_px = framed(pixels, words[:1], color, size=13, line=2) if words else pixels
        labeled.append(framed_px)
        attended.append(with_attention(pixels, heats.get(index)))
    return np.hstack(small), np.hstack(labeled), np.hstack(attended)


def _block_views(
    case: PicturedCase,
    what: What,
    block: Block,
    original: NDArray[np.uint8],
    labeled: NDArray[np.uint8],
    attended: NDArray[np.uint8] | None,
) -> NDArray[np.uint8]:
    size = block.rows, block.columns
    views = [("Original", original)]
    if what == "ihc":
        views.append((case.classes_title, with_classes(case, original, block.first, size)))
    else:
        views.append(("Tumor probability of C", with_heat(original, _probabilities(case, block))))
    views.append(("Labels", labeled))
    if attended is not None:
        views.append((f"Attention of {LETTERS[what]}", attended))
    first, tumor = block.first, sum(index in case.tiles(what) for index in block.tiles())
    title = (
        f"{case.name}, {case.label(what)}: ROI {block.number}, {block.columns} x {block.rows} "
        f"tiles from column {first.column}, row {first.row}; {tumor} with a tumor pair"
    )
    mpp = TILE_UM / BLOCK_TILE_PX
    words = ["tumor probability, 0 to 1"] if what == "he" else []
    words += ["attention within a tile"] if attended is not None else []
    shown = [View(title=name, pixels=pixels, mpp=mpp) for name, pixels in views]
    return picture(title, shown, _legend(case, what, words), columns=2)


def _weighed_heat(
    case: PicturedCase,
    what: What,
    indices: Sequence[TileIndex],
    tiles: Sequence[NDArray[np.uint8]],
    network: Network | None,
) -> dict[TileIndex, NDArray[np.float32]]:
    """Heat of the tiles on which the classifier's answer counts."""
    if network is None:
        return {}
    weights: dict[TileIndex, float] = {}
    for index in indices:
        if what == "he":
            probability = probability_of(case, index)
            if probability is not None:
                weights[index] = probability
        elif (tile := case.tiles(what).get(index)) is not None and scored(tile):
            weights[index] = 1.0
    if not weights:
        return {}
    asked = [tile for index, tile in zip(indices, tiles, strict=True) if index in weights]
    heats = heat_of(network, asked, [class_asked(case, what, index) for index in weights])
    return {
        index: (heat * weight).astype(np.float32)
        for (index, weight), heat in zip(weights.items(), heats, strict=True)
    }


def _probabilities(case: PicturedCase, block: Block) -> NDArray[np.float32]:
    found = [probability_of(case, index) for index in block.tiles()]
    values = [np.nan if value is None else value for value in found]
    return np.array(values, dtype=np.float32).reshape(block.rows, block.columns)


def _pixels(slide: CalibratedSlide, index: TileIndex) -> NDArray[np.uint8]:
    """Px of a tile with the glass at white, as networks see it; gray where the file is damaged."""
    try:
        return slide.tile(index.column, index.row)
    except SlideError:
        return np.full((TILE_PX, TILE_PX, 3), UNREADABLE, dtype=np.uint8)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (BLOCK_TILE_PX, BLOCK_TILE_PX)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _view(title: str, pixels: NDArray[np.uint8]) -> View:
    return View(title=title, pixels=pixels, mpp=TILE_UM / TILE_PX)


def _legend(case: PicturedCase, what: What, heat: Sequence[str]) -> list[Key]:
    if what == "ihc":
        keys = [*case.class_keys(), Key(words="no tumor", colors=(OTHER,))]
    else:
        tumor = Key(words="tumor with a pair", colors=(OUTLINE,))
        keys = [tumor, Key(words="no tumor, or no pair", colors=(OTHER,))]
    return [*keys, heat_key("; ".join(heat))] if heat else keys
