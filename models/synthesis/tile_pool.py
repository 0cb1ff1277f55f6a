"""Pool of drawn IHC tiles that slides' bags are composed of: tissue once, its stainings cheaply.

A tile of the pool shows one kind of tissue in one patient's look. Drawing its amounts of stain
costs most; light through them, for a scanner and a staining run, costs little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.spec import TILE_MPP, TILE_PX, TUMOR_SHARE
from models.synthesis.canvas import Canvas, View
from models.synthesis.codec import jpeg_coded
from models.synthesis.cohort import as_scanned
from models.synthesis.fields import Array
from models.synthesis.layers import her2_layers, nuclear_layers, tumor_labels
from models.synthesis.plan import PATTERNS, TissuePlan
from models.synthesis.roughness import random_moderation, random_roughness
from models.synthesis.stain import StainStyle, moderated, random_ihc_style, transmit
from models.synthesis.world import build_world

KINDS = ("no tumor", "0", "1+", "2+", "3+")
"""Kinds of tissue of a HER2 tile: no tumor, or tumor of one score."""
PoolStain = Literal["HER2", "ER"]
"""Stain of a pool; ``ER`` stands for both nuclear receptors, ER and PR."""
NUCLEAR_PERCENT = (0.0, 3.0, 30.0, 95.0)
"""Stained tumor nuclei (0-100) of the kinds of a nuclear stain, in the place of the scores."""
BAG_TILE_PX = 224
"""Edge of a drawn tile in px (arXiv 2503.22069); it covers the tile of 512 px at `TILE_MPP`."""
BAG_TILE_MPP = TILE_MPP * TILE_PX / BAG_TILE_PX
"""Resolution of these tiles in µm per px: 0.64."""
FINER = 2
"""Drawn px per px of a tile, along each edge: the same tissue drawn coarsely looks blurred."""
GLASS = (255, 255, 255)
"""Glass as encoders see it: drawing it white is what calibration makes of a slide's glass."""
_BORDER_UM = 60.0
_ROUGH_SHARE = 0.4
"""Share of the looks that are drawn irregularly (`models.synthesis.roughness`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueTiles:
    """Tiles of one kind and look before light passes through them.

    `amounts` float32 (n, p, p, 3): hematoxylin, eosin, DAB, with p = `BAG_TILE_PX` * `FINER`.
    `truth` float32 (n, 5): share of px that are background and tumor of each kind.
    """

    amounts: NDArray[np.float32]
    truth: NDArray[np.float32]
    moderate: float

    @property
    def kinds(self) -> NDArray[np.int64]:
        """Kind of each tile, a number in `KINDS`: tumor from `TUMOR_SHARE` on, by most px."""
        grade = 1 + self.truth[:, 1:].argmax(axis=1)
        return np.where(self.truth[:, 1:].sum(axis=1) >= TUMOR_SHARE, grade, 0)


def draw_tissue(
    seed: int, look: int, kind: int, rows: int, columns: int, stain: PoolStain = "HER2"
) -> TissueTiles:
    """Draw rows x columns neighboring tiles of a kind; equal `look` and `seed`: one patient."""
    rng = np.random.default_rng([seed, look, kind, 0x7001])
    world_seed = int(np.random.default_rng([seed, look, 0x7001]).integers(2**31))
    rough = random_roughness(world_seed, _ROUGH_SHARE)
    plan = replace(
        _plan(rng, kind), rough=rough, moderate=random_moderation(world_seed, rough), outline=False
    )
    px, mpp = BAG_TILE_PX * FINER, BAG_TILE_MPP / FINER
    size_um = np.array([columns, rows]) * px * mpp + 2 * _BORDER_UM
    world = build_world(world_seed, float(size_um[0]), float(size_um[1]), plan)
    view = View(matrix=(1.0, 0.0, 0.0, 1.0), shift_um=(_BORDER_UM, _BORDER_UM), mpp=mpp)
    canvas = Canvas(world, view, 0, 0, (columns * px, rows * px), control=False)
    layers = her2_layers if stain == "HER2" else nuclear_layers
    amounts = layers(canvas).astype(np.float32)
    classes, _ = tumor_labels(canvas)
    cut = _cut(amounts, px)
    labels = _cut(classes, px).reshape(len(cut), -1)
    truth = np.stack([(labels == k).mean(axis=1) for k in range(len(KINDS))], axis=1)
    return TissueTiles(amounts=cut, truth=truth.astype(np.float32), moderate=plan.moderate)


def stained(tiles: TissueTiles, style: StainStyle, seed: int) -> NDArray[np.uint8]:
    """Return tiles as a scanner sees them, glass at 255: uint8 (n, 224, 224, 3)."""
    style = moderated(replace(style, white=GLASS), tiles.moderate, seed)
    rng = np.random.default_rng([seed, 0x57])
    out = np.empty((len(tiles.amounts), BAG_TILE_PX, BAG_TILE_PX, 3), dtype=np.uint8)
    for number, amounts in enumerate(tiles.amounts):
        seen = jpeg_coded(transmit(amounts, style, rng), 85)
        size = (BAG_TILE_PX, BAG_TILE_PX)
        out[number] = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    return out


def style_of_run(scanner: str, run: int) -> StainStyle:
    """Return the staining of a run as a scanner renders it; equal numbers, equal style."""
    # As overviews of the same run are stained (`models.synthesis.slide_overview`).
    rng = np.random.default_rng([run, 0x2077])
    return as_scanned(random_ihc_style(rng, spread=0.6), scanner)


def _plan(rng: np.random.Generator, kind: int) -> TissuePlan:
    def sometimes(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    common = TissuePlan(
        lymph=sometimes(0.5, 0.02, 0.3),
        fat=sometimes(0.2, 0.05, 0.3),
        necrosis=sometimes(0.15, 0.02, 0.2),
        vessels_per_mm2=float(rng.uniform(0, 30)),
    )
    if kind == 0:
        return replace(
            common,
            tumor=0.0,
            benign=sometimes(0.6, 0.05, 0.6),
            lymph=sometimes(0.5, 0.05, 0.9),
            fat=sometimes(0.4, 0.1, 0.8),
            necrosis=sometimes(0.15, 0.2, 0.9),
        )
    pattern = PATTERNS[int(rng.choice(4, p=(0.4, 0.2, 0.15, 0.25)))]
    mix = [0.0] * 4
    mix[kind - 1] = 1.0
    return replace(
        common,
        tumor=float(rng.uniform(0.6, 0.95)),
        benign=0.0,
        pattern=pattern,
        nest_um=float(rng.uniform(20, 60)),
        mix=(mix[0], mix[1], mix[2], mix[3]),
        nuclear_positive=NUCLEAR_PERCENT[kind - 1] / 100,
    )


def _cut(image: Array | NDArray[np.uint8], px: int) -> NDArray[np.float32]:
    """Cut an image (rows * px, columns * px, …) into tiles (n, px, px, …), row by row."""
    rows, columns = image.shape[0] // px, image.shape[1] // px
    split = image.reshape(rows, px, columns, px, *image.shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(split.reshape(rows * columns, px, px, *image.shape[2:]))
