"""Regions in stains of any kind: H&E, membrane, nuclear and other DAB, other dyes, no stain.

Slides of the wrong kind teach and judge the check of a slide's picture (`models.picture`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deconvolution import EOSIN, HEMATOXYLIN
from models.synthesis.canvas import Canvas, View
from models.synthesis.cells import Kind
from models.synthesis.fields import Array
from models.synthesis.layers import he_layers, her2_layers, ihc_layers, nuclear_layers
from models.synthesis.roughness import weathered
from models.synthesis.stain import StainStyle, random_ihc_style, random_style, transmit
from models.synthesis.textures import Texture
from models.synthesis.world import World

MARGIN_PX = 64
"""Margin around a region, as in `render`."""
Layers = Callable[[Canvas, np.random.Generator], Array]
Style = Callable[[np.random.Generator], StainStyle]
_RED_HE = np.array([(0.490, 0.769, 0.410), (0.046, 0.842, 0.537)])
"""Hematoxylin and eosin as ImageJ's second set of vectors for H&E has them."""
_DYES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "pas": ((0.65, 0.704, 0.286), (0.175, 0.972, 0.154), (0.30, 0.59, 0.75)),
    "trichrome": ((0.45, 0.70, 0.55), (0.10, 0.737, 0.668), (0.80, 0.59, 0.10)),
    "alcian": ((0.30, 0.88, 0.36), (0.30, 0.88, 0.36), (0.875, 0.458, 0.158)),
    "silver": ((0.40, 0.58, 0.71), (0.30, 0.62, 0.72), (0.57, 0.58, 0.58)),
}
"""Optical density (R, G, B) of three dyes: that of nuclei, of cytoplasm, and of fibers or mucin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnStain:
    """A stain as it is drawn; `kind` is what its picture shows, see `models.picture.kinds`."""

    kind: str
    layers: Layers
    style: Style


def render_stain(
    world: World, view: View, stain: DrawnStain, style: StainStyle, size_px: int, seed: int
) -> NDArray[np.uint8]:
    """Render the square region of `view` that starts at its origin: uint8 RGB."""
    edge = size_px + 2 * MARGIN_PX
    rng = np.random.default_rng([seed, 0x0D1E])
    canvas = Canvas(world, view, -MARGIN_PX, -MARGIN_PX, (edge, edge), control=False)
    pixels = transmit(stain.layers(canvas, rng), style, rng)
    return np.ascontiguousarray(pixels[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


def _he(canvas: Canvas, _: np.random.Generator) -> Array:
    return he_layers(canvas)


def _with_haze(canvas: Canvas, rng: np.random.Generator) -> None:
    """Give the tissue the brown haze of a run with much background, in some cases."""
    if rng.random() < 0.4:
        look = replace(canvas.world.look, haze=float(rng.uniform(0.0, 0.15)))
        canvas.world = replace(canvas.world, look=look)


def _he_style(rng: np.random.Generator) -> StainStyle:
    """Draw a style between two published pairs of vectors: eosin is magenta or red."""
    style = random_style(rng)
    vectors = style.vectors.copy()
    share = float(rng.uniform(0, 1.2))
    vectors[:2] += share * (_RED_HE - np.array([HEMATOXYLIN, EOSIN]))
    vectors = np.clip(vectors, 0.01, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return replace(style, vectors=vectors.astype(np.float32))


def _her2(canvas: Canvas, rng: np.random.Generator) -> Array:
    """HER2 of all grades: also with brown cytoplasm and smeared, thick membranes."""
    _with_haze(canvas, rng)
    if rng.random() < 0.5:
        look = replace(
            canvas.world.look,
            blush=float(rng.uniform(0.05, 0.5)),
            granular=float(rng.uniform(0.2, 1.0)),
        )
        canvas.world = replace(canvas.world, look=look)
    layers = her2_layers(canvas)
    if rng.random() < 0.5:
        smeared = cv2.GaussianBlur(layers[..., 2], (0, 0), float(rng.uniform(0.3, 1.3)) * canvas.um)
        layers = np.dstack([layers[..., :2], smeared])
    return layers


def _nuclear(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Receptors and Ki-67: tumor nuclei of some share and strength; sometimes other cells', too."""
    _with_haze(canvas, rng)
    cells = canvas.cells
    wanted = cells.kind == Kind.TUMOR
    for kind, chance in ((Kind.BENIGN, 0.6), (Kind.STROMA, 0.15), (Kind.LYMPHOCYTE, 0.3)):
        if rng.random() < chance:
            wanted |= (cells.kind == kind) & (rng.random(len(cells)) < rng.uniform(0.2, 1.0))
    positive = wanted & (rng.random(len(cells)) < rng.uniform(0.2, 1.0))
    strong = float(rng.uniform(0.5, 1.5))
    marker = np.where(positive, strong * rng.uniform(0.4, 1.2, len(cells)), 0)
    canvas.cells = replace(cells, marker=marker.astype(np.float32))
    return nuclear_layers(canvas)


