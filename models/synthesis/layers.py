"""Amounts of hematoxylin, eosin and DAB per px, by staining protocol."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.canvas import Canvas
from models.synthesis.cells import Kind
from models.synthesis.fields import Array
from models.synthesis.roughness import (
    bent,
    brown_cytoplasm,
    faded,
    rough_membranes,
    rough_stroma,
    weathered,
)
from models.synthesis.textures import Texture


def he_layers(canvas: Canvas) -> Array:
    """Amounts of an H&E stain: float32 (rows, columns, 3)."""
    f, look, cell = canvas.fields, canvas.world.look, canvas.territory
    chromatin, nuclei = canvas.nuclei()
    fibers, grain = canvas.texture(Texture.FIBERS), canvas.texture(Texture.GRAIN)
    specks = canvas.texture(Texture.SPECKS)
    eosin = look.stroma_eosin * _collagen(canvas, fibers)
    eosin *= 1 - 0.75 * f["lymph"]
    hematoxylin = np.float32(0.03) + 0.02 * fibers
    eosin = _mix(eosin, 0.05 + 0.02 * fibers, f["mucin"])
    hematoxylin = _mix(hematoxylin, 0.11 + 0.04 * fibers, f["mucin"])
    eosin = _mix(eosin, 0.42 + 0.13 * specks + 0.08 * grain, f["necrosis"])
    hematoxylin = _mix(hematoxylin, 0.06 + 0.05 * specks, f["necrosis"])
    keratin = np.clip((f["skin"] - 0.9) * 10, 0, 1)
    eosin = _mix(eosin, 0.6 + 0.2 * fibers, keratin)
    walls = canvas.texture(Texture.WALLS)
    fat = (f["fat"] > 0.5).astype(np.float32)
    eosin = _mix(eosin, 0.35 * walls, fat)
    hematoxylin = hematoxylin * (1 - fat)
    inside = _soft(cell.inside)
    uneven = 1 + 0.14 * grain + 0.10 * canvas.texture(Texture.CLOUDS, 0.4)
    eosin = _mix(eosin, cell.of(cell.cells.eosin) * uneven, inside)
    hematoxylin = _mix(hematoxylin, cell.of(cell.cells.basophil) * uneven, inside)
    eosin = eosin * (1 - 0.6 * np.clip(nuclei, 0, 1))
    eosin = eosin + look.nuclear_eosin * chromatin  # in some laboratories nuclei are maroon
    open_ = _open(canvas, cell.edge)
    eosin = eosin * open_ + canvas.erythrocytes()
    hematoxylin = hematoxylin * open_ + chromatin * 0.85
    thick = _thickness(canvas) * f["tissue"]
    return weathered(canvas, _amounts(hematoxylin * thick, eosin * thick, np.zeros_like(thick)))


def her2_layers(canvas: Canvas) -> Array:
    """Amounts of HER2 IHC: DAB along membranes of tumor cells, hematoxylin counterstain."""
    look, cell = canvas.world.look, canvas.territory
    cells = cell.cells
    grain, fibers = canvas.texture(Texture.GRAIN), canvas.texture(Texture.FIBERS)
    amount = cell.of(cells.membrane) * cell.edge * canvas.stained_outline()
    thick = amount * (cell.of(cells.grade) >= 3)
    um = canvas.um
    line = cv2.GaussianBlur(amount, (0, 0), 0.42 * um) * (1.9 * um * 0.42)
    wide = 1.1 * (1 - 0.7 * look.moderate)
    line += cv2.GaussianBlur(thick, (0, 0), 0.95 * um) * (wide * um * 0.95)
    line *= np.clip(1 + look.granular * (0.6 * grain + 0.5 * canvas.texture(Texture.SPECKS)), 0, 3)
    blush = look.blush * cell.of(cells.membrane) * (1 + 0.25 * grain)
    line = rough_membranes(canvas, line)
    dab = line + blush + brown_cytoplasm(canvas) + _background(canvas, fibers)
    return _ihc(canvas, dab, fibers)


def nuclear_layers(canvas: Canvas) -> Array:
    """Amounts of ER or PR IHC: DAB in nuclei."""
    marked = canvas.marked_nuclei() * (1 + 0.2 * canvas.texture(Texture.CHROMATIN))
    return ihc_layers(canvas, marked)


def ihc_layers(canvas: Canvas, marked: Array) -> Array:
    """Amounts of any IHC stain: DAB where it is `marked`, background, counterstain."""
    fibers = canvas.texture(Texture.FIBERS)
    return _ihc(canvas, marked + _background(canvas, fibers), fibers)


def _ihc(canvas: Canvas, dab: Array, fibers: Array) -> Array:
    """Combine DAB with the counterstain of every IHC slide."""
    f, look, cell = canvas.fields, canvas.world.look, canvas.territory
    chromatin, _ = canvas.nuclei()
    chromatin = faded(canvas, chromatin)
    base = look.counterstain * (0.4 + 0.6 * _collagen(canvas, fibers))
    base = rough_stroma(canvas, base, fibers)
    base = _mix(base, look.counterstain * (0.3 + 0.2 * fibers), np.maximum(f["mucin"], f["fat"]))
    within = 0.25 * cell.of(cell.cells.basophil) + 0.3 * look.counterstain
    base = _mix(base, within, _soft(cell.inside))
    fat = (f["fat"] > 0.5).astype(np.float32)
    base = base * (1 - fat) + 0.06 * fat * canvas.texture(Texture.WALLS)
    open_ = _open(canvas, cell.edge * 0)
    thick = _thickness(canvas) * f["tissue"]
    hematoxylin = (base * open_ + 0.62 * chromatin + 0.05 * canvas.erythrocytes()) * thick
    dab = dab * (1 - 0.9 * f["lumen"]) * (1 - 0.8 * fat) * thick
    eosin = 0.012 * thick * open_ + 0.1 * canvas.erythrocytes()
    return weathered(canvas, _amounts(hematoxylin, eosin, dab))


def _background(canvas: Canvas, fibers: Array) -> Array:
    """Nonspecific DAB: haze everywhere, patches of stroma, necrosis, the section's edge."""
    f, look = canvas.fields, canvas.world.look
    clouds = canvas.texture(Texture.CLOUDS, 1.5)
    haze = look.haze * np.clip(1 + 0.5 * clouds, 0, 2)
    stroma = look.stroma_dab * np.clip(clouds, 0, 2) * np.clip(1 + 0.6 * fibers, 0, 3)
    stroma = stroma * ~canvas.territory.inside
    edge = look.edge_dab * np.clip(1 - 2.5 * np.abs(f["tissue"] - 0.6), 0, 1)
    dead = 0.6 * look.stroma_dab * f["necrosis"] + 0.12 * f["necrosis"] * look.edge_dab
    skin = 0.5 * look.stroma_dab * np.clip((f["skin"] - 0.9) * 10, 0, 1)
    found: Array = (haze + stroma + edge + dead + skin).astype(np.float32)
    return found


