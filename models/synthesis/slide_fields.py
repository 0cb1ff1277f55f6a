"""Fields of slides in stains of any kind: what teaches and judges `models.picture`.

A field stands for a slide: one patient's tissue, one staining run, one scanner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN
from models.picture.features import MOST_TINT, TILE_MPP, TILE_PX
from models.synthesis.canvas import View
from models.synthesis.codec import jpeg_coded
from models.synthesis.cohort import SCANNERS, as_scanned
from models.synthesis.other_stains import STAINS, render_stain
from models.synthesis.plan import MIXES, PATTERNS, TissuePlan
from models.synthesis.roughness import random_moderation, random_roughness
from models.synthesis.stain import StainStyle
from models.synthesis.world import build_world

FIELD_TILES = 2
"""Tiles per row and column of a field that trains."""
_BORDER_UM = 40.0
SHARES = {"he": 1.0, "her2": 1.0, "receptor": 1.0, "keratin": 0.9, "lymphocytes": 0.6} | {
    name: 0.4 for name in ("fibers", "pas", "trichrome", "alcian", "silver", "none")
}
"""Probability that the tissue of a seed is drawn in a stain."""
Pixels = NDArray[np.uint8]
White = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideField:
    """Field of a slide: uint8 RGB at `TILE_MPP`, its glass, the stain's name and kind."""

    pixels: Pixels
    white: White
    stain: str
    kind: str

    def tiles(self) -> Iterator[Pixels]:
        """Yield the field's tiles."""
        for top in range(0, self.pixels.shape[0] - TILE_PX + 1, TILE_PX):
            for left in range(0, self.pixels.shape[1] - TILE_PX + 1, TILE_PX):
                yield np.ascontiguousarray(self.pixels[top : top + TILE_PX, left : left + TILE_PX])


def draw_fields(
    seed: int, *, wild: float = 1.0, across: int = FIELD_TILES, rough_share: float = 0.0
) -> Iterator[SlideField]:
    """Draw the tissue of a seed in some stains, each by a lab and a scanner of its own.

    `wild` 0 keeps to the generator's usual labs and scanners, 1 goes far beyond them. A field has
    `across` tiles per row and column. `rough_share`: probability (0-1) that the tissue is drawn
    with irregular outlines and uneven stain (`models.synthesis.roughness`).
    """
    rng = np.random.default_rng([seed, 0xF1E1D])
    edge_px = across * TILE_PX
    mpp = TILE_MPP * float(np.exp(rng.normal(0, 0.1 * wild)))
    edge_um = edge_px * mpp + 2 * _BORDER_UM
    score = list(MIXES)[int(rng.choice(4, p=(0.35, 0.25, 0.2, 0.2)))]
    world_seed = int(rng.integers(2**31))
    rough = random_roughness(seed, rough_share)
    plan = replace(_plan(rng, score), rough=rough, moderate=random_moderation(seed, rough))
    world = build_world(world_seed, edge_um, edge_um, plan)
    turn = float(rng.uniform(0, 2 * np.pi))
    c, s = float(np.cos(turn)), float(np.sin(turn))
    half, center = edge_px * mpp / 2, edge_um / 2
    view = View(
        matrix=(c, -s, s, c),
        shift_um=(center - (c - s) * half, center - (s + c) * half),
        mpp=mpp,
    )
    for number, (name, stain) in enumerate(STAINS.items()):
        if rng.random() >= SHARES[name]:
            continue
        style = _style(stain.style(rng), rng, wild)
        pixels = render_stain(world, view, stain, style, edge_px, seed * 16 + number)
        pixels, white = _scanned(pixels, style.white, rng, wild)
        if rng.random() < 0.3:
            white = _brightest(pixels)
        yield SlideField(pixels=pixels, white=white, stain=name, kind=stain.kind)


