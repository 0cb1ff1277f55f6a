"""Overviews of two whole sections of one block, with exact correspondence.

Slides at full resolution take minutes, and alignment does not use them. This module draws the same
worlds at some µm per px, where a nucleus is a fraction of a px. Sections lie on their slides as a
laboratory lays them: turned, shifted, stretched, face down, torn, in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.cells import Kind
from models.synthesis.overview import MASK_UM, draw_overview
from models.synthesis.placement import SIZE_UM, Piece, Points, field_at, is_kept, lay_pieces
from models.synthesis.stain import random_ihc_style, random_style


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionPair:
    """Overviews and truth. `he`, `ihc` uint8 RGB (rows, columns, 3) at `mpp`; `he_um`, `ihc_um` (n,
    2) are the same n places of tissue that both slides show, in slide µm; `he_tumor`, `ihc_tumor`
    and `ihc_control` bool at `MASK_UM`. `tumor_cells` counts the block's tumor cells of 0, 1+, 2+
    and 3+. `torn`: the IHC slide lacks a part; `moved`: its pieces lie differently to each other;
    `mirrored`: face down."""

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    mpp: float
    he_um: Points
    ihc_um: Points
    he_tumor: NDArray[np.bool_]
    ihc_tumor: NDArray[np.bool_]
    ihc_control: NDArray[np.bool_]
    tumor_cells: tuple[int, ...]
    torn: bool
    moved: bool
    mirrored: bool
    control: bool
    degrees: float
    pieces: int


def synthesize_sections(seed: int, *, mpp: float = 4.0) -> SectionPair:
    """Generate the pair of a seed: any turn, shifts to 8 mm, scale ±3 %, bends to 150 µm.

    A third is torn, half have control tissue, a tenth lie face down, pieces may have drifted apart.
    """
    rng = np.random.default_rng([seed, 0x5EC7])
    count = int(rng.choice(3, p=(0.5, 0.3, 0.2))) + 1
    torn = bool(rng.random() < 1 / 3)
    moved = count > 1 and bool(rng.random() < 0.4)
    mirrored = bool(rng.random() < 0.1)
    control = bool(rng.random() < 0.5)
    works = bool(rng.random() < 0.8)
    degrees = float(rng.uniform(-180, 180))
    pieces = lay_pieces(rng, count, degrees, mirrored=mirrored, moved=moved, torn=torn)
    styles = random_style(rng, spread=0.5), random_ihc_style(rng, spread=0.5)
    cores = _cores(rng, pieces, works) if control else []
    he, he_tumor = draw_overview(pieces, "HE", styles[0], mpp, rng, [])
    ihc, ihc_tumor = draw_overview(pieces, "HER2", styles[1], mpp, rng, cores)
    targets = [_targets(rng, piece) for piece in pieces]
    mask = np.zeros(ihc_tumor.shape, dtype=np.uint8)
    for x, y, radius, _ in cores:
        cv2.circle(mask, (round(x / MASK_UM), round(y / MASK_UM)), round(radius / MASK_UM), 1, -1)
    return SectionPair(
        he=he,
        ihc=ihc,
        mpp=mpp,
        he_um=np.concatenate([t[0] for t in targets]),
        ihc_um=np.concatenate([t[1] for t in targets]),
        he_tumor=he_tumor,
        ihc_tumor=ihc_tumor,
        ihc_control=mask.astype(bool),
        tumor_cells=_tumor_cells(pieces),
        torn=torn,
        moved=moved,
        mirrored=mirrored,
        control=bool(cores),
        degrees=degrees,
        pieces=count,
    )


def _cores(
    rng: np.random.Generator, pieces: Sequence[Piece], works: bool
) -> list[tuple[float, float, float, int]]:
    """Control tissue (x, y, radius in slide µm, grade): three cores along one short side."""
    radius = float(rng.uniform(300, 700))
    side = radius + 250 if rng.random() < 0.5 else SIZE_UM[0] - radius - 250
    heights = np.linspace(0.18, 0.82, 3) * SIZE_UM[1]
    cores = []
    for y, grade in zip(heights, (3, 0, 3), strict=True):
        around = np.array([[side, y]]) + (radius + 150) * np.array(
            [[np.cos(t), np.sin(t)] for t in np.linspace(0, 2 * np.pi, 24)] + [[0, 0]]
        )
        if not any((field_at(p, "tissue", p.ihc.inverse(around)) > 0).any() for p in pieces):
            cores.append((side, float(y), radius, grade if works else 0))
    return cores


def _tumor_cells(pieces: Sequence[Piece]) -> tuple[int, ...]:
    """Tumor cells of grade 0 to 3 of all pieces."""
    grades = [p.world.cells.grade[p.world.cells.kind == Kind.TUMOR] for p in pieces]
    return tuple(np.bincount(np.concatenate(grades), minlength=4).tolist())


def _targets(rng: np.random.Generator, piece: Piece) -> tuple[Points, Points]:
    """Places of solid tissue that both slides show, in µm of each slide."""
    points = rng.uniform((0, 0), (piece.world.width_um, piece.world.height_um), (2000, 2))
    points = points[(field_at(piece, "tissue", points) > 0.99) & is_kept(piece, points)][:250]
    return piece.he.apply(points), piece.ihc.apply(points)
