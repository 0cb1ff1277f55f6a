"""Fast overviews of whole IHC slides, for cohorts of hundreds: stain amounts by area, no cells.

`models.synthesis.overview` places each cell, which takes seconds for a section. Here a px gets the
mean stain of the cells that it covers, from the same numbers per cell (`models.synthesis.cells`).
DAB lies on membranes or nuclei and not evenly: the light of a px is that of its stained and its
unstained part, so that strong stain looks paler from afar than its amount.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.artefacts import bubble, fold, pen
from models.synthesis.cells import COMPLETENESS, MEMBRANE
from models.synthesis.cohort import as_scanned
from models.synthesis.fields import FIELD_UM, Array, smooth_noise, soft
from models.synthesis.plan import Look, random_look
from models.synthesis.slide_cohort import SlideDraw
from models.synthesis.stain import StainStyle, random_ihc_style, transmit

Stain = Literal["HER2", "ER", "PR"]
HER2: Stain = "HER2"
OVERVIEW_PX = 1500
"""Longer side of an overview, as `appliance.slides.overview` aims at."""
_COARSE = 2
"""Px of an overview, in both directions, for one px of the raster on which stain is drawn: four
times as fast, and no structure here is as fine as an overview's px."""
_WIDTH_UM = (3_000.0, 20_000.0)
"""Narrowest and widest slide, even on a logarithmic scale: from a biopsy to a whole section."""
_ASPECT = 0.8
"""Height of a slide's picture by its width."""
_ARTEFACTS = {"pen": pen, "fold": fold, "bubble": bubble}
_DAB_MEAN = 0.55
"""Mean of the optical density of DAB over R, G, B: to convert light to an amount."""
_TUMOR_TO_OUTLINE = 7.5 * 1.2
"""Length of a membrane by its cell's nuclear radius, times the width in µm that its DAB fills
(`models.synthesis.overview`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnOverview:
    """Overview uint8 RGB (rows, columns, 3) at `mpp` µm per px, and the truth of its px:
    `tissue` (sections and control tissue), `tumor` of the sections; bool (rows, columns).

    `cells` float16 (rows / 2, columns / 2, 4): share (0-1) of a HER2 slide's px that is tumor of 0,
    1+, 2+, 3+; None of other stains.
    """

    pixels: NDArray[np.uint8]
    mpp: float
    tissue: NDArray[np.bool_]
    tumor: NDArray[np.bool_]
    cells: NDArray[np.float16] | None = None


def draw_slide(draw: SlideDraw, stain: Stain = "HER2", *, px: int = OVERVIEW_PX) -> DrawnOverview:
    """Draw a patient's slide; `px` is the longer side. Equal draws give equal pictures."""
    block = np.random.default_rng([draw.seed, 0xB10C])  # equal for the stains of a patient
    rng = np.random.default_rng([draw.seed, 0x57A1, ("HER2", "ER", "PR").index(stain)])
    look = random_look(block)
    width_um = _width_um(block)
    mpp = width_um / px * _COARSE
    shape = (round(px * _ASPECT / _COARSE), px // _COARSE)
    section, tumor = _section(block, shape, mpp, draw.tumor)
    style = as_scanned(_run_style(draw.run, rng), draw.scanner)
    haze = np.random.default_rng([draw.run, 0x4A2E]).uniform(0.0, 0.03) * rng.uniform(0.5, 1.5)
    amounts = _background(rng, shape, mpp, look, section, tumor, haze)
    nucleus = np.pi * look.nucleus_um**2 / _cell_um2(look)
    cells: NDArray[np.float16] | None = None
    if stain == "HER2":
        grades = _grade_shares(rng, shape, mpp, tumor, draw)
        dab, covered = _membranes(look, tumor, grades)
        cells = np.stack([tumor * share for share in grades], axis=2).astype(np.float16)
    else:
        percent = draw.er_percent if stain == "ER" else draw.pr_percent
        dab, covered = _nuclei(rng, shape, mpp, nucleus, tumor, draw, percent or 0.0)
    amounts[..., 0] += 0.62 * look.chromatin * nucleus * tumor
    amounts[..., 2] += _seen(dab, covered)
    tissue = section > 0.5
    if "control" in draw.artefacts:
        tissue |= _add_control(rng, amounts, mpp, tissue)
    size = (shape[1] * _COARSE, shape[0] * _COARSE)
    fine = cv2.resize(np.maximum(amounts, 0), size, interpolation=cv2.INTER_LINEAR)
    pixels = transmit(fine, replace(style, blur_px=0.6, sharpen=0.0), rng)
    for name, add in _ARTEFACTS.items():
        if name in draw.artefacts:
            pixels = add(pixels, style.white, rng)
    return DrawnOverview(
        pixels=pixels,
        mpp=mpp / _COARSE,
        tissue=_enlarged(tissue, size),
        tumor=_enlarged(tumor > 0.5, size),
        cells=cells,
    )


def slide_width_um(draw: SlideDraw) -> float:
    """Return the width of a patient's slides, µm."""
    block = np.random.default_rng([draw.seed, 0xB10C])
    random_look(block)
    return _width_um(block)


def _width_um(block: np.random.Generator) -> float:
    return float(np.exp(block.uniform(*np.log(_WIDTH_UM))))


def _enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    large: NDArray[np.bool_] = cv2.resize(
        mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST
    ).astype(bool)
    return large


def _run_style(run: int, rng: np.random.Generator) -> StainStyle:
    """Stain of a run, and what one slide of it differs by."""
    style = random_ihc_style(np.random.default_rng([run, 0x2077]), spread=0.6)
    strength = np.array(style.strength) * np.exp(rng.normal(0, 0.05, 3))
    return replace(style, strength=tuple(strength.tolist()))


def _noise(rng: np.random.Generator, shape: tuple[int, int], mpp: float, scale_um: float) -> Array:
    """`smooth_noise` on a raster of `mpp` instead of `FIELD_UM`."""
    return smooth_noise(rng, shape, scale_um * FIELD_UM / mpp)


def _section(
    rng: np.random.Generator, shape: tuple[int, int], mpp: float, share: float
) -> tuple[Array, Array]:
    """Tissue and the tumor in it, 0-1, of one to three pieces."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    count = int(rng.choice(3, p=(0.6, 0.25, 0.15))) + 1
    width_um = shape[1] * mpp
    edge = np.full(shape, -9.0, dtype=np.float32)
    for number in range(count):
        center = np.array([(number + 0.5) / count, 0.5]) + rng.uniform(-0.03, 0.03, 2)
        radius = np.array([0.36 / count**0.8, 0.36]) * rng.uniform(0.75, 1.05, 2)
        turn = rng.uniform(-0.4, 0.4)
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        dx, dy = x / shape[1] - center[0], (y / shape[0] - center[1])
        along, across = c * dx + s * dy, c * dy - s * dx
        edge = np.maximum(edge, 1 - np.hypot(along / radius[0], across / radius[1]))
    edge += 0.13 * _noise(rng, shape, mpp, 0.1 * width_um) + 0.03 * _noise(rng, shape, mpp, 150)
    section = np.clip(edge / 0.02 + 0.5, 0, 1).astype(np.float32)
    zone = _noise(rng, shape, mpp, float(rng.uniform(250, 900)))
    nests = _noise(rng, shape, mpp, 45)
    tumor = soft((zone + 0.5 * nests).astype(np.float32), share, section > 0.5, 0.1) * section
    return section, tumor.astype(np.float32)


def _background(
    rng: np.random.Generator,
    shape: tuple[int, int],
    mpp: float,
    look: Look,
    section: Array,
    tumor: Array,
    haze: float,
) -> NDArray[np.float32]:
    """Amounts (rows, columns, 3) of hematoxylin, eosin and DAB of everything but tumor cells."""
    uneven = _noise(rng, shape, mpp, 60)
    fat = soft(
        _noise(rng, shape, mpp, 200) - 4 * tumor, float(rng.uniform(0, 0.2)), section > 0.5, 0.1
    )
    lymph = soft(
        _noise(rng, shape, mpp, 110) - tumor, float(rng.uniform(0, 0.1)), section > 0.5, 0.3
    )
    left = section * (1 - 0.9 * fat)
    stroma = (1 - tumor) * left
    base = look.counterstain * (0.75 + 0.1 * uneven) + 0.026 + 0.35 * lymph
    hematoxylin = base * stroma + (0.25 * look.cyto_basophil + 0.3 * look.counterstain) * tumor
    stray = look.stroma_dab * np.clip(uneven, 0, 2) * stroma
    rim = look.edge_dab * np.clip(1 - 2.5 * np.abs(section - 0.6), 0, 1)
    return np.stack([hematoxylin, 0.012 * left, haze * left + stray + rim], axis=2).astype(
        np.float32
    )


def _cell_um2(look: Look) -> float:
    """Area of a tumor cell, on the hexagonal grid of `models.synthesis.cells`."""
    return 0.866 * look.spacing_um**2


def _membranes(look: Look, tumor: Array, grades: list[Array]) -> tuple[Array, Array]:
    """Mean DAB of the membranes in each px, and the share of the px that they cover.

    `grades` are the shares of the cells of each grade in each px.
    """
    amount = MEMBRANE.mean(axis=1) * COMPLETENESS.mean(axis=1)
    by_grade = amount * _TUMOR_TO_OUTLINE * look.nucleus_um / _cell_um2(look)
    width = COMPLETENESS.mean(axis=1) * (MEMBRANE.mean(axis=1) > 0)
    covered = width * _TUMOR_TO_OUTLINE * look.nucleus_um / _cell_um2(look)
    dab, cover = np.zeros_like(tumor), np.zeros_like(tumor)
    for grade, share in enumerate(grades):
        dab += (by_grade[grade] + look.blush * 0.3 * amount[grade]) * share
        cover += covered[grade] * share
    return dab * tumor, np.clip(cover * tumor, 0.02, 1)


def _grade_shares(
    rng: np.random.Generator, shape: tuple[int, int], mpp: float, tumor: Array, draw: SlideDraw
) -> list[Array]:
    """Share of the cells of each grade in each px: clones, and scatter between cells.

    Over the tumor the shares are those of the draw's mix (`models.synthesis.cells`).
    """
    clones = _noise(rng, shape, mpp, draw.patch_um)
    value = clones + 0.35 * _noise(rng, shape, mpp, 40)
    inside = tumor > 0.5
    spread = 0.3
    shares = [np.ones(shape, dtype=np.float32)]
    for limit in np.cumsum(draw.mix)[:3]:
        cut = float(np.quantile(value[inside], min(limit, 1.0))) if inside.any() else 0.0
        # Cells of a px differ: a soft step stands for the mean over them.
        above = 1 / (1 + np.exp(np.clip((cut - value) / spread * 4, -30, 30)))
        found = float(above[inside].mean()) if inside.any() else 1.0
        wanted = 1 - float(limit)
        shares.append((above * min(1.0, wanted / max(found, 1e-6))).astype(np.float32))
    return [np.clip(a - b, 0, 1) for a, b in zip(shares, [*shares[1:], 0 * shares[0]], strict=True)]


def _nuclei(
    rng: np.random.Generator,
    shape: tuple[int, int],
    mpp: float,
    nucleus: float,
    tumor: Array,
    draw: SlideDraw,
    percent: float,
) -> tuple[Array, Array]:
    """The same of stained nuclei (ER, PR), which take up the share `nucleus` of the tumor."""
    clones = _noise(rng, shape, mpp, draw.patch_um)
    positive = percent / 100
    local = np.clip(positive * (1 + 0.4 * clones), 0, 1)
    strength = float(rng.uniform(0.5, 1.1))
    covered = nucleus * local * tumor
    return strength * covered, np.clip(covered, 0.02, 1)


def _seen(dab: Array, covered: Array) -> Array:
    """Amount of DAB that a px seems to have, when `dab` lies on the share `covered` of it."""
    light = 1 - covered + covered * np.power(10.0, -_DAB_MEAN * dab / covered)
    seen: Array = -np.log10(light) / _DAB_MEAN
    return seen


def _add_control(
    rng: np.random.Generator, amounts: NDArray[np.float32], mpp: float, tissue: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Add cores of 3+, 0 and 3+ along one side, where there is room; return their px."""
    rows, columns = tissue.shape
    radius = round(float(rng.uniform(300, 700)) / mpp)
    x = radius + 10 if rng.random() < 0.5 else columns - radius - 10
    y, across = np.mgrid[0:rows, 0:columns]
    added = np.zeros(tissue.shape, dtype=bool)
    for height, strong in zip(np.linspace(0.2, 0.8, 3) * rows, (True, False, True), strict=True):
        core = np.hypot(across - x, y - height) <= radius
        if (tissue & core).any():
            continue
        grain = cv2.GaussianBlur(rng.random(tissue.shape, dtype=np.float32) - 0.5, (0, 0), 1.5)
        amounts[..., 0] += core * (0.12 + 0.3 * grain)
        amounts[..., 2] += core * np.clip(0.02 + strong * (0.4 + 0.6 * grain), 0, 2)
        added |= core
    return added