def restained(drawn: SlideField, rng: np.random.Generator) -> SlideField:
    """Return a field with its three dyes exchanged for others of similar color, and other amounts.

    DAB varies more than the dyes of H&E, which differ less from each other's.
    """
    base = np.array([HEMATOXYLIN, EOSIN, DAB])
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    spread = 0.10 if drawn.kind in ("membrane", "nuclear", "other-dab") else 0.04
    vectors = np.clip(base + rng.normal(0, spread, (3, 3)) * rng.uniform(0.3, 1), 0.01, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amount = np.exp(rng.normal(0, 0.3, 3))
    if rng.random() < 0.3:  # a pale run
        amount = amount * np.exp(-rng.uniform(0, 1.2))
    matrix = (np.linalg.inv(base) @ (amount[:, None] * vectors)).T.astype(np.float32)
    glass = np.array(drawn.white, dtype=np.float32)
    density = -np.log10(np.maximum(drawn.pixels, 1) / glass)
    density = cv2.transform(density.astype(np.float32), np.ascontiguousarray(matrix))
    if rng.random() < 0.3:
        density = cv2.GaussianBlur(density, (0, 0), float(rng.uniform(0.6, 2.0)))
    pixels = np.clip(glass * 10.0**-density + 0.5, 0, 255).astype(np.uint8)
    return replace(drawn, pixels=pixels)


def _plan(rng: np.random.Generator, score: str) -> TissuePlan:
    """Draw tissue with enough of each cell that some stain marks."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def sometimes(chance: float, low: float, high: float) -> float:
        return between(low, high) if rng.random() < chance else 0.0

    return TissuePlan(
        tumor=between(0.3, 0.95),
        pattern=PATTERNS[int(rng.choice(4, p=(0.4, 0.2, 0.1, 0.3)))],
        nest_um=between(15, 60),
        zone_um=between(40, 250),
        lumen=sometimes(0.5, 0.01, 0.2),
        benign=sometimes(0.3, 0.03, 0.2),
        lymph=between(0.03, 0.3),
        fat=sometimes(0.2, 0.05, 0.3),
        necrosis=sometimes(0.15, 0.03, 0.2),
        mucin=sometimes(0.15, 0.05, 0.3),
        vessels_per_mm2=between(0, 40),
        mix=MIXES[score],
        patchiness_um=between(100, 400),
        outline=False,
    )


def _style(style: StainStyle, rng: np.random.Generator, wild: float) -> StainStyle:
    """Style of a pale or dark run, and of one of the scanners in half of the cases."""
    if rng.random() < 0.5:
        style = as_scanned(style, str(rng.choice(list(SCANNERS))))
    amount = np.exp(rng.normal(0, 0.1 + 0.3 * wild) + rng.normal(0, 0.15 * wild, 3))
    pale = float(rng.uniform(0.25, 0.8)) if rng.random() < 0.25 * wild else 1.0
    strength = np.array(style.strength) * amount * pale
    return replace(
        style,
        strength=(float(strength[0]), float(strength[1]), float(strength[2])),
        blur_px=0.6 * style.blur_px,
    )


def _scanned(
    pixels: Pixels, white: White, rng: np.random.Generator, wild: float
) -> tuple[Pixels, White]:
    """Apply a scanner's color, black level, focus and JPEG; return the glass as it shows, too."""
    glass = np.full((1, 1, 3), white, dtype=np.uint8)
    turn = float(rng.normal(0, 4 * wild))
    saturation = float(np.exp(rng.normal(0, 0.15 * wild)))
    black = float(rng.uniform(0, 0.25 * wild)) if rng.random() < 0.3 else 0.0
    balance = np.exp(rng.normal(0, 0.02 * wild, 3))
    blur_px = float(rng.uniform(0.5, 3.0)) if rng.random() < 0.15 * wild else 0.0
    found = []
    for image in (pixels, glass):
        light = _recolored(image, turn, saturation)
        light = (255 - (255 - light) * (1 - black)) * balance
        found.append(np.clip(light + 0.5, 0, 255).astype(np.uint8))
    image = found[0]
    if blur_px:
        image = cv2.GaussianBlur(image, (0, 0), blur_px)
    r, g, b = (int(v) for v in found[1][0, 0])
    return jpeg_coded(image, int(rng.integers(50, 96))), (r, g, b)


def _brightest(pixels: Pixels) -> White:
    """Return the glass as it is taken to be on a slide that shows hardly any."""
    least = pixels.min(axis=2)
    r, g, b = (int(v) for v in np.median(pixels[least >= np.quantile(least, 0.9)], axis=0))
    gray = min(r, g, b) >= 180 and max(r, g, b) - min(r, g, b) <= MOST_TINT
    return (r, g, b) if gray else (245, 245, 245)


def _recolored(image: Pixels, degrees: float, saturation: float) -> NDArray[np.float32]:
    """Turn the hue about the gray axis, and scale the saturation."""
    angle = np.radians(degrees)
    c, s = float(np.cos(angle)), float(np.sin(angle)) / float(np.sqrt(3))
    gray = np.full((3, 3), 1 / 3)
    turned = c * (np.eye(3) - gray) + s * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    matrix = gray + saturation * turned
    turned_px: NDArray[np.float32] = cv2.transform(
        image.astype(np.float32), matrix.astype(np.float32)
    )
    return turned_px
