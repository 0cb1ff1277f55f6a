"""Draws a region of a world in one stain, with its truth. Region frame: px, origin top left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.stain import StainStyle, transmit
from models.synthesis.world import BENIGN, FIELD_UM, LYMPHOCYTE, STROMA, TUMOR, Cells, World

StainName = Literal["HE", "HER2"]
MARGIN_PX = 64
"""Cells outside a region reach into it by their territory: less than 18 µm."""
TEXTURE_UM = 0.5
"""Resolution of the fine textures."""
TERRITORY_UM = 9.5
"""A tumor cell ends where its neighbour begins, or so far from its center."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a slide looks at a world: ``world_um = matrix @ slide_um + shift_um``, at `mpp`."""

    matrix: tuple[float, float, float, float]
    shift_um: tuple[float, float]
    mpp: float

    def px_to_world(self, x_px: float, y_px: float) -> NDArray[np.float64]:
        """(2, 3) map from px of the region that starts at (x_px, y_px) to world µm."""
        linear = np.array(self.matrix).reshape(2, 2) * self.mpp
        origin = linear @ np.array([x_px + 0.5, y_px + 0.5]) + np.array(self.shift_um)
        return np.column_stack([linear, origin])


STRAIGHT = View(matrix=(1.0, 0.0, 0.0, 1.0), shift_um=(0.0, 0.0), mpp=0.2793)
"""The H&E slide lies as the world does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A drawn region. `pixels` uint8 (h, w, 3); `classes` uint8 (h, w) 0-4 as M's labels;
    `tumor`, `control` bool (h, w). Control tissue is in `control` alone, not in the others."""

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    tumor: NDArray[np.bool_]
    control: NDArray[np.bool_]


def has_tissue(world: World, view: View, x_px: int, y_px: int, size: int, stain: StainName) -> bool:
    """Whether the square region may hold tissue; an empty one need not be drawn."""
    to_world = view.px_to_world(x_px, y_px)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ to_world.T
    low = np.floor(corners.min(0) / FIELD_UM).astype(int) - 3
    high = np.ceil(corners.max(0) / FIELD_UM).astype(int) + 4
    area = np.s_[max(0, low[1]) : max(0, high[1]), max(0, low[0]) : max(0, high[0])]
    found = world.tissue[area].max(initial=0) > 0
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
    """Draw the region of `view` that starts at (x_px, y_px). Deterministic, whatever the order."""
    size = (width_px + 2 * MARGIN_PX, height_px + 2 * MARGIN_PX)
    to_world = view.px_to_world(x_px - MARGIN_PX, y_px - MARGIN_PX)
    canvas = _Canvas(world, view, to_world, size)
    cells = canvas.cells(stain)
    layers = _he_layers(canvas, cells) if stain == "HE" else _her2_layers(canvas, cells)
    inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    rng = np.random.default_rng([world.seed, stain == "HE", x_px, y_px])
    pixels = transmit(layers, style, rng)[inner]
    territory = canvas.territory(cells)
    own = territory.inside & ~territory.control
    return Region(
        pixels=np.ascontiguousarray(pixels),
        classes=np.where(own, territory.grade + 1, 0).astype(np.uint8)[inner],
        tumor=own[inner],
        control=(territory.inside & territory.control)[inner],
    )


@dataclass(frozen=True, slots=True)
class _Territory:
    """Per px: whose cell it is. `edge` 0-1 is the membrane between two cells."""

    inside: NDArray[np.bool_]
    grade: NDArray[np.uint8]
    membrane: NDArray[np.float32]
    control: NDArray[np.bool_]
    edge: NDArray[np.float32]


