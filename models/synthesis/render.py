"""Rendering of a region of a world in one stain, with its truth. Frame: px, origin top left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.synthesis.canvas import Canvas, View
from models.synthesis.fields import FIELD_UM
from models.synthesis.layers import he_layers, her2_layers, nuclear_layers, tumor_labels
from models.synthesis.stain import StainStyle, transmit
from models.synthesis.world import World

StainName = Literal["HE", "HER2", "ER"]
"""Name of a stain; ``ER`` stands for both nuclear receptors, ER and PR."""
MARGIN_PX = 64
"""Margin around a region: territories of cells outside reach into it, by less than 18 µm."""

_LAYERS = {"HE": he_layers, "HER2": her2_layers, "ER": nuclear_layers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A rendered region. `pixels` uint8 (h, w, 3); `classes` uint8 (h, w), 0-4 in the numbering of
    M; `tumor`, `control` bool (h, w). Control tissue is in `control` only."""

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    tumor: NDArray[np.bool_]
    control: NDArray[np.bool_]


def has_tissue(world: World, view: View, x_px: int, y_px: int, size: int, stain: StainName) -> bool:
    """Return whether the square region may hold tissue; an empty one need not be rendered."""
    to_world = view.px_to_world(x_px, y_px)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ to_world.T
    low = np.floor(corners.min(0) / FIELD_UM).astype(int) - 3
    high = np.ceil(corners.max(0) / FIELD_UM).astype(int) + 4
    area = np.s_[max(0, low[1]) : max(0, high[1]), max(0, low[0]) : max(0, high[0])]
    found = world.fields["tissue"][area].max(initial=0) > 0
    if found or stain == "HE":
        return bool(found)
    middle, reach = corners.mean(0), np.hypot(*(corners[3] - corners[0])) / 2
    return any(
        np.hypot(middle[0] - x, middle[1] - y) < reach + radius + 20
        for x, y, radius, _ in world.control_um
    )


def render_region(
    world: World,
    view: View,
    stain: StainName,
    style: StainStyle,
    *,
    x_px: int,
    y_px: int,
    width_px: int,
    height_px: int,
) -> Region:
    """Render the region of `view` that starts at (x_px, y_px); independent of the order of
    calls."""
    size = (width_px + 2 * MARGIN_PX, height_px + 2 * MARGIN_PX)
    canvas = Canvas(world, view, x_px - MARGIN_PX, y_px - MARGIN_PX, size, control=stain != "HE")
    inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    rng = np.random.default_rng([world.seed, stain == "HE", x_px, y_px])
    pixels = transmit(_LAYERS[stain](canvas), style, rng)[inner]
    classes, control = tumor_labels(canvas)
    return Region(
        pixels=np.ascontiguousarray(pixels),
        classes=np.ascontiguousarray(classes[inner]),
        tumor=classes[inner] > 0,
        control=control[inner],
    )
