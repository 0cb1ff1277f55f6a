"""Layers that all stains share: fields, textures, nuclei and cell borders over a region of a world.

Layers are float32 (rows, columns) in px of the region with its margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.cells import Cells, Kind
from models.synthesis.fields import FIELD_UM, Array
from models.synthesis.textures import TEXTURE_UM, Texture, texture
from models.synthesis.world import World

CORNERS = 16
"""Number of corners of a nucleus's outline."""
_THETA = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
_HARMONICS = np.stack([f(k * _THETA) for k in (2, 3, 4) for f in (np.cos, np.sin)])
_SCALE = 110
"""Factor from stain amounts to the 8-bit canvases on which nuclei are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Map from a slide to a world, ``world_um = matrix @ slide_um + shift_um``, at `mpp` µm/px."""

    matrix: tuple[float, float, float, float]
    shift_um: tuple[float, float]
    mpp: float

    def px_to_world(self, x_px: float, y_px: float) -> NDArray[np.float64]:
        """Return the (2, 3) map from px of the region that starts at (x_px, y_px) to world µm."""
        linear = np.array(self.matrix).reshape(2, 2) * self.mpp
        origin = linear @ np.array([x_px + 0.5, y_px + 0.5]) + np.array(self.shift_um)
        return np.column_stack([linear, origin])


STRAIGHT = View(matrix=(1.0, 0.0, 0.0, 1.0), shift_um=(0.0, 0.0), mpp=0.2793)
"""View of the H&E slide: no turn, no shift."""