def _cytoplasm(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Keratins and the like: the cell body of epithelia, nuclei left out in most."""
    _with_haze(canvas, rng)
    cell = canvas.territory
    amount = float(rng.uniform(0.35, 1.3)) * np.exp(rng.normal(0, 0.35, len(cell.cells)))
    if rng.random() < 0.3:  # of some cells only
        amount = amount * (rng.random(len(cell.cells)) < rng.uniform(0.3, 0.9))
    _, nuclei = canvas.nuclei()
    grain = canvas.texture(Texture.GRAIN) * float(rng.uniform(0.1, 0.5))
    clouds = canvas.texture(Texture.CLOUDS, 0.3) * 0.2
    body = cv2.GaussianBlur(cell.of(amount), (0, 0), 0.5 * canvas.um)
    body = body * np.clip(1 + grain + clouds, 0.1, 3) * (1 - rng.uniform(0.3, 0.95) * nuclei)
    if rng.random() < 0.3:
        edge = cv2.GaussianBlur(cell.edge, (0, 0), 0.5 * canvas.um) * canvas.um
        body = body * (1 + float(rng.uniform(0, 0.6)) * edge)
    return ihc_layers(canvas, body)


def _lymphocytes(canvas: Canvas, rng: np.random.Generator) -> Array:
    """CD3, CD20 and the like: a brown rim around each of some small round nuclei."""
    _with_haze(canvas, rng)
    cells = canvas.cells
    which = (cells.kind == Kind.LYMPHOCYTE) & (rng.random(len(cells)) < rng.uniform(0.6, 1.0))
    if which.sum() < 30:  # hardly any lymphocytes: other scattered cells take their place
        which |= (cells.kind == Kind.STROMA) & (rng.random(len(cells)) < rng.uniform(0.1, 0.5))
    some = cells.take(np.asarray(which))
    some = replace(some, marker=rng.uniform(0.7, 1.6, len(some)).astype(np.float32))
    grown = replace(some, radius_um=some.radius_um + np.float32(rng.uniform(0.7, 1.6)))
    rim = canvas.filled(grown, grown.marker) - canvas.filled(some, 0.85 * some.marker)
    return ihc_layers(canvas, cv2.GaussianBlur(np.clip(rim, 0, None), (0, 0), 0.3 * canvas.um))


def _fibers(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Actin, vimentin, collagen IV: fibers of the stroma, walls of vessels."""
    _with_haze(canvas, rng)
    bundles, fibers = canvas.texture(Texture.BUNDLES), canvas.texture(Texture.FIBERS)
    outside = cv2.GaussianBlur((~canvas.territory.inside).astype(np.float32), (0, 0), canvas.um)
    amount = float(rng.uniform(0.4, 1.1)) * np.clip(0.4 + 0.6 * bundles + 0.5 * fibers, 0, 3)
    return ihc_layers(canvas, amount * outside)


def _special(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Nuclei, cytoplasm, and one dye of fibers, mucin and borders."""
    f, cell = canvas.fields, canvas.territory
    chromatin, _ = canvas.nuclei()
    fibers, bundles = canvas.texture(Texture.FIBERS), canvas.texture(Texture.BUNDLES)
    inside = cv2.GaussianBlur(cell.inside.astype(np.float32), (0, 0), 0.8 * canvas.um)
    stroma = np.clip(0.5 + 0.25 * fibers + 0.3 * bundles, 0, 3) * (1 - inside)
    grain = np.clip(1 + 0.2 * canvas.texture(Texture.GRAIN), 0, 2)
    body = inside * grain * float(rng.uniform(0.1, 0.5))
    third = float(rng.uniform(0.3, 0.9)) * stroma + float(rng.uniform(0, 0.8)) * f["mucin"]
    third = third + float(rng.uniform(0, 0.4)) * np.clip(fibers - 0.8, 0, 2) * (1 - inside)
    open_ = f["tissue"] * (1 - 0.95 * f["lumen"]) * (1 - 0.9 * (f["fat"] > 0.5))
    nuclei = float(rng.uniform(0.3, 0.9)) * chromatin
    layers = np.dstack([nuclei * f["tissue"], body * open_, third * open_])
    return weathered(canvas, np.maximum(layers, 0).astype(np.float32))


def _pas(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Periodic acid-Schiff: magenta mucin, membranes and glycogen, pale blue nuclei."""
    layers = _special(canvas, rng)
    magenta = layers[..., 2] * rng.uniform(0.3, 1.0) + layers[..., 1] * rng.uniform(0.1, 0.8)
    return np.dstack([layers[..., 0], magenta, 0 * magenta]).astype(np.float32)


def _nothing(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Unstained tissue: it scatters and absorbs a little."""
    gray = he_layers(canvas).sum(axis=2) * float(rng.uniform(0.01, 0.06))
    tint = rng.uniform(0.3, 1.0, 3)
    amounts: Array = (gray[..., None] * tint).astype(np.float32)
    return amounts


def _dyed(name: str) -> Style:
    def style(rng: np.random.Generator) -> StainStyle:
        vectors = np.array(_DYES[name]) + rng.normal(0, 0.05, (3, 3))
        vectors = np.clip(vectors, 0.01, None)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return replace(random_style(rng), vectors=vectors.astype(np.float32))

    return style


def _gray(rng: np.random.Generator) -> StainStyle:
    vectors = np.array([(0.5, 0.58, 0.65), (0.48, 0.58, 0.66), (0.53, 0.58, 0.62)])
    return replace(random_style(rng), vectors=vectors.astype(np.float32))


STAINS: dict[str, DrawnStain] = {
    "he": DrawnStain(kind="he", layers=_he, style=_he_style),
    "her2": DrawnStain(kind="membrane", layers=_her2, style=random_ihc_style),
    "receptor": DrawnStain(kind="nuclear", layers=_nuclear, style=random_ihc_style),
    "keratin": DrawnStain(kind="other-dab", layers=_cytoplasm, style=random_ihc_style),
    "lymphocytes": DrawnStain(kind="other-dab", layers=_lymphocytes, style=random_ihc_style),
    "fibers": DrawnStain(kind="other-dab", layers=_fibers, style=random_ihc_style),
    "pas": DrawnStain(kind="pas", layers=_pas, style=_dyed("pas")),
    "trichrome": DrawnStain(kind="other", layers=_special, style=_dyed("trichrome")),
    "alcian": DrawnStain(kind="other", layers=_special, style=_dyed("alcian")),
    "silver": DrawnStain(kind="other", layers=_special, style=_dyed("silver")),
    "none": DrawnStain(kind="unstained", layers=_nothing, style=_gray),
}
"""Stains by name."""
