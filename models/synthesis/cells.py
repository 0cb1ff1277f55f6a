"""Cells of a block: place, nucleus, cytoplasm, HER2 membrane. Units: µm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from models.synthesis.fields import FIELD_UM, Array, at, smooth_noise
from models.synthesis.plan import MIXES, Clone, Look, TissuePlan


class Kind(IntEnum):
    """Kinds of cells, in the order in which they are drawn."""

    STROMA = 0
    ERYTHROCYTE = 1
    DEBRIS = 2
    LYMPHOCYTE = 3
    BENIGN = 4
    TUMOR = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Cells, one row each.

    `radius_um` (n, 2) are the nucleus's half axes, `angle` its turn (degrees), `shape` (n, 6) the
    cosine and sine parts of its outline's 2nd to 4th harmonics, `chromatin` its hematoxylin,
    `vesicle` its emptiness within the rim (0-1), `nucleoli` their number. `eosin` and `basophil`
    are the cytoplasm's stains. `grade` is the HER2 score 0-3 (tumor cells; 0 for others),
    `membrane` its DAB, `completeness` the stained share of its outline, `marker` the DAB of an ER
    or PR nucleus, `control` True for tissue that only the IHC slide has.
    """

    xy_um: Array
    kind: NDArray[np.uint8]
    radius_um: Array
    angle: Array
    shape: Array
    chromatin: Array
    vesicle: Array
    nucleoli: NDArray[np.uint8]
    eosin: Array
    basophil: Array
    grade: NDArray[np.uint8]
    membrane: Array
    completeness: Array
    marker: Array
    control: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Cells:
        """Select cells by mask or by index."""
        return Cells(**{name: getattr(self, name)[which] for name in self.__slots__})


def join(*parts: Cells) -> Cells:
    """Concatenate sets of cells."""
    return Cells(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in Cells.__slots__}
    )


def populate(
    rng: np.random.Generator,
    fields: dict[str, Array],
    vessels: Array,
    plan: TissuePlan,
    look: Look,
    looks: Sequence[Look] = (),
) -> Cells:
    """Create all cells of a block; `vessels` rows are (x, y, radius, filled) in µm.

    `looks` are the nuclei of each of the plan's clones.
    """
    shape = fields["tissue"].shape
    size = shape[1] * FIELD_UM, shape[0] * FIELD_UM

    def place(spacing: float, jitter: float) -> Array:
        points = _grid(rng, *size, spacing, jitter)
        return points[(at(fields["tissue"], points) > 0.5) & (at(fields["lumen"], points) < 0.5)]

    def value(name: str, points: Array) -> Array:
        return at(fields[name], points)

    def keep(points: Array, chance: NDArray[np.floating] | float) -> Array:
        return points[rng.random(len(points)) < chance]

    tumor = place(look.spacing_um, 0.17 + 0.08 * look.discohesion)
    tumor = tumor[value("tumor", tumor) > 0.5]
    alive = 1 - 0.8 * value("necrosis", tumor)
    tumor = keep(tumor, alive * (0.45 if plan.pattern == "scattered" else 1.0))
    benign = place(8.5, 0.09)
    benign = benign[(value("benign", benign) > 0.5) & (value("tumor", benign) < 0.4)]
    skin = place(11.0, 0.12)
    # The outermost layers are keratin and have no nuclei.
    skin = skin[(value("skin", skin) > 0.5) & (value("tumor", skin) < 0.4)]
    epithelium = np.maximum.reduce([fields["tumor"], fields["benign"], fields["skin"]])
    stroma = place(13.0, 0.3)
    free = 1.0 if plan.pattern == "scattered" else (at(epithelium, stroma) < 0.35)
    crowd = 0.55 - 0.52 * (value("fat", stroma) > 0.5) - 0.35 * value("mucin", stroma)
    crowd *= 1 - 0.8 * value("necrosis", stroma)
    stroma = keep(stroma, crowd * free)
    lymph = place(7.4, 0.2)
    dense = (value("lymph", lymph) > 0.5) & (value("fat", lymph) < 0.5)
    scarce = 0.85 - 0.78 * (at(epithelium, lymph) > 0.5)
    lymph = keep(lymph, np.where(dense, scarce, 0.006))
    debris = place(5.0, 0.4)
    debris = keep(debris, 0.25 * value("necrosis", debris))
    return join(
        _tumor_cells(rng, tumor, shape, plan, look, looks),
        _make(rng, benign, Kind.BENIGN, 2.9, spread=0.08, ratio=1.2, chromatin=0.75,
              eosin=look.cyto_eosin * 1.1),
        _make(rng, skin, Kind.BENIGN, 3.1, spread=0.1, ratio=1.3, chromatin=0.62, vesicle=0.6,
              eosin=0.5),
        _make(rng, stroma, Kind.STROMA, 2.1, spread=0.28, ratio=3.4, chromatin=0.8, irregular=0.07),
        _make(rng, lymph, Kind.LYMPHOCYTE, 2.7, spread=0.1, ratio=1.12, chromatin=1.15),
        _make(rng, debris, Kind.DEBRIS, 1.0, spread=0.4, ratio=1.5, chromatin=1.1),
        *_vessel_cells(rng, vessels),
    )  # fmt: skip


