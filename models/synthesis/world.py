"""The tissue itself, before any stain: where there is what, and every cell. Units: µm.

A world is one block of tissue, cut once. Smooth fields (tissue, tumor, lumen, lymphocytes, fat, …)
are coarse rasters; cells are arrays. Both stains are drawn from the same world, so H&E truth and
IHC truth agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FIELD_UM = 4.0
"""Resolution of the smooth fields in µm per px."""

TUMOR, BENIGN, STROMA, LYMPHOCYTE = range(4)
"""Kinds of cells."""

MIXES: dict[str, tuple[float, float, float, float]] = {
    "0": (0.98, 0.02, 0.0, 0.0),
    "1+": (0.24, 0.75, 0.01, 0.0),
    "2+": (0.10, 0.22, 0.675, 0.005),
    "3+": (0.04, 0.08, 0.16, 0.72),
}
"""Share of tumor cells scored 0, 1+, 2+, 3+ in a case of each score. ASCO/CAP 2018 asks for > 10 %
of the deciding class: each mix keeps well clear of every limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TissuePlan:
    """What a world is made of; shares are of the tissue's area (0-1)."""

    tumor: float = 0.45
    nest_um: float = 45.0
    zone_um: float = 350.0
    lumen: float = 0.05
    benign: float = 0.06
    lymph: float = 0.06
    fat: float = 0.06
    mix: tuple[float, float, float, float] = MIXES["0"]
    outline: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """All cells, one row each: position (µm), kind, nucleus, membrane.

    `radius_um` (n, 2) are the nucleus's half axes, `angle` its turn (degrees), `chromatin` its
    haematoxylin, `grade` the HER2 score 0-3 (tumor cells; 0 for others), `membrane` its DAB,
    `control` True for tissue that only the IHC slide has.
    """

    xy_um: NDArray[np.float32]
    kind: NDArray[np.uint8]
    radius_um: NDArray[np.float32]
    angle: NDArray[np.float32]
    chromatin: NDArray[np.float32]
    grade: NDArray[np.uint8]
    membrane: NDArray[np.float32]
    control: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, which: NDArray[np.bool_]) -> Cells:
        """The cells that `which` chooses."""
        return Cells(**{name: getattr(self, name)[which] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A block of tissue of `width_um` x `height_um`; fields float32 at `FIELD_UM`, about 0-1.

    `control_um` are the cores of control tissue (x, y, radius, grade); they may lie beyond the
    block, as an IHC slide that is turned reaches over it.
    """

    seed: int
    width_um: float
    height_um: float
    tissue: NDArray[np.float32]
    tumor: NDArray[np.float32]
    benign: NDArray[np.float32]
    lumen: NDArray[np.float32]
    fat: NDArray[np.float32]
    density: NDArray[np.float32]
    haze: NDArray[np.float32]
    control_um: tuple[tuple[float, float, float, int], ...]
    cells: Cells


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], scale_um: float
) -> NDArray[np.float32]:
    """Zero mean, unit variance noise whose features are about `scale_um` wide."""
    sigma = max(0.5, scale_um / FIELD_UM)
    step = max(1, int(sigma / 3))
    coarse = (max(4, shape[0] // step + 2), max(4, shape[1] // step + 2))
    noise = rng.standard_normal(coarse).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma / step, borderType=cv2.BORDER_REFLECT)
    noise = cv2.resize(noise, (coarse[1] * step, coarse[0] * step), interpolation=cv2.INTER_CUBIC)
    noise = noise[: shape[0], : shape[1]]
    spread = float(noise.std()) or 1.0
    result: NDArray[np.float32] = ((noise - noise.mean()) / spread).astype(np.float32)
    return result


def _soft(
    field: NDArray[np.float32], share: float, inside: NDArray[np.bool_], width: float
) -> NDArray[np.float32]:
    """A soft mask (0-1, 0.5 at the edge) over the `share` of `inside` where `field` is highest."""
    if share <= 0 or not inside.any():
        return np.zeros_like(field)
    if share >= 1:
        return np.ones_like(field)
    level = float(np.quantile(field[inside], 1 - share))
    soft: NDArray[np.float32] = np.clip((field - level) / width + 0.5, 0, 1).astype(np.float32)
    return soft


def build_world(
    seed: int,
    width_um: float,
    height_um: float,
    plan: TissuePlan,
    *,
    control_um: tuple[tuple[float, float, float, int], ...] = (),
) -> World:
    """Make a block. `control_um`: cores of control tissue as (x, y, radius, grade) in µm."""
    rng = np.random.default_rng([seed, 0x7A55])
    shape = (int(np.ceil(height_um / FIELD_UM)) + 1, int(np.ceil(width_um / FIELD_UM)) + 1)
    tissue = _outline(rng, shape) if plan.outline else np.ones(shape, dtype=np.float32)
    inside = tissue > 0.5
    zone = smooth_noise(rng, shape, plan.zone_um)
    nests = smooth_noise(rng, shape, plan.nest_um)
    tumor = _soft(zone + 0.55 * nests, plan.tumor, inside, 0.06)
    benign_shape = smooth_noise(rng, shape, 60) - 3 * tumor
    benign = _soft(benign_shape, plan.benign, inside, 0.06)
    fat = _soft(smooth_noise(rng, shape, 150) - 3 * tumor - 3 * benign, plan.fat, inside, 0.1)
    glandular = np.maximum(tumor, benign) > 0.9
    lumen = _soft(smooth_noise(rng, shape, 16) + glandular, plan.lumen, glandular, 0.25)
    lumen *= glandular
    lymph = _soft(smooth_noise(rng, shape, 70) - 1.5 * tumor, plan.lymph, inside, 0.3)
    fields = {
        "tissue": tissue,
        "tumor": tumor * tissue,
        "benign": benign,
        "lumen": lumen,
        "fat": fat,
    }
    cells = _cells(rng, fields, lymph, plan)
    if control_um:
        cells = _join(cells, _control_cells(rng, control_um))
    return World(
        seed=seed,
        width_um=width_um,
        height_um=height_um,
        **fields,
        density=smooth_noise(rng, shape, 120),
        haze=np.clip(smooth_noise(rng, shape, 200) * 0.5 + 0.5, 0, 2).astype(np.float32),
        control_um=control_um,
        cells=cells,
    )


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """An irregular section that covers about a third of the slide, off every edge."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = rows / shape[0] - 0.5, columns / shape[1] - 0.5
    radius = np.hypot(x / 0.34, y / 0.32)
    rough = 0.10 * smooth_noise(rng, shape, 0.12 * min(shape) * FIELD_UM)
    rough += 0.02 * smooth_noise(rng, shape, 30)
    # A notch, so that no rotation by half a turn looks alike.
    turn = rng.uniform(0, 2 * np.pi)
    notch = np.hypot(x - 0.33 * np.cos(turn), y - 0.31 * np.sin(turn))
    edge = (1 - radius + rough) - 0.9 * np.exp(-((notch / 0.09) ** 2))
    soft: NDArray[np.float32] = np.clip(edge / 0.02 + 0.5, 0, 1).astype(np.float32)
    return soft


def _grid(
    rng: np.random.Generator, width_um: float, height_um: float, spacing: float, jitter: float
) -> NDArray[np.float32]:
    """Points on a jittered hexagonal grid, shape (n, 2)."""
    rows, columns = int(height_um / (spacing * 0.866)) + 2, int(width_um / spacing) + 2
    r, c = np.mgrid[0:rows, 0:columns]
    points = np.stack([(c + 0.5 * (r % 2)) * spacing, r * spacing * 0.866], axis=-1).reshape(-1, 2)
    points = points + rng.normal(0, jitter * spacing, points.shape)
    return points.astype(np.float32)


def _at(field: NDArray[np.float32], xy_um: NDArray[np.float32]) -> NDArray[np.float32]:
    """A field's value at points (nearest)."""
    column = np.clip((xy_um[:, 0] / FIELD_UM).round().astype(int), 0, field.shape[1] - 1)
    row = np.clip((xy_um[:, 1] / FIELD_UM).round().astype(int), 0, field.shape[0] - 1)
    values: NDArray[np.float32] = field[row, column]
    return values


def _cells(
    rng: np.random.Generator,
    fields: dict[str, NDArray[np.float32]],
    lymph: NDArray[np.float32],
    plan: TissuePlan,
) -> Cells:
    shape = fields["tissue"].shape
    width, height = shape[1] * FIELD_UM, shape[0] * FIELD_UM

    def kept(points: NDArray[np.float32], keep: NDArray[np.bool_]) -> NDArray[np.float32]:
        empty = (_at(fields["lumen"], points) > 0.5) | (_at(fields["tissue"], points) < 0.5)
        result: NDArray[np.float32] = points[keep & ~empty]
        return result

    points = _grid(rng, width, height, float(rng.uniform(10.5, 13.5)), 0.17)
    tumor_xy = kept(points, _at(fields["tumor"], points) > 0.5)
    points = _grid(rng, width, height, 8.5, 0.09)
    benign_xy = kept(
        points, (_at(fields["benign"], points) > 0.5) & (_at(fields["tumor"], points) < 0.4)
    )
    points = _grid(rng, width, height, 15.0, 0.3)
    epithelium = np.maximum(_at(fields["tumor"], points), _at(fields["benign"], points)) > 0.35
    sparse = rng.random(len(points)) < np.where(_at(fields["fat"], points) > 0.5, 0.12, 0.6)
    stroma_xy = kept(points, ~epithelium & sparse)
    points = _grid(rng, width, height, 7.5, 0.2)
    crowd = (_at(lymph, points) > 0.5) & (_at(fields["fat"], points) < 0.5)
    thin = rng.random(len(points)) < np.where(_at(fields["tumor"], points) > 0.5, 0.08, 0.85)
    lymph_xy = kept(points, crowd & thin)
    pleomorphism = float(rng.uniform(0.1, 0.3))
    size = float(rng.uniform(3.6, 4.9))
    parts = [
        _make(rng, tumor_xy, TUMOR, size, pleomorphism, 1.28, 0.8),
        _make(rng, benign_xy, BENIGN, 2.9, 0.08, 1.15, 0.75),
        _make(rng, stroma_xy, STROMA, 2.3, 0.25, 3.2, 0.85),
        _make(rng, lymph_xy, LYMPHOCYTE, 2.8, 0.10, 1.1, 1.3),
    ]
    grade = _grades(rng, shape, tumor_xy, plan.mix)
    parts[0] = _with_her2(rng, parts[0], grade)
    return _join(*parts)


def _make(
    rng: np.random.Generator,
    xy: NDArray[np.float32],
    kind: int,
    radius: float,
    spread: float,
    elongation: float,
    chromatin: float,
) -> Cells:
    n = len(xy)
    mean = radius * np.exp(rng.normal(0, spread, n))
    ratio = 1 + (elongation - 1) * rng.uniform(0.4, 1.4, n)
    # Fibres run in one direction over some hundred µm; nuclei lie along them.
    lean = 60 * np.sin(xy[:, 0] / 170 + 1.3) + 50 * np.cos(xy[:, 1] / 140)
    angle = np.where(kind == STROMA, lean + rng.normal(0, 15, n), rng.uniform(0, 180, n))
    return Cells(
        xy_um=xy,
        kind=np.full(n, kind, dtype=np.uint8),
        radius_um=np.stack([mean * np.sqrt(ratio), mean / np.sqrt(ratio)], axis=1).astype(
            np.float32
        ),
        angle=angle.astype(np.float32),
        chromatin=(chromatin * np.exp(rng.normal(0, 0.18, n))).astype(np.float32),
        grade=np.zeros(n, dtype=np.uint8),
        membrane=np.zeros(n, dtype=np.float32),
        control=np.zeros(n, dtype=bool),
    )


def _grades(
    rng: np.random.Generator,
    shape: tuple[int, int],
    xy: NDArray[np.float32],
    mix: tuple[float, float, float, float],
) -> NDArray[np.uint8]:
    """Grade per tumor cell: neighbours are alike, and the shares are exactly those of `mix`."""
    if len(xy) == 0:
        return np.zeros(0, dtype=np.uint8)
    value = _at(smooth_noise(rng, shape, 80), xy) + rng.normal(0, 0.45, len(xy))
    rank = np.argsort(np.argsort(value)) / len(xy)
    grades: NDArray[np.uint8] = np.searchsorted(np.cumsum(mix)[:3], rank, side="right").astype(
        np.uint8
    )
    return grades


MEMBRANE = np.array([0.0, 0.30, 0.72, 1.75], dtype=np.float32)
"""DAB of a membrane of grade 0, 1+, 2+, 3+: faint, weak to moderate, intense."""


def _with_her2(rng: np.random.Generator, cells: Cells, grade: NDArray[np.uint8]) -> Cells:
    membrane = MEMBRANE[grade] * np.exp(rng.normal(0, 0.13, len(grade)))
    values = {name: getattr(cells, name) for name in cells.__slots__}
    return Cells(**values | {"grade": grade, "membrane": membrane.astype(np.float32)})


def _control_cells(
    rng: np.random.Generator, cores: tuple[tuple[float, float, float, int], ...]
) -> Cells:
    parts = []
    for x, y, radius, grade in cores:
        points = _grid(rng, 2 * radius, 2 * radius, 12.0, 0.15) - np.float32(radius)
        points = points[np.hypot(points[:, 0], points[:, 1]) < radius - 4]
        points = (points + np.array([x, y])).astype(np.float32)
        part = _make(rng, points, TUMOR, 4.2, 0.12, 1.2, 0.8)
        part = _with_her2(rng, part, np.full(len(points), grade, dtype=np.uint8))
        values = {name: getattr(part, name) for name in part.__slots__}
        parts.append(Cells(**values | {"control": np.ones(len(points), dtype=bool)}))
    return _join(*parts)


def _join(*parts: Cells) -> Cells:
    return Cells(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in Cells.__slots__}
    )
