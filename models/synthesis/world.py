"""Unstained tissue of a block: fields and cells. Units: µm.

A world is one block of tissue, cut once. Smooth fields (tissue, tumor, lumen, lymphocytes, fat, …)
are coarse rasters; cells are arrays. All stains are drawn from the same world, so that H&E truth
and IHC truth agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.cells import Cells, control_cells, join, populate
from models.synthesis.coupling import coupled_look
from models.synthesis.fields import FIELD_UM, Array, at, smooth_noise, soft, soft_level
from models.synthesis.plan import Look, TissuePlan, random_look


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A block of tissue of `width_um` x `height_um`; fields uint8 at `FIELD_UM`, 255 is 1.

    `control_um` are the cores of control tissue (x, y, radius, grade). They may lie beyond the
    block, because a turned IHC slide extends over it.
    """

    seed: int
    width_um: float
    height_um: float
    fields: dict[str, NDArray[np.uint8]]
    look: Look
    control_um: tuple[tuple[float, float, float, int], ...]
    cells: Cells


def build_world(
    seed: int,
    width_um: float,
    height_um: float,
    plan: TissuePlan,
    *,
    control_um: tuple[tuple[float, float, float, int], ...] = (),
) -> World:
    """Create a block. `control_um`: cores of control tissue as (x, y, radius, grade) in µm."""
    rng = np.random.default_rng([seed, 0x7A55])
    shape = (int(np.ceil(height_um / FIELD_UM)) + 1, int(np.ceil(width_um / FIELD_UM)) + 1)
    look = replace(random_look(rng), rough=plan.rough, moderate=plan.moderate)
    if plan.stroma_dab is not None:
        look = replace(look, stroma_dab=plan.stroma_dab)
    fields = _fields(rng, shape, plan, look)
    vessels = _vessels(rng, fields, plan)
    # One generator state for all clones: what is the patient's own is the same in each.
    looks = [
        coupled_look(look, clone.aggressiveness, np.random.default_rng([seed, 0xA66]))
        for clone in plan.clones
    ]
    cells = populate(rng, fields, vessels, plan, look, looks)
    if control_um:
        cells = join(cells, control_cells(rng, control_um))
    return World(
        seed=seed,
        width_um=width_um,
        height_um=height_um,
        fields={name: np.round(f * 255).astype(np.uint8) for name, f in fields.items()},
        look=look,
        control_um=control_um,
        cells=cells,
    )


def _fields(
    rng: np.random.Generator, shape: tuple[int, int], plan: TissuePlan, look: Look
) -> dict[str, Array]:
    tissue = _outline(rng, shape) if plan.outline else np.ones(shape, dtype=np.float32)
    inside = tissue > 0.5
    skin = _skin(rng, shape, plan.skin)
    tumor = _tumor(rng, shape, plan, inside) * (1 - skin)
    glands = smooth_noise(rng, shape, 45) - 4 * tumor - 4 * skin
    level = soft_level(glands, plan.benign, inside)
    benign = np.clip((glands - level) / 0.08 + 0.5, 0, 1) if plan.benign > 0 else tumor * 0
    # The gland's own noise shapes its lumen: the epithelium is a ring some cells wide.
    hollow = float(rng.uniform(0.45, 0.9))
    lumen = np.clip((glands - level - hollow) / 0.1, 0, 1) if plan.benign > 0 else tumor * 0
    glandular = tumor > 0.9
    size = float(rng.uniform(12, 26))
    lumen = np.maximum(
        lumen, soft(smooth_noise(rng, shape, size) + glandular, plan.lumen, glandular, 0.25)
        * glandular,
    )  # fmt: skip
    taken = 4 * tumor + 4 * benign + 4 * skin
    fat = soft(smooth_noise(rng, shape, 150) - taken, plan.fat, inside, 0.1)
    mucin = soft(smooth_noise(rng, shape, 110) - 2 * benign - 2 * skin, plan.mucin, inside, 0.2)
    necrosis = soft(smooth_noise(rng, shape, 110) + tumor - 3 * benign, plan.necrosis, inside, 0.3)
    lymph = soft(smooth_noise(rng, shape, 70) - 1.5 * tumor - skin, plan.lymph, inside, 0.3)
    dense = np.clip(smooth_noise(rng, shape, 90) * 0.5 + 0.9 - look.looseness, 0, 1)
    fields = {
        "tissue": tissue,
        "tumor": tumor * tissue * (1 - mucin * (rng.random() < 0.5)),
        "benign": benign,
        "lumen": lumen,
        "fat": fat * (1 - mucin),
        "mucin": mucin,
        "necrosis": necrosis,
        "lymph": lymph,
        "dense": dense,
        "skin": skin,
    }
    return {name: np.clip(f, 0, 1).astype(np.float32) for name, f in fields.items()}