@dataclass(frozen=True, slots=True)
class Territory:
    """Territories of epithelial cells per px: `who` indexes `cells`, valid where `inside`; `edge`
    (0-1) is the border between two cells."""

    cells: Cells
    who: NDArray[np.int64]
    inside: NDArray[np.bool_]
    edge: Array

    def of(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Spread a value of the cells over their territories; 0 elsewhere."""
        if len(self.cells) == 0:
            return np.zeros(self.inside.shape, dtype=np.float32)
        layer: Array = (values.astype(np.float32)[self.who] * self.inside).astype(np.float32)
        return layer


class Canvas:
    """A region with its margin; `size` is (columns, rows) in px, `control` adds control tissue."""

    def __init__(
        self, world: World, view: View, x_px: int, y_px: int, size: tuple[int, int], *,
        control: bool,
    ) -> None:  # fmt: skip
        self.world, self.view, self.size = world, view, size
        self.shape = (size[1], size[0])
        self.um = 1 / view.mpp
        """Px per µm."""
        self._to_world = view.px_to_world(x_px, y_px)
        self._from_world = cv2.invertAffineTransform(self._to_world)
        self._turn = float(np.degrees(np.arctan2(self._from_world[1, 0], self._from_world[0, 0])))
        self.control = control
        self.cells = self._cells_nearby()

    def _cells_nearby(self) -> Cells:
        corners = np.array([[x, y, 1] for x in (0, self.size[0]) for y in (0, self.size[1])])
        area = corners @ self._to_world.T
        cells = self.world.cells
        near = ((cells.xy_um >= area.min(0)) & (cells.xy_um <= area.max(0))).all(axis=1)
        if not self.control:
            near &= ~cells.control
        return cells.take(np.asarray(near))

    @cached_property
    def fields(self) -> dict[str, Array]:
        """Fields of the world, 0-1; control tissue counts as solid tissue."""
        found: dict[str, Array] = {}
        names = list(self.world.fields)
        for start in range(0, len(names), 4):  # OpenCV warps at most four channels at once
            chosen = names[start : start + 4]
            stack = np.dstack([self.world.fields[name] for name in chosen])
            warped = self._warp(stack, self._to_world / FIELD_UM, cv2.BORDER_CONSTANT)
            layers = warped.reshape(*self.shape, len(chosen)).astype(np.float32) / 255
            found |= {name: np.ascontiguousarray(layers[..., k]) for k, name in enumerate(chosen)}
        if self.control:
            cores = self.cores
            found["tissue"] = np.maximum(found["tissue"], cores)
            for name in ("lumen", "fat", "necrosis", "mucin"):
                found[name] = found[name] * (1 - cores)
        return found

    @cached_property
    def cores(self) -> Array:
        """Control tissue, 1 inside."""
        layer = np.zeros(self.shape, dtype=np.float32)
        for x, y, radius, _ in self.world.control_um:
            at = np.round(self.to_px(np.array([[x, y]], dtype=np.float32))[0]).astype(int)
            cv2.circle(layer, at.tolist(), round(radius * self.um), 1.0, -1)
        return layer

    def texture(self, which: Texture, stretch: float = 1.0) -> Array:
        """A fine texture at a place and angle that the world determines; it turns with the tissue.

        `stretch` > 1 makes it coarser.
        """
        rng = np.random.default_rng([self.world.seed, which])
        turn, scale = rng.uniform(0, 2 * np.pi), stretch * rng.uniform(0.8, 1.25)
        c, s = np.cos(turn) / scale, np.sin(turn) / scale
        place = np.array([[c, -s, rng.uniform(0, 500)], [s, c, rng.uniform(0, 500)], [0, 0, 1]])
        to_texture = (place @ np.vstack([self._to_world, [0, 0, 1]]))[:2] / TEXTURE_UM
        return self._warp(texture(which), to_texture, cv2.BORDER_WRAP).astype(np.float32)

    def _warp(
        self, raster: NDArray[Any], to_raster: NDArray[np.float64], border: int
    ) -> NDArray[Any]:
        warped: NDArray[Any] = cv2.warpAffine(
            raster, to_raster, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )  # fmt: skip
        return warped

    def to_px(self, xy_um: Array) -> NDArray[np.float64]:
        """Convert points (n, 2) in world µm to px of the canvas."""
        ones = np.ones((len(xy_um), 1))
        points: NDArray[np.float64] = np.hstack([xy_um, ones]) @ self._from_world.T
        return points

    def _outlines(self, cells: Cells) -> NDArray[np.int32]:
        """Outlines of nuclei, (n, CORNERS, 2) in 1/16 px."""
        swell = 1 + cells.shape @ _HARMONICS
        x = cells.radius_um[:, :1] * np.cos(_THETA) * swell
        y = cells.radius_um[:, 1:] * np.sin(_THETA) * swell
        turn = np.radians(cells.angle + self._turn)[:, None]
        c, s = np.cos(turn), np.sin(turn)
        local = np.stack([c * x - s * y, s * x + c * y], axis=-1) * self.um
        points: NDArray[np.int32] = np.round(
            (self.to_px(cells.xy_um)[:, None] + local) * 16
        ).astype(np.int32)
        return points

    def nuclei(self) -> tuple[Array, Array]:
        """Chromatin (hematoxylin amounts) and coverage of nuclei (0-1)."""
        canvas = np.zeros(self.shape, dtype=np.uint8)
        covered = np.zeros(self.shape, dtype=np.uint8)
        cells = self.cells.take(self.cells.kind != Kind.ERYTHROCYTE)
        cells = cells.take(np.argsort(cells.kind, kind="stable"))
        inner = np.clip(cells.chromatin * (1 - 0.6 * cells.vesicle) * _SCALE, 1, 255)
        rim = np.clip(cells.chromatin * (1 + 0.15 * cells.vesicle) * _SCALE, 1, 255)
        rimmed = cells.vesicle > 0.3
        dots = np.round(self.to_px(cells.xy_um) * 16).astype(int)
        width = max(1, round(0.45 * self.um))
        for k, (outline, value, edge, with_rim) in enumerate(
            zip(self._outlines(cells), inner.tolist(), rim.tolist(), rimmed.tolist(), strict=True)
        ):
            cv2.fillPoly(canvas, [outline], value, cv2.LINE_AA, 4)
            cv2.fillPoly(covered, [outline], 255, cv2.LINE_AA, 4)
            if with_rim:
                cv2.polylines(canvas, [outline], True, edge, width, cv2.LINE_AA, 4)
            for n in range(int(cells.nucleoli[k])):
                # Off center, in a direction that the cell's shape determines.
                turn = 40 * float(cells.shape[k, n]) + 2.1 * n
                far = 0.45 * float(cells.radius_um[k].min()) * self.um * 16 * (n > 0 or turn > 0)
                at = dots[k] + (round(far * np.cos(turn)), round(far * np.sin(turn)))
                size = round(0.2 * float(cells.radius_um[k].mean()) * self.um * 16)
                cv2.circle(canvas, at.tolist(), size, min(255.0, 1.35 * edge), -1, cv2.LINE_AA, 4)
        chromatin = canvas.astype(np.float32) / _SCALE
        where = covered.astype(np.float32) / 255
        clumps = self.texture(Texture.CHROMATIN)
        return chromatin * (1 + 0.22 * clumps * where), where

    def erythrocytes(self) -> Array:
        """Eosin of erythrocytes."""
        cells = self.cells.take(self.cells.kind == Kind.ERYTHROCYTE)
        return self.filled(cells, cells.eosin)

    def marked_nuclei(self) -> Array:
        """DAB of nuclei positive for ER or PR."""
        cells = self.cells.take(self.cells.marker > 0)
        return self.filled(cells, cells.marker)

    def filled(self, cells: Cells, amounts: Array) -> Array:
        """Nuclei of cells as filled areas of an amount each."""
        canvas = np.zeros(self.shape, dtype=np.uint8)
        values = np.clip(amounts * _SCALE, 0, 255)
        for outline, value in zip(self._outlines(cells), values.tolist(), strict=True):
            cv2.fillPoly(canvas, [outline], value, cv2.LINE_AA, 4)
        return canvas.astype(np.float32) / _SCALE

    @cached_property
    def territory(self) -> Territory:
        """Voronoi regions of the epithelial cells, each limited to its reach."""
        cells = self.cells.take(self.cells.kind >= Kind.BENIGN)
        columns, rows = self.size
        points = np.floor(self.to_px(cells.xy_um)).astype(int)
        on = ((points >= 0) & (points < (columns, rows))).all(axis=1)
        cells, points = cells.take(np.asarray(on)), points[on]
        if len(points) == 0:
            nobody = np.zeros(self.shape, dtype=bool)
            return Territory(cells, nobody.astype(np.int64), nobody, nobody.astype(np.float32))
        seeds = np.full(self.shape, 255, dtype=np.uint8)
        seeds[points[:, 1], points[:, 0]] = 0
        distance, labels = cv2.distanceTransformWithLabels(
            seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        owner = np.zeros(int(labels.max()) + 1, dtype=np.int64)
        owner[labels[points[:, 1], points[:, 0]]] = np.arange(len(points))
        who = owner[labels]
        # A cell ends at its neighbor, or at its largest distance from the center.
        reach = np.where(cells.kind == Kind.TUMOR, 0.68 * self.world.look.spacing_um, 7.5)
        reach = np.where(cells.control, 9.5, reach).astype(np.float32)
        inside = distance * self.view.mpp < reach[who]
        inside &= self.fields["lumen"] < 0.5
        edge = np.zeros(self.shape, dtype=np.uint8)
        edge[:, 1:][who[:, 1:] != who[:, :-1]] = 255
        edge[1:][who[1:] != who[:-1]] = 255
        rim = inside.astype(np.uint8)
        edge |= cv2.morphologyEx(rim, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) * 255
        edge[~inside] = 0
        return Territory(cells, who, inside, edge.astype(np.float32) / 255)

    def stained_outline(self) -> Array:
        """Stained arcs of the cells' outlines, 0-1 per px."""
        cells = self.territory.cells
        bare = np.clip(1 - cells.completeness, 1e-3, 1 - 1e-3)
        level = np.array([NormalDist().inv_cdf(share) for share in bare.tolist()])
        gaps = self.texture(Texture.GAPS) - self.territory.of(level)
        arcs: Array = np.clip(2.5 * gaps + 0.5, 0, 1).astype(np.float32)
        return arcs
