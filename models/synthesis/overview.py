"""Overview of a slide: pieces of tissue drawn at some µm per px, where cells are below a px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.cells import Cells, Kind
from models.synthesis.fields import FIELD_UM, Array, smooth_noise
from models.synthesis.placement import SIZE_UM, Laid, Piece, Points, field_at, is_kept
from models.synthesis.stain import StainStyle, transmit
from models.synthesis.world import World

SEEN = 0.6
"""Share of the cells that a section shows; the next section cuts others."""
MASK_UM = 16.0
"""Resolution of the truth's masks."""


def draw_overview(
    pieces: Sequence[Piece],
    stain: str,
    style: StainStyle,
    mpp: float,
    rng: np.random.Generator,
    cores: Sequence[tuple[float, float, float, int]],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels of a slide, and its tumor mask (every `MASK_UM`)."""
    shape = (round(SIZE_UM[1] / mpp), round(SIZE_UM[0] / mpp))
    amounts = np.zeros((*shape, 3), dtype=np.float32)
    tumor = np.zeros((round(SIZE_UM[1] / MASK_UM), round(SIZE_UM[0] / MASK_UM)), dtype=bool)
    for piece in pieces:
        laid = piece.he if stain == "HE" else piece.drawn
        row, column, points = _grid(piece.world, laid, shape, mpp)
        amounts[row, column] += _layers(piece, points, stain, keep=stain != "HE")
        _splat(amounts, piece, laid, stain, mpp, rng)
        row, column, points = _grid(piece.world, laid, tumor.shape, MASK_UM)
        found = field_at(piece, "tumor", points) * field_at(piece, "tissue", points) > 0.5
        tumor[row, column] |= found & (is_kept(piece, points) | (stain == "HE"))
    for x, y, radius, grade in cores:
        far = round(radius / mpp)
        top, left = round(y / mpp) - far, round(x / mpp) - far
        disk = np.hypot(*np.mgrid[-far : far + 1, -far : far + 1]) <= far
        grain = cv2.GaussianBlur(rng.random(disk.shape, dtype=np.float32) - 0.5, (0, 0), 6 / mpp)
        core = amounts[top : top + len(disk), left : left + len(disk)]
        core[..., 0] += disk * (0.12 + 0.3 * grain)
        core[..., 2] += disk * (0.02 + (0.45 + 0.6 * grain) * (grade == 3))
    style = replace(style, blur_px=0.6, sharpen=0.0)
    return transmit(np.maximum(amounts, 0), style, rng), tumor


def _grid(
    world: World, laid: Laid, shape: tuple[int, int], mpp: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Points]:
    """Rows, columns (n,) of the px of a raster under a piece, and their world µm (n, 2)."""
    w, h = world.width_um, world.height_um
    corners = laid.apply(np.array([[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]]))
    low = np.clip(((corners.min(0) - 200) / mpp).astype(int), 0, (shape[1] - 1, shape[0] - 1))
    high = np.clip(((corners.max(0) + 200) / mpp).astype(int), low + 1, (shape[1], shape[0]))
    # Bends are smooth: compute the inverse on a coarse grid and interpolate.
    step = max(1, round(2 * MASK_UM / mpp))
    x, y = (np.arange(a - step, b + 2 * step, step) for a, b in zip(low, high, strict=True))
    few = (np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) + 0.5) * mpp
    coarse = laid.inverse(few).reshape(len(y), len(x), 2).astype(np.float32)
    to_fine = np.array([[step, 0, x[0] - low[0]], [0, step, y[0] - low[1]]], dtype=np.float64)
    dense = cv2.warpAffine(coarse, to_fine, tuple(int(v) for v in high - low))
    tissue = world.fields["tissue"]
    place = (dense / FIELD_UM).round()
    inside = ((place >= 0) & (place < (tissue.shape[1], tissue.shape[0]))).all(axis=2)
    found = np.zeros(inside.shape, dtype=bool)
    at_px = place[inside].astype(int)
    found[inside] = tissue[at_px[:, 1], at_px[:, 0]] > 0
    rows, columns = np.nonzero(found)
    return rows + low[1], columns + low[0], dense[rows, columns].astype(np.float64)


def _layers(piece: Piece, points: Points, stain: str, *, keep: bool) -> Array:
    """Amounts (n, 3) of hematoxylin, eosin and DAB between the nuclei, see `layers`."""
    look = piece.world.look
    column, row = (points / FIELD_UM).round().astype(int).T
    f = {name: v[row, column].astype(np.float32) / 255 for name, v in piece.world.fields.items()}
    tissue = f["tissue"] * (is_kept(piece, points) if keep else 1)
    noise = smooth_noise(np.random.default_rng([piece.world.seed, keep]), (1024, 1024), 24)
    place = (points / 9).astype(int) % 1024
    uneven = noise[place[:, 1], place[:, 0]]
    collagen = (0.55 + 0.45 * f["dense"]) * (1 + 0.1 * uneven)
    epithelium = np.maximum(np.maximum(f["tumor"], f["benign"]), f["skin"]) > 0.5
    left = tissue * (1 - 0.95 * f["lumen"]) * (1 - 0.9 * (f["fat"] > 0.5))
    if stain == "HE":
        eosin = look.stroma_eosin * collagen * (1 - 0.75 * f["lymph"])
        for name, amount in (("mucin", 0.05), ("necrosis", 0.42)):
            eosin = eosin + (amount - eosin) * f[name]
        eosin = np.where(epithelium, look.cyto_eosin, eosin)
        hematoxylin = np.where(epithelium, look.cyto_basophil, 0.03 + 0.08 * f["mucin"])
        return np.stack([hematoxylin * left, eosin * left, 0 * left], axis=1).astype(np.float32)
    base = look.counterstain * (0.4 + 0.6 * collagen)
    base = np.where(epithelium, 0.25 * look.cyto_basophil + 0.3 * look.counterstain, base)
    stray = look.stroma_dab * np.clip(uneven, 0, 2) * ~epithelium
    edge = look.edge_dab * np.clip(1 - 2.5 * np.abs(f["tissue"] - 0.6), 0, 1)
    dab = look.haze + stray + edge + 0.6 * look.stroma_dab * f["necrosis"]
    return np.stack([base * left, 0.012 * left, dab * left], axis=1).astype(np.float32)


def _splat(
    amounts: NDArray[np.float32],
    piece: Piece,
    laid: Laid,
    stain: str,
    mpp: float,
    rng: np.random.Generator,
) -> None:
    """Add each cell's stains to its px."""
    cells = piece.world.cells
    shown = rng.random(len(cells)) < SEEN
    if stain != "HE":
        shown &= is_kept(piece, cells.xy_um.astype(np.float64))
    cells = cells.take(np.asarray(shown))
    place = np.floor(laid.apply(cells.xy_um.astype(np.float64)) / mpp).astype(int)
    rows, columns = amounts.shape[:2]
    on = ((place >= 0) & (place < (columns, rows))).all(axis=1)
    cells, place = cells.take(np.asarray(on)), place[on]
    flat = place[:, 1] * columns + place[:, 0]
    red = cells.kind == Kind.ERYTHROCYTE
    share = np.pi * cells.radius_um[:, 0] * cells.radius_um[:, 1] / mpp**2
    strength = 0.85 if stain == "HE" else 0.62
    parts = [cells.chromatin * strength * share * ~red, cells.eosin * share * red]
    parts[1] = parts[1] if stain == "HE" else 0.1 * parts[1]
    parts.append(np.zeros(len(cells)) if stain == "HE" else _membranes(cells) / mpp**2)
    for channel, values in enumerate(parts):
        total = np.bincount(flat, weights=values, minlength=rows * columns).reshape(rows, columns)
        # A cell is wider than a px: spread it over its own size.
        amounts[..., channel] += cv2.GaussianBlur(total.astype(np.float32), (0, 0), 3.0 / mpp)


def _membranes(cells: Cells) -> Array:
    """DAB of a cell's membrane, amount times µm²: the integral of the line in
    `layers.her2_layers`."""
    outline_um = 7.5 * cells.radius_um.mean(axis=1)
    amount: Array = cells.membrane * cells.completeness * outline_um * 1.2
    return amount
