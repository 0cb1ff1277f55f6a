"""Placement of pieces of tissue on two slides: turned, shifted, bent, torn, face down.

A piece is a world; `Laid` maps its µm to those of a slide. Slides measure `SIZE_UM`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.cohort import ORGANS
from models.synthesis.fields import FIELD_UM, Array, smooth_noise
from models.synthesis.plan import MIXES, PATTERNS, TissuePlan
from models.synthesis.world import World, build_world

Points = NDArray[np.float64]

SIZE_UM = (16_758.0, 13_965.0)
"""Width and height of a slide of 60,000 x 50,000 px at 0.2793 µm/px."""
LATTICE_UM = 100.0
"""Spacing of the raster that holds a deformation; features are at least ten times as wide."""
DRIFT_UM = (2.0, 9.0)
"""Range of the unpredictable displacement of structures between two sections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """Placement of a piece of tissue: ``slide_um = linear @ (p + bend(p)) + shift_um``, p in world
    µm. `bend` float32 (2, rows, columns), in µm, every `LATTICE_UM`."""

    linear: Points
    shift_um: Points
    bend: NDArray[np.float32]

    def apply(self, points_um: Points) -> Points:
        """Convert world µm (n, 2) to slide µm."""
        moved: Points = (points_um + self._bent(points_um)) @ self.linear.T + self.shift_um
        return moved

    def inverse(self, points_um: Points) -> Points:
        """Convert slide µm (n, 2) to world µm, by fixed-point iteration: bends are weak."""
        straight = (points_um - self.shift_um) @ np.linalg.inv(self.linear).T
        found = straight
        for _ in range(4):
            found = straight - self._bent(found)
        result: Points = found
        return result

    def _bent(self, points_um: Points) -> Points:
        if not len(points_um):
            return points_um
        place = (points_um / LATTICE_UM).astype(np.float32)
        # OpenCV's remap takes at most 32,767 columns.
        columns = 16_384
        rows = -(-len(place) // columns)
        padded = np.zeros((rows * columns, 2), dtype=np.float32)
        padded[: len(place)] = place
        maps = padded.reshape(rows, columns, 2)
        bent = [
            cv2.remap(layer, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for layer in self.bend
        ]
        result: Points = np.stack(bent, axis=-1).reshape(-1, 2)[: len(place)].astype(np.float64)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of tissue and its places: on the H&E slide and on the IHC slide."""

    world: World
    he: Laid
    ihc: Laid
    drawn: Laid
    """`ihc` with the drift between two sections, which no truth contains."""
    kept: Points
    """(a, b, c): half plane a·x + b·y + c > 0 (world µm) that the IHC section keeps."""


def lay_pieces(
    rng: np.random.Generator,
    count: int,
    degrees: float,
    *,
    mirrored: bool,
    moved: bool,
    torn: bool,
) -> list[Piece]:
    """Lay pieces in a row on the H&E slide, all turned, shifted and stretched alike on the IHC
    slide."""
    size = {1: (9000.0, 7500.0), 2: (6400.0, 5600.0), 3: (4600.0, 5000.0)}[count]
    pitch = {1: 0.0, 2: 4900.0, 3: 3600.0}[count]
    he_center, ihc_center = _centers(rng)
    tilt = rng.uniform(-5, 5)
    # Three pieces in a row are longer than the slide is high.
    upright = {1: 180.0, 2: 180.0, 3: 28.0}[count]
    turn = (degrees + 90) % 180 - 90
    degrees = degrees if abs(turn) <= upright else degrees - turn + upright * np.sign(turn)
    scale = 1 + rng.uniform(-0.03, 0.03)
    bend_um = rng.uniform(20, 150)
    organ = ORGANS[list(ORGANS)[int(rng.integers(len(ORGANS)))]]
    score = list(MIXES)[int(rng.integers(len(MIXES)))]
    lost = int(rng.integers(count)) if torn else -1
    he_linear = _turned(tilt)
    pose = _turned(degrees) * scale @ (np.diag([-1.0, 1.0]) if mirrored else np.eye(2))
    flat = np.zeros((2, *_lattice(size)), dtype=np.float32)
    center = np.array(size) / 2
    pieces = []
    for number in range(count):
        world = _world(rng, size, replace(organ, mix=MIXES[score]))
        at_um = np.array([(number - (count - 1) / 2) * pitch, 0.0])
        own_turn = rng.uniform(-15, 15) if moved else 0.0
        own_shift = rng.uniform(-350, 350, 2) if moved else np.zeros(2)
        bent = _bend(rng, size, bend_um)
        linear = pose @ _turned(own_turn)
        shift_um = ihc_center + pose @ (at_um + own_shift) - linear @ center
        ihc = Laid(linear=linear, shift_um=shift_um, bend=bent)
        kept = np.array([0.0, 0.0, 1.0])
        if number == lost:
            kept = _cut(rng, size) if count == 1 else np.array([0.0, 0.0, -1.0])
        shift_um = he_center + he_linear @ (at_um - center)
        pieces.append(
            Piece(
                world=world,
                he=Laid(linear=he_linear, shift_um=shift_um, bend=flat),
                ihc=ihc,
                drawn=replace(ihc, bend=bent + _drift(rng, size)),
                kept=kept,
            )
        )
    return pieces


def _centers(rng: np.random.Generator) -> tuple[Points, Points]:
    """Centers of the tissue on the H&E and on the IHC slide, at most 8 mm apart."""
    middle = np.array(SIZE_UM) / 2
    room = np.array([2400.0, 2000.0])
    he_center = middle + rng.uniform(-room, room)
    ihc_center = middle + rng.uniform(-room, room) * np.array([1.0, 0.6])
    gap = ihc_center - he_center
    return he_center, he_center + gap * min(1.0, 8000 / max(1.0, float(np.hypot(*gap))))


def _world(rng: np.random.Generator, size: tuple[float, float], plan: TissuePlan) -> World:
    return build_world(
        int(rng.integers(2**31)),
        *size,
        replace(
            plan,
            pattern=PATTERNS[int(rng.integers(4))],
            zone_um=float(rng.uniform(150, 450)),
            tumor=float(rng.uniform(0.2, 0.6)),
        ),
    )


def _turned(degrees: float) -> Points:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _lattice(size: tuple[float, float]) -> tuple[int, int]:
    return int(size[1] / LATTICE_UM) + 2, int(size[0] / LATTICE_UM) + 2


def _bend(
    rng: np.random.Generator, size: tuple[float, float], most_um: float
) -> NDArray[np.float32]:
    """Smooth displacement of at most `most_um`; features are 1 to 2 mm wide."""
    width = rng.uniform(1000, 2000) / LATTICE_UM * FIELD_UM
    layers = np.stack([smooth_noise(rng, _lattice(size), width) for _ in range(2)])
    longest = float(np.hypot(layers[0], layers[1]).max())
    bend: Array = (layers * (most_um / longest)).astype(np.float32)
    return bend


def _drift(rng: np.random.Generator, size: tuple[float, float]) -> NDArray[np.float32]:
    """Noise with features from one lattice step up."""
    rms = rng.uniform(*DRIFT_UM)
    layers = [smooth_noise(rng, _lattice(size), 1.2 * FIELD_UM) for _ in range(2)]
    drift: NDArray[np.float32] = np.stack(layers).astype(np.float32) * np.float32(rms)
    return drift


def _cut(rng: np.random.Generator, size: tuple[float, float]) -> Points:
    """Straight tear that removes about a quarter of the tissue, as (a, b, c) of `Piece.kept`."""
    turn = rng.uniform(0, 2 * np.pi)
    a, b = np.cos(turn), np.sin(turn)
    far = 0.13 * min(size)
    return np.array([a, b, far - a * size[0] / 2 - b * size[1] / 2])


def is_kept(piece: Piece, points_um: Points) -> NDArray[np.bool_]:
    """Return whether the IHC section keeps the tissue at world points (n, 2)."""
    kept: NDArray[np.bool_] = points_um @ piece.kept[:2] + piece.kept[2] > 0
    return kept


def field_at(piece: Piece, name: str, points_um: Points) -> Array:
    """Value of a field, 0-1, at world points (n, 2); 0 outside the block."""
    world = piece.world
    inside = (points_um >= 0).all(axis=1) & (points_um < (world.width_um, world.height_um)).all(1)
    column, row = (points_um / FIELD_UM).round().astype(int).T
    field = world.fields[name]
    rows, columns = field.shape
    values = field[row.clip(0, rows - 1), column.clip(0, columns - 1)].astype(np.float32) / 255
    result: Array = values * inside
    return result
