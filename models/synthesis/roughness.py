"""Irregularity of real sections: bent borders, uneven stain, thick places, smeared membranes.

A clean drawing has even lines between even areas, and networks learn to expect them. All fields
here come from the textures of the world, so that neighboring regions fit. Amplitudes are drawn per
world and grow with `Look.rough`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.canvas import Canvas
from models.synthesis.cells import Kind
from models.synthesis.fields import Array
from models.synthesis.textures import Texture

MOST_BEND_UM = 6.0
"""Largest displacement; what lies that far outside must be drawn too, within `render.MARGIN_PX`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amplitudes:
    """Amplitudes of a world: lengths in µm, the others as shares or as logarithms of a factor."""

    fine_um: float
    coarse_um: float
    mottle: float
    patches: float
    defocus_um: float
    uneven: float
    smear_um: float
    cytoplasm: float
    stroma: float
    chromatin: float
    haze: float


def random_roughness(seed: int, share: float) -> float:
    """Draw `TissuePlan.rough` of a seed: 0 but for the `share` (0-1) of all seeds."""
    rng = np.random.default_rng([seed, 0x40C6])
    return float(rng.uniform(0.3, 1.0)) if rng.random() < share else 0.0


def random_moderation(seed: int, rough: float) -> float:
    """Draw `TissuePlan.moderate` of a seed: 0 for clean tissue and for a quarter of rough one."""
    rng = np.random.default_rng([seed, 0x40D8])
    return float(rng.uniform(0.3, 1.0)) if rough > 0 and rng.random() < 0.75 else 0.0


def amplitudes(canvas: Canvas) -> Amplitudes | None:
    """Return the amplitudes of the canvas's world; None for a clean drawing."""
    rough = canvas.world.look.rough
    if rough <= 0:
        return None
    rng = np.random.default_rng([canvas.world.seed, 0x40C6])

    def upto(high: float, low: float = 0.0) -> float:
        return rough * float(rng.uniform(low, high))

    return Amplitudes(
        fine_um=upto(0.9, 0.2),
        coarse_um=upto(3.0, 0.5),
        mottle=upto(0.5, 0.1),
        patches=upto(0.35),
        defocus_um=upto(1.6, 0.3),
        uneven=upto(1.0, 0.3),
        smear_um=upto(2.2, 0.4),
        cytoplasm=upto(0.8) * float(rng.random() < 0.7),
        stroma=upto(5.0),
        chromatin=upto(0.7),
        haze=upto(0.12) * float(rng.random() < 0.6),
    )


def bent(canvas: Canvas, layers: NDArray[Any], *, labels: bool = False) -> NDArray[Any]:
    """Displace borders by some µm: no cell keeps straight sides. `labels` are not interpolated."""
    given = amplitudes(canvas)
    if given is None:
        return layers
    rows, columns = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]].astype(np.float32)
    across = given.fine_um * canvas.texture(Texture.GAPS) + given.coarse_um * canvas.texture(
        Texture.CLOUDS, 0.3
    )
    down = given.fine_um * canvas.texture(Texture.SPECKS, 1.8) + given.coarse_um * canvas.texture(
        Texture.CLOUDS, 0.22
    )
    limit = MOST_BEND_UM * canvas.um
    x = columns + np.clip(across * canvas.um, -limit, limit).astype(np.float32)
    y = rows + np.clip(down * canvas.um, -limit, limit).astype(np.float32)
    how = cv2.INTER_NEAREST if labels else cv2.INTER_LINEAR
    moved: NDArray[Any] = cv2.remap(layers, x, y, how, borderMode=cv2.BORDER_REFLECT)
    return moved


def weathered(canvas: Canvas, layers: Array) -> Array:
    """Make the amounts of all dyes uneven, and some places thick, out of focus; bend borders."""
    given = amplitudes(canvas)
    if given is None:
        return layers
    grain = canvas.texture(Texture.GRAIN, 0.9)
    specks = canvas.texture(Texture.SPECKS, 1.3)
    patches = canvas.texture(Texture.CLOUDS, 0.25)
    uneven = np.exp(given.mottle * 0.6 * specks + given.patches * patches)
    layers = layers * uneven[..., None]
    soft = cv2.GaussianBlur(layers, (0, 0), max(0.3, given.defocus_um * canvas.um))
    where = np.clip(0.5 + canvas.texture(Texture.CLOUDS, 0.6), 0, 1)[..., None]
    layers = bent(canvas, (layers + (soft - layers) * where).astype(np.float32))
    fine: Array = (layers * np.exp(0.7 * given.mottle * grain)[..., None]).astype(np.float32)
    return fine


def rough_membranes(canvas: Canvas, line: Array) -> Array:
    """Make membranes uneven along their length and smear those that the knife cut aslant."""
    given = amplitudes(canvas)
    if given is None:
        return line
    along = canvas.texture(Texture.GAPS, 0.8) + canvas.texture(Texture.CLOUDS, 0.2)
    line = line * np.exp(0.6 * given.uneven * along - 0.36 * given.uneven**2)
    smear = cv2.GaussianBlur(line, (0, 0), max(0.3, given.smear_um * canvas.um))
    where = np.clip(0.35 + 0.6 * canvas.texture(Texture.CLOUDS, 0.35), 0, 1)
    smeared: Array = (line + (smear - line) * where).astype(np.float32)
    return smeared


def brown_cytoplasm(canvas: Canvas) -> Array:
    """DAB in the cells of a grade, in proportion to their membranes, and a haze over the tissue."""
    given = amplitudes(canvas)
    if given is None:
        return np.zeros(canvas.shape, dtype=np.float32)
    cell = canvas.territory
    inside = cv2.GaussianBlur(cell.of(cell.cells.membrane), (0, 0), 0.8 * canvas.um)
    grain = 0.35 * canvas.texture(Texture.GRAIN, 1.2) + 0.35 * canvas.texture(Texture.CLOUDS, 0.15)
    clouds = np.clip(1 + 0.6 * canvas.texture(Texture.CLOUDS, 0.5), 0, 3)
    tumor = cell.of(cell.cells.kind == Kind.TUMOR)
    haze = given.haze * clouds * (0.5 + 0.5 * tumor)
    brown = given.cytoplasm * np.clip(1 + grain, 0.1, 3) * inside + haze
    amount: Array = brown.astype(np.float32)
    return amount


def rough_stroma(canvas: Canvas, base: Array, fibers: Array) -> Array:
    """Stain stroma with hematoxylin in streaks and patches."""
    given = amplitudes(canvas)
    if given is None:
        return base
    bundles = canvas.texture(Texture.BUNDLES, 0.6)
    streaks = 0.8 + 0.5 * fibers + 0.5 * canvas.texture(Texture.FIBERS, 0.5) + 0.5 * bundles
    cracks = np.exp(-((canvas.texture(Texture.FIBERS, 1.6) / 0.15) ** 2)) * np.clip(bundles, 0, 1)
    stained = base * (1 + given.stroma * np.clip(streaks, 0, 4) * 0.5) * (1 - 0.8 * cracks)
    more: Array = stained.astype(np.float32)
    return more


def faded(canvas: Canvas, chromatin: Array) -> Array:
    """Chromatin that is paler and lumpier."""
    given = amplitudes(canvas)
    if given is None:
        return chromatin
    lumps = 0.5 * canvas.texture(Texture.CHROMATIN, 0.8) + 0.5 * canvas.texture(Texture.SPECKS)
    left: Array = chromatin * (1 - given.chromatin) * np.exp(0.6 * given.chromatin * lumps)
    return left