def control_cells(
    rng: np.random.Generator, cores: tuple[tuple[float, float, float, int], ...]
) -> Cells:
    """Create the cells of control tissue: one grade per core."""
    parts = []
    for x, y, radius, grade in cores:
        points = _grid(rng, 2 * radius, 2 * radius, 12.0, 0.15) - np.float32(radius)
        points = points[np.hypot(points[:, 0], points[:, 1]) < radius - 4]
        points = (points + np.array([x, y])).astype(np.float32)
        part = _make(rng, points, Kind.TUMOR, 4.2, spread=0.12, ratio=1.25, chromatin=0.8)
        part = _with_her2(rng, part, np.full(len(points), grade, dtype=np.uint8))
        parts.append(replace(part, control=np.ones(len(points), dtype=bool)))
    return join(*parts)


def _grid(
    rng: np.random.Generator, width_um: float, height_um: float, spacing: float, jitter: float
) -> Array:
    """Points on a jittered hexagonal grid, shape (n, 2)."""
    rows, columns = int(height_um / (spacing * 0.866)) + 2, int(width_um / spacing) + 2
    r, c = np.mgrid[0:rows, 0:columns]
    points = np.stack([(c + 0.5 * (r % 2)) * spacing, r * spacing * 0.866], axis=-1).reshape(-1, 2)
    points = points + rng.normal(0, jitter * spacing, points.shape)
    return points.astype(np.float32)


def _make(
    rng: np.random.Generator,
    xy: Array,
    kind: Kind,
    radius: float | Array,
    *,
    spread: float | Array,
    ratio: float,
    chromatin: float | Array,
    vesicle: float | Array = 0.0,
    irregular: float | Array = 0.03,
    nucleoli: float | Array = 0.0,
    eosin: float = 0.0,
    basophil: float = 0.0,
) -> Cells:
    """Create cells of one kind; `radius` in µm, `ratio` of the axes, stain amounts as means.

    A value is the same for all cells, or there is one for each (n,).
    """
    n = len(xy)
    mean = radius * np.exp(rng.normal(0, spread, n))
    ratios = 1 + (ratio - 1) * rng.uniform(0.3, 1.5, n)
    # Fibers keep their direction over some hundred µm; nuclei lie along them.
    lean = 60 * np.sin(xy[:, 0] / 170 + 1.3) + 50 * np.cos(xy[:, 1] / 140)
    angle = np.where(kind is Kind.STROMA, lean + rng.normal(0, 18, n), rng.uniform(0, 180, n))
    # Some nuclei lie deep in the section or were cut: they are paler.
    depth = np.where(rng.random(n) < 0.2, rng.uniform(0.45, 0.9, n), 1.0)
    outline = rng.normal(0, np.reshape(irregular, (-1, 1)), (n, 6))
    floats = {
        "xy_um": xy,
        "radius_um": np.stack([mean * np.sqrt(ratios), mean / np.sqrt(ratios)], axis=1),
        "angle": angle,
        "shape": outline / np.array([1, 1, 1.4, 1.4, 2, 2]),
        "chromatin": chromatin * np.exp(rng.normal(0, 0.16, n)) * depth,
        "vesicle": np.clip(vesicle + rng.normal(0, 0.22, n), 0, 1) * (vesicle > 0),
        "eosin": eosin * np.exp(rng.normal(0, 0.15, n)),
        "basophil": basophil * np.exp(rng.normal(0, 0.2, n)),
        "membrane": np.zeros(n),
        "completeness": np.zeros(n),
        "marker": np.zeros(n),
    }
    return Cells(
        kind=np.full(n, kind, dtype=np.uint8),
        nucleoli=(rng.poisson(1.3, n) * (rng.random(n) < nucleoli)).clip(0, 3).astype(np.uint8),
        grade=np.zeros(n, dtype=np.uint8),
        control=np.zeros(n, dtype=bool),
        **{name: np.asarray(v, dtype=np.float32) for name, v in floats.items()},
    )


def _tumor_cells(
    rng: np.random.Generator,
    xy: Array,
    shape: tuple[int, int],
    plan: TissuePlan,
    look: Look,
    looks: Sequence[Look],
) -> Cells:
    clone = clone_of(xy, plan.clones)

    def own(of: Callable[[Look], float]) -> float | Array:
        """Return a value of all cells, or of each by its clone."""
        return np.array([of(each) for each in looks])[clone] if looks else of(look)

    cells = _make(
        rng, xy, Kind.TUMOR, own(lambda its: its.nucleus_um),
        spread=own(lambda its: its.pleomorphism), ratio=look.elongation,
        chromatin=own(lambda its: its.chromatin), vesicle=own(lambda its: its.vesicle),
        irregular=own(lambda its: its.irregular), nucleoli=own(lambda its: its.nucleoli),
        eosin=look.cyto_eosin, basophil=look.cyto_basophil,
    )  # fmt: skip
    mixes = [list(MIXES.values())[each.level] for each in plan.clones] or [plan.mix]
    cells = _with_her2(rng, cells, _grades(rng, shape, xy, clone, mixes, plan), plan.moderate)
    positive = rng.random(len(xy)) < plan.nuclear_positive
    marker = np.where(positive, rng.uniform(0.3, 1.3, len(xy)), 0).astype(np.float32)
    return replace(cells, marker=marker)


