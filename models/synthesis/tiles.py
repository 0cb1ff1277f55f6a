"""Random pairs of tiles with truth, for training and for judging networks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from models.synthesis.render import View, render_region
from models.synthesis.stain import random_ihc_style, random_style
from models.synthesis.world import MIXES, TissuePlan, build_world

TILE_PX = 512
TILE_MPP = 0.2793
TUMOR_SHARE = 0.05
"""A tile is a tumor tile when so much of it is tumor (5 % overlap rule of arXiv 2503.22069)."""
_BORDER_UM = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePair:
    """The same tissue in both stains, registered to the pixel.

    `he`, `ihc` uint8 RGB (512, 512, 3) at 0.2793 µm/px; `tumor_mask` bool (512, 512);
    `class_map` uint8 (512, 512): 0 background, 1-4 tumor cells scored 0, 1+, 2+, 3+; `intensity`
    0-3, the class of most tumor pixels; `white` the glass of the IHC slide, `he_white` that of H&E.
    """

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    tumor_mask: NDArray[np.bool_]
    class_map: NDArray[np.uint8]
    tumor: bool
    intensity: int
    white: tuple[int, int, int]
    he_white: tuple[int, int, int]


def synthesize_tile_pair(seed: int) -> TilePair:
    """A tile pair from a seed: about 60 % hold tumor, the four intensities equally often."""
    rng = np.random.default_rng([seed, 0x711E])
    size_um = TILE_PX * TILE_MPP + 2 * _BORDER_UM
    world = build_world(int(rng.integers(2**31)), size_um, size_um, _plan(rng))
    mpp = TILE_MPP * float(rng.uniform(0.92, 1.09))
    turn = float(rng.uniform(0, 2 * np.pi))
    c, s = np.cos(turn), np.sin(turn)
    half = TILE_PX * mpp / 2
    center = size_um / 2
    view = View(
        matrix=(c, -s, s, c),
        shift_um=(center - (c - s) * half, center - (s + c) * half),
        mpp=mpp,
    )
    styles = random_style(rng), random_ihc_style(rng)
    box = {"x_px": 0, "y_px": 0, "width_px": TILE_PX, "height_px": TILE_PX}
    he = render_region(world, view, "HE", styles[0], **box)
    ihc = render_region(world, view, "HER2", styles[1], **box)
    counts = np.bincount(he.classes.ravel(), minlength=5)[1:5]
    tumor = float(he.tumor.mean()) >= TUMOR_SHARE
    return TilePair(
        he=_scanned(he.pixels, rng),
        ihc=_scanned(ihc.pixels, rng),
        tumor_mask=he.tumor,
        class_map=ihc.classes,
        tumor=tumor,
        intensity=int(counts.argmax()) if tumor else 0,
        white=styles[1].white,
        he_white=styles[0].white,
    )


def _plan(rng: np.random.Generator) -> TissuePlan:
    kind = rng.random()
    mix = _random_mix(rng)
    if kind < 0.35:  # the inside of a tumor
        return TissuePlan(
            tumor=float(rng.uniform(0.75, 1.0)),
            nest_um=float(rng.uniform(25, 60)),
            zone_um=90.0,
            lumen=float(rng.choice([0.0, 0.03, 0.12])),
            benign=0.0,
            lymph=float(rng.uniform(0, 0.08)),
            fat=0.0,
            mix=mix,
            outline=False,
        )
    if kind < 0.62:  # nests in stroma
        return TissuePlan(
            tumor=float(rng.uniform(0.12, 0.7)),
            nest_um=float(rng.uniform(15, 50)),
            zone_um=float(rng.uniform(40, 150)),
            lumen=float(rng.choice([0.0, 0.05])),
            benign=float(rng.choice([0.0, 0.0, 0.1])),
            lymph=float(rng.uniform(0, 0.2)),
            fat=float(rng.choice([0.0, 0.0, 0.2])),
            mix=mix,
            outline=False,
        )
    return TissuePlan(  # everything that is not tumor
        tumor=0.0,
        lumen=float(rng.choice([0.0, 0.08, 0.2])),
        benign=float(rng.choice([0, 0, 0.2, 0.6, 0.95])),
        lymph=float(rng.choice([0.0, 0.05, 0.3, 0.9])),
        fat=float(rng.choice([0.0, 0.0, 0.3, 0.9])),
        mix=mix,
        outline=bool(rng.random() < 0.25),
    )


def _random_mix(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A case's mix, or one that leans to one class, so that every neighbourhood occurs."""
    if rng.random() < 0.5:
        mix = np.array(MIXES[str(rng.choice(list(MIXES)))])
    else:
        mix = rng.dirichlet(np.full(4, 0.6))
    a, b, c, d = (float(v) for v in mix / mix.sum())
    return a, b, c, d


def _scanned(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a scanner's optics and codec leave: sometimes coarser, always JPEG."""
    if rng.random() < 0.25:
        factor = float(rng.uniform(1.3, 1.9))
        small = cv2.resize(pixels, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(small, (TILE_PX, TILE_PX), interpolation=cv2.INTER_LINEAR)
    quality = int(rng.integers(60, 95))
    decoded: NDArray[np.uint8] = imagecodecs.jpeg8_decode(
        imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=quality)
    )
    return decoded
