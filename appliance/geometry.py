"""Points, sizes and frames; the only module that converts (x, y) to (row, column).

Three frames: **level-0 px** of a slide, **slide µm** (level-0 px times mpp, origin at the top
left corner), and the **tile grid** (column, row) of tiles `TILE_UM` wide. Rasters carry their own
mpp; their pixel (row r, column c) covers slide µm x in [c·mpp, (c+1)·mpp), y in [r·mpp, (r+1)·mpp).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_PX = 512
"""Edge of a tile in px at `TILE_MPP` (arXiv 2512.22335, Eq. 1-2: f = 512)."""
TILE_MPP = 0.2793
"""Resolution of a tile in µm per px (arXiv 2512.22335)."""
TILE_UM = TILE_PX * TILE_MPP
"""Edge of a tile in µm: 143."""


@dataclass(frozen=True, slots=True)
class TileIndex:
    """Place of a tile in a slide's grid."""

    column: int
    row: int


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The grid P_R(S) of Eq. 1-2: R = ceil(H/f), C = ceil(W/f), in tiles of `TILE_UM`.

    Border tiles reach over the slide's edge and are padded with its white.
    """

    columns: int
    rows: int

    @classmethod
    def of(cls, width_um: float, height_um: float) -> TileGrid:
        """The grid that covers a slide of `width_um` x `height_um`."""
        # Rounding noise of mpp must not add an empty column.
        return cls(
            columns=max(1, math.ceil(width_um / TILE_UM - 1e-6)),
            rows=max(1, math.ceil(height_um / TILE_UM - 1e-6)),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return (self.rows, self.columns)

    def centers_um(self) -> NDArray[np.float64]:
        """Tile centers, shape (rows, columns, 2), last axis (x, y) in slide µm."""
        x = (np.arange(self.columns) + 0.5) * TILE_UM
        y = (np.arange(self.rows) + 0.5) * TILE_UM
        return np.stack(np.meshgrid(x, y), axis=-1)


@dataclass(frozen=True, slots=True)
class Affine:
    """A 2-D affine map between two µm frames: ``p' = matrix @ p + shift_um``.

    `matrix` is row-major (a, b, c, d) for [[a, b], [c, d]]; `shift_um` is (x, y).
    """

    matrix: tuple[float, float, float, float]
    shift_um: tuple[float, float]

    @classmethod
    def identity(cls) -> Affine:
        """The identity map."""
        return cls((1.0, 0.0, 0.0, 1.0), (0.0, 0.0))

    @classmethod
    def rotation(cls, degrees: float, center_um: tuple[float, float]) -> Affine:
        """Rotation by `degrees` (x towards y) around `center_um`."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = center_um
        return cls((c, -s, s, c), (x - c * x + s * y, y - s * x - c * y))

    def apply(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of shape (..., 2), last axis (x, y) in µm."""
        a, b, c, d = self.matrix
        linear = np.array([[a, b], [c, d]])
        return np.asarray(points_um @ linear.T + np.array(self.shift_um), dtype=np.float64)

    def inverse(self) -> Affine:
        """The inverse map; raises ZeroDivisionError for a degenerate matrix."""
        a, b, c, d = self.matrix
        det = a * d - b * c
        ia, ib, ic, id_ = d / det, -b / det, -c / det, a / det
        x, y = self.shift_um
        return Affine((ia, ib, ic, id_), (-(ia * x + ib * y), -(ic * x + id_ * y)))

    def after(self, first: Affine) -> Affine:
        """The composition: `first`, then this map."""
        linear = np.array(self.matrix).reshape(2, 2) @ np.array(first.matrix).reshape(2, 2)
        (a, b), (c, d) = linear.tolist()
        x, y = self.apply(np.array(first.shift_um)).tolist()
        return Affine((a, b, c, d), (x, y))

    @property
    def mirrors(self) -> bool:
        """Return whether the map mirrors, that is, lays a section face down."""
        a, b, c, d = self.matrix
        return a * d - b * c < 0

    @property
    def rotation_degrees(self) -> float:
        """Rotation part in degrees, x towards y; for a map that mirrors, after x → -x."""
        sign = -1 if self.mirrors else 1
        return math.degrees(math.atan2(sign * self.matrix[2], sign * self.matrix[0]))

    def to_raster(self, source_mpp: float, target_mpp: float) -> NDArray[np.float64]:
        """The map between the *pixel centers* of two rasters, shape (2, 3), for ``cv2.warpAffine``.

        Takes (column, row) of a raster at `source_mpp` to (column, row) of one at `target_mpp`.
        """
        a, b, c, d = self.matrix
        linear = np.array([[a, b], [c, d]]) * (source_mpp / target_mpp)
        half = np.array([0.5, 0.5])
        shift = np.array(self.shift_um) / target_mpp + linear @ half - half
        return np.column_stack([linear, shift])