def clone_of(xy_um: Array, clones: Sequence[Clone]) -> NDArray[np.intp]:
    """Return the number of the clone of each point (n, 2) in world µm; 0 where there are none."""
    if not clones:
        return np.zeros(len(xy_um), dtype=np.intp)
    away = xy_um[:, None] - np.array([clone.center_um for clone in clones])
    nearest: NDArray[np.intp] = np.hypot(away[..., 0], away[..., 1]).argmin(axis=1)
    return nearest


def _grades(
    rng: np.random.Generator,
    shape: tuple[int, int],
    xy: Array,
    clone: NDArray[np.intp],
    mixes: Sequence[tuple[float, float, float, float]],
    plan: TissuePlan,
) -> NDArray[np.uint8]:
    """Grade per tumor cell, spatially correlated, with exactly the shares of its clone's mix."""
    grades = np.zeros(len(xy), dtype=np.uint8)
    if len(xy) == 0:
        return grades
    patches = smooth_noise(rng, shape, plan.patchiness_um)
    value = at(patches + 0.35 * smooth_noise(rng, shape, 40), xy) + rng.normal(0, 0.12, len(xy))
    for number, mix in enumerate(mixes):
        mine = clone == number
        rank = np.argsort(np.argsort(value[mine])) / max(1, mine.sum())
        grades[mine] = np.searchsorted(np.cumsum(mix)[:3], rank, side="right")
    return grades


MEMBRANE = np.array([[0.0, 0.0], [0.17, 0.40], [0.55, 0.98], [1.30, 2.20]], dtype=np.float32)
"""DAB (from, to) of a membrane of grade 0, 1+, 2+, 3+: none, faint, weak to moderate, intense."""
COMPLETENESS = np.array([[0.1, 0.4], [0.25, 0.65], [0.75, 1.0], [0.93, 1.0]], dtype=np.float32)
"""Stained share of the outline: incomplete in 1+, complete above (ASCO/CAP 2018)."""
MODERATE = np.array([[0.0, 0.0], [0.16, 0.30], [0.30, 0.52], [0.55, 0.95]], dtype=np.float32)
"""The same where all grades lie near each other (`TissuePlan.moderate`)."""
BARELY = 0.06
"""Share of cells of grade 0 with a barely perceptible membrane."""


def _with_her2(
    rng: np.random.Generator, cells: Cells, grade: NDArray[np.uint8], moderate: float = 0.0
) -> Cells:
    n = len(grade)
    low, high = (MEMBRANE + moderate * (MODERATE - MEMBRANE))[grade].T
    membrane = rng.uniform(low, high)
    trace = (grade == 0) & (rng.random(n) < BARELY)
    membrane = np.where(trace, rng.uniform(0.04, 0.12, n), membrane)
    low, high = COMPLETENESS[grade].T
    return replace(
        cells,
        grade=grade,
        membrane=membrane.astype(np.float32),
        completeness=rng.uniform(low, high).astype(np.float32),
    )


def _vessel_cells(rng: np.random.Generator, vessels: Array) -> list[Cells]:
    """Create the endothelium of each vessel, and the erythrocytes of filled ones."""
    parts = []
    for x, y, radius, filled in vessels.tolist():
        n = max(3, round(2 * np.pi * radius / 14))
        theta = np.linspace(0, 2 * np.pi, n, endpoint=False) + rng.uniform(0, 0.6, n)
        ring = np.stack([x + (radius + 1.5) * np.cos(theta), y + (radius + 1.5) * np.sin(theta)])
        wall = _make(rng, ring.T.astype(np.float32), Kind.STROMA, 1.9, spread=0.15, ratio=3.0,
                     chromatin=0.9)  # fmt: skip
        parts.append(replace(wall, angle=np.degrees(theta + np.pi / 2).astype(np.float32)))
        if filled:
            points = _grid(rng, 2 * radius, 2 * radius, 6.0, 0.25) - np.float32(radius)
            points = points[np.hypot(points[:, 0], points[:, 1]) < radius - 3]
            red = (points + np.array([x, y])).astype(np.float32)
            parts.append(
                _make(rng, red, Kind.ERYTHROCYTE, 3.0, spread=0.06, ratio=1.1, chromatin=0.0,
                      eosin=0.75)
            )  # fmt: skip
    return parts