class _Canvas:
    """A region with its margin, on which layers are drawn; layers are float32 (h, w)."""

    def __init__(
        self, world: World, view: View, to_world: NDArray[np.float64], size: tuple[int, int]
    ) -> None:
        self.world, self.view, self.to_world, self.size = world, view, to_world, size
        self.shape = (size[1], size[0])
        self._from_world = cv2.invertAffineTransform(to_world)
        self._turn = float(np.degrees(np.arctan2(self._from_world[1, 0], self._from_world[0, 0])))
        self._territory: _Territory | None = None

    def field(self, raster: NDArray[np.float32]) -> NDArray[np.float32]:
        """A smooth field of the world over this canvas."""
        return self._warp(raster, FIELD_UM, cv2.BORDER_CONSTANT)

    def cores(self) -> NDArray[np.float32]:
        """1 within control tissue."""
        layer = np.zeros(self.shape, dtype=np.float32)
        for x, y, radius, _ in self.world.control_um:
            at = np.round(self.px(np.array([[x, y]], dtype=np.float32))[0]).astype(int)
            cv2.circle(layer, at.tolist(), round(radius / self.view.mpp), 1.0, -1)
        return layer

    def texture(self, number: int) -> NDArray[np.float32]:
        """Fine texture `number`, zero mean; it belongs to the world, so it turns with it."""
        return self._warp(_texture(number), TEXTURE_UM, cv2.BORDER_WRAP)

    def _warp(self, raster: NDArray[np.float32], um: float, border: int) -> NDArray[np.float32]:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped: NDArray[np.float32] = cv2.warpAffine(
            raster, self.to_world / um, self.size, flags=flags, borderMode=border
        )
        return warped

    def cells(self, stain: StainName) -> Cells:
        """The cells on this canvas, positions still in world µm; control cells only on IHC."""
        cells = self.world.cells
        low, high = self._bounds()
        near = ((cells.xy_um >= low) & (cells.xy_um <= high)).all(axis=1)
        if stain == "HE":
            near &= ~cells.control
        return cells.take(np.asarray(near))

    def _bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        w, h = self.size
        corners = np.array([[0, 0, 1], [w, 0, 1], [0, h, 1], [w, h, 1]]) @ self.to_world.T
        return corners.min(0), corners.max(0)

    def px(self, xy_um: NDArray[np.float32]) -> NDArray[np.float64]:
        """World µm to canvas px."""
        ones = np.ones((len(xy_um), 1))
        points: NDArray[np.float64] = np.hstack([xy_um, ones]) @ self._from_world.T
        return points

    def nuclei(self, cells: Cells, which: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Filled ellipses of chromatin."""
        canvas = np.zeros(self.shape, dtype=np.uint8)
        chosen = cells.take(which)
        centers = np.round(self.px(chosen.xy_um) * 16).astype(int)
        axes = np.round(chosen.radius_um / self.view.mpp * 16).astype(int)
        values = np.clip(chosen.chromatin * 110, 1, 255)
        for center, axis, angle, value in zip(
            centers.tolist(),
            axes.tolist(),
            (chosen.angle + self._turn).tolist(),
            values.tolist(),
            strict=True,
        ):
            cv2.ellipse(canvas, center, axis, angle, 0, 360, value, -1, cv2.LINE_AA, 4)
        return canvas.astype(np.float32) * np.float32(1 / 110)

    def territory(self, cells: Cells) -> _Territory:
        """Voronoi regions of the tumor cells, cut at `TERRITORY_UM`."""
        if self._territory is not None:
            return self._territory
        tumor = cells.take(cells.kind == TUMOR)
        h, w = self.shape
        points = np.floor(self.px(tumor.xy_um)).astype(int)
        on = ((points >= 0) & (points < (w, h))).all(axis=1) if len(points) else np.zeros(0, bool)
        tumor, points = tumor.take(np.asarray(on)), points[on]
        if len(points) == 0:
            none = np.zeros(self.shape, dtype=bool)
            zero = np.zeros(self.shape, dtype=np.float32)
            self._territory = _Territory(none, none.astype(np.uint8), zero, none, zero)
            return self._territory
        seeds = np.full(self.shape, 255, dtype=np.uint8)
        seeds[points[:, 1], points[:, 0]] = 0
        distance, labels = cv2.distanceTransformWithLabels(
            seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        owner = np.zeros(int(labels.max()) + 1, dtype=np.int64)
        owner[labels[points[:, 1], points[:, 0]]] = np.arange(len(points))
        who = owner[labels]
        inside = distance * self.view.mpp < TERRITORY_UM
        inside &= (self.field(self.world.lumen) < 0.5) | tumor.control[who]
        edge = np.zeros(self.shape, dtype=np.uint8)
        across, down = who[:, 1:] != who[:, :-1], who[1:] != who[:-1]
        edge[:, 1:][across] = 255
        edge[1:][down] = 255
        rim = inside.astype(np.uint8)
        edge |= cv2.morphologyEx(rim, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) * 255
        edge[~inside] = 0
        self._territory = _Territory(
            inside=inside,
            grade=tumor.grade[who],
            membrane=tumor.membrane[who],
            control=tumor.control[who],
            edge=edge.astype(np.float32) * np.float32(1 / 255),
        )
        return self._territory


def _ground(canvas: _Canvas, stain: StainName) -> tuple[NDArray[np.float32], ...]:
    """(tissue, tumor, benign, open) fields; open is lumen or fat: nearly glass."""
    world = canvas.world
    tissue = canvas.field(world.tissue)
    if stain == "HER2":
        tissue = np.maximum(tissue, canvas.cores())
    fat = canvas.field(world.fat)
    # Fat is empty bubbles between thin walls.
    bubbles = np.clip((canvas.texture(3) + 0.9) * 3, 0, 1) * (fat > 0.5)
    open_ = np.maximum(canvas.field(world.lumen), bubbles.astype(np.float32))
    if stain == "HER2":
        open_ *= 1 - canvas.cores()
    return tissue, canvas.field(world.tumor), canvas.field(world.benign), open_


def _nuclear_layer(canvas: _Canvas, cells: Cells) -> NDArray[np.float32]:
    epithelial = canvas.nuclei(cells, (cells.kind == TUMOR) | (cells.kind == BENIGN))
    # Open chromatin with a darker rim and clumps.
    rim = np.maximum(epithelial - cv2.GaussianBlur(epithelial, (0, 0), 3.0), 0)
    epithelial *= 0.72 + 0.22 * canvas.texture(0)
    epithelial += 0.5 * rim
    dense = canvas.nuclei(cells, (cells.kind == STROMA) | (cells.kind == LYMPHOCYTE))
    layer: NDArray[np.float32] = np.maximum(np.maximum(epithelial, dense), 0)
    return layer


def _he_layers(canvas: _Canvas, cells: Cells) -> NDArray[np.float32]:
    tissue, tumor, benign, open_ = _ground(canvas, "HE")
    density = 1 + 0.12 * canvas.field(canvas.world.density)
    nuclei = _nuclear_layer(canvas, cells)
    fibres, grain = canvas.texture(1), canvas.texture(2)
    epithelium = np.clip(np.maximum(tumor, benign), 0, 1)
    stroma = (0.42 + 0.17 * fibres) * (1 - epithelium)
    cytoplasm = (0.30 + 0.05 * grain) * tumor + (0.42 + 0.05 * grain) * benign * (1 - tumor)
    eosin = np.maximum(stroma + cytoplasm, 0.02) * tissue * (1 - 0.93 * open_) * density
    eosin *= 1 - 0.55 * np.clip(nuclei, 0, 1)
    haematoxylin = nuclei * 0.85 + (0.10 + 0.05 * grain) * tumor * tissue * (1 - open_)
    haematoxylin += 0.04 * tissue
    layers = np.dstack([haematoxylin * density, eosin, np.zeros_like(eosin)])
    return layers.astype(np.float32)


def _her2_layers(canvas: _Canvas, cells: Cells) -> NDArray[np.float32]:
    tissue, tumor, _benign, open_ = _ground(canvas, "HER2")
    world = canvas.world
    density = 1 + 0.12 * canvas.field(world.density)
    nuclei = _nuclear_layer(canvas, cells)
    territory = canvas.territory(cells)
    fibres, grain = canvas.texture(1), canvas.texture(2)
    um = 1 / canvas.view.mpp
    strength = territory.membrane * territory.edge
    # 1+ is incomplete: arcs of the outline, not all of it. 2+ and 3+ go round.
    gap = np.clip(canvas.texture(4) * 2.2 + 0.6, 0, 1)
    strength = np.where(territory.grade == 1, strength * gap, strength)
    thick = np.where(territory.grade == 3, strength, 0).astype(np.float32)
    line = cv2.GaussianBlur(strength.astype(np.float32), (0, 0), 0.42 * um) * (1.9 * um * 0.42)
    line += cv2.GaussianBlur(thick, (0, 0), 0.95 * um) * (1.2 * um * 0.95)
    line *= 1 + 0.25 * grain
    blush = territory.membrane * territory.inside * (0.13 + 0.03 * grain)
    haze = 0.03 * canvas.field(world.haze) * (1 + 0.5 * fibres)
    dab = np.maximum(line + blush + haze * tissue, 0) * (1 - 0.85 * open_) * tissue
    haematoxylin = nuclei * 0.55 + (0.035 + 0.03 * fibres * (1 - tumor)) * tissue * (1 - open_)
    haematoxylin = np.maximum(haematoxylin, 0) * density
    eosin = 0.015 * tissue * (1 - open_)
    return np.dstack([haematoxylin, eosin, dab]).astype(np.float32)


@lru_cache(maxsize=16)
def _texture(number: int) -> NDArray[np.float32]:
    """Periodic noise, 1024 x 1024 px at `TEXTURE_UM`, zero mean, unit variance.

    0 chromatin, 1 fibres, 2 grain, 3 fat bubbles, 4 gaps of faint membranes.
    """
    rng = np.random.default_rng([0x7E, number])
    noise = rng.standard_normal((1024, 1024))
    fy, fx = np.fft.fftfreq(1024)[:, None], np.fft.fftfreq(1024)[None, :]
    sigma_x, sigma_y = {0: (1.6, 1.6), 1: (12.0, 1.8), 2: (2.5, 2.5), 3: (22.0, 22.0), 4: (5, 5)}[
        number
    ]
    # A Gaussian in space is a Gaussian in frequency: blurring that wraps around.
    spectrum = np.exp(-2 * np.pi**2 * ((fx * sigma_x) ** 2 + (fy * sigma_y) ** 2))
    texture = np.fft.ifft2(np.fft.fft2(noise) * spectrum).real
    if number == 1:
        # Fibres wave: bend them by another texture.
        bend = np.fft.ifft2(
            np.fft.fft2(rng.standard_normal((1024, 1024)))
            * np.exp(-2 * np.pi**2 * (fx**2 + fy**2) * 40.0**2)
        ).real
        rows, columns = np.mgrid[0:1024, 0:1024].astype(np.float32)
        shift = (bend / bend.std() * 25).astype(np.float32)
        texture = cv2.remap(
            texture.astype(np.float32),
            columns,
            rows + shift,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
    scaled: NDArray[np.float32] = ((texture - texture.mean()) / texture.std()).astype(np.float32)
    return scaled