def _tumor(
    rng: np.random.Generator, shape: tuple[int, int], plan: TissuePlan, inside: NDArray[np.bool_]
) -> Array:
    if plan.tumor <= 0:
        return np.zeros(shape, dtype=np.float32)
    zone = smooth_noise(rng, shape, plan.zone_um)
    nests = smooth_noise(rng, shape, plan.nest_um)
    match plan.pattern:
        case "cords":  # along zero crossings of noise
            field = 0.5 * zone - 1.3 * np.abs(nests)
        case "scattered":
            field = zone + 0.3 * nests
        case _:
            field = zone + 0.55 * nests
    return soft(field.astype(np.float32), plan.tumor, inside, 0.06)


def _skin(rng: np.random.Generator, shape: tuple[int, int], share: float) -> Array:
    """Band along one side, wavy at its lower edge (rete ridges)."""
    if share <= 0:
        return np.zeros(shape, dtype=np.float32)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = float(rng.uniform(0, 2 * np.pi))
    along = (columns / shape[1] - 0.5) * np.cos(turn) + (rows / shape[0] - 0.5) * np.sin(turn)
    field = along.astype(np.float32) + 0.05 * smooth_noise(rng, shape, 35)
    return soft(field.astype(np.float32), share, np.ones(shape, dtype=bool), 0.02)


def _vessels(
    rng: np.random.Generator, fields: dict[str, Array], plan: TissuePlan
) -> NDArray[np.float32]:
    """Round vessels as rows (x, y, radius, filled) in µm; their lumens are removed from the
    fields."""
    rows, columns = fields["tissue"].shape
    area = rows * columns * FIELD_UM**2 / 1e6
    count = int(rng.poisson(plan.vessels_per_mm2 * area))
    found = np.column_stack([
        rng.uniform(0, columns * FIELD_UM, count),
        rng.uniform(0, rows * FIELD_UM, count),
        np.exp(rng.normal(2.5, 0.6, count)).clip(5, 60),
        rng.random(count) < 0.6,
    ]).astype(np.float32)  # fmt: skip
    place = found[:, :2]
    epithelium = np.maximum(at(fields["tumor"], place), at(fields["benign"], place))
    found = found[(epithelium < 0.3) & (at(fields["tissue"], place) > 0.9)]
    for x, y, radius, _ in found:
        center = (round(float(x) / FIELD_UM * 16), round(float(y) / FIELD_UM * 16))
        for name, size, value in (("lumen", radius, 1.0), ("dense", radius * 1.6, 1.0)):
            cv2.circle(fields[name], center, round(float(size) / FIELD_UM * 16), value, -1, 8, 4)
    return found


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Irregular section that covers about a third of the slide, away from every edge."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = rows / shape[0] - 0.5, columns / shape[1] - 0.5
    radius = np.hypot(x / 0.34, y / 0.32)
    rough = 0.10 * smooth_noise(rng, shape, 0.12 * min(shape) * FIELD_UM)
    rough += 0.02 * smooth_noise(rng, shape, 30)
    edge = 1 - radius + rough
    # A notch breaks the symmetry under half a turn.
    turn = rng.uniform(0, 2 * np.pi)
    notch = np.hypot(x - 0.33 * np.cos(turn), y - 0.31 * np.sin(turn))
    edge = (1 - radius + rough) - 0.9 * np.exp(-((notch / 0.09) ** 2))
    mask: Array = np.clip(edge / 0.02 + 0.5, 0, 1).astype(np.float32)
    return mask