def _collagen(canvas: Canvas, fibers: Array) -> Array:
    """Relative density of stroma: dense bundles, or loose fibers with cracks between them."""
    dense = canvas.fields["dense"]
    bundles = canvas.texture(Texture.BUNDLES)
    amount = (0.55 + 0.45 * dense) * (1 + 0.16 * fibers + 0.22 * bundles)
    cracks = np.clip((bundles + 0.5 * fibers - 0.4 - 1.6 * dense) * 1.6, 0, 1)
    collagen: Array = (np.clip(amount, 0.05, 3) * (1 - 0.9 * cracks)).astype(np.float32)
    return collagen


def _open(canvas: Canvas, edge: Array) -> Array:
    """Share of stain that remains where tissue gapes: lumens, clefts around nests, loose cells."""
    f, look = canvas.fields, canvas.world.look
    clouds = canvas.texture(Texture.CLOUDS, 0.8)
    band = np.exp(-(((f["tumor"] - 0.3) / 0.16) ** 2))
    cleft = look.cleft * band * np.clip(1.5 * clouds, 0, 1) * ~canvas.territory.inside
    apart = look.discohesion * edge * np.clip(1.2 * clouds + 0.3, 0, 1)
    apart = cv2.GaussianBlur(apart.astype(np.float32), (0, 0), 0.35 * canvas.um) * 1.6
    left: Array = (1 - 0.95 * f["lumen"]) * np.clip(1 - cleft - apart, 0.04, 1)
    return left.astype(np.float32)


def _amounts(hematoxylin: Array, eosin: Array, dab: Array) -> Array:
    layers: Array = np.maximum(np.dstack([hematoxylin, eosin, dab]), 0).astype(np.float32)
    return layers


def _thickness(canvas: Canvas) -> Array:
    layer: Array = 1 + 0.10 * canvas.texture(Texture.CLOUDS, 2.0)
    return layer


def _mix(below: Array | np.floating, above: Array, where: Array) -> Array:
    mixed: Array = below + (above - below) * where
    return mixed


def _soft(mask: NDArray[np.bool_]) -> Array:
    layer: Array = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.2)
    return layer


def tumor_labels(canvas: Canvas) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Truth: class per px in the numbering of M (0 background, 1-4 tumor scored 0 to 3+), and
    control tissue, which has no class."""
    cell = canvas.territory
    tumor = cell.of(cell.cells.kind == Kind.TUMOR) > 0
    control = tumor & (cell.of(cell.cells.control) > 0)
    classes = np.where(tumor & ~control, cell.of(cell.cells.grade) + 1, 0)
    return bent(canvas, classes.astype(np.uint8), labels=True), bent(
        canvas, control.astype(np.uint8), labels=True
    ).astype(bool)
