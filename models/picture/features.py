"""Features of tiles and of slides from which the kind of a picture is told.

Three groups, each of a tile of `TILE_PX` px at `TILE_MPP`:

- *color*: histogram of the hue of the optical density (van der Laak's hue-saturation-density plane,
  Cytometry 39:275, 2000: it does not depend on the amount of stain), and the chroma of pale, medium
  and dark px. Hematoxylin lies near 67°, eosin near 132°, DAB near 200°.
- *density*: optical density of the tissue, and of the brown in it.
- *structure* of the brown: its size (openings), lines against blobs (eigenvalues of the Hessian),
  its place relative to nuclei, and the areas of its pieces.

A slide's features are means over its tiles: color and density by tissue, structure by brown, so
that a small stained part counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN, unmix

TILE_PX = 256
TILE_MPP = 0.5586
"""Resolution of the tiles in µm per px: half that of the networks' tiles."""
TISSUE_DENSITY = 0.03
"""Mean optical density above which a px is tissue."""
MIN_TISSUE = 0.05
"""Least share of tissue of a tile that is measured."""
HUE_BINS = 36
RARE_HUE = 0.02
"""Share of the density below which a hue hardly counts."""
MOST_TINT = 16
"""Difference between the channels of a slide's glass above which it is not glass but tissue."""
_SQRT_3 = float(np.sqrt(3))
_VECTORS = np.array([HEMATOXYLIN, EOSIN, DAB], dtype=np.float32)
_TINY = 1e-6
_AREAS_UM2 = (8.0, 25.0, 120.0, 1000.0)
Float = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileMeasure:
    """Features of a tile. `hue` (HUE_BINS,) sums to the density of its tissue, `tissue` (px) and
    `brown` (DAB amount) are weights, `plain` and `structure` are the other features."""

    hue: Values
    plain: Values
    structure: Values
    tissue: float
    brown: float


def measure_tile(tile: NDArray[np.uint8], glass: tuple[int, int, int]) -> TileMeasure | None:
    """Measure a tile, uint8 RGB (T, T, 3) at `TILE_MPP`; `glass` is the slide's white.

    None where the tile holds hardly any tissue.
    """
    ratio = np.arange(256, dtype=np.float32)[:, None] / np.array(glass, dtype=np.float32)
    table = np.clip(-np.log10(np.maximum(ratio, 1 / 255)), 0, None).reshape(1, 256, 3)
    density = cv2.GaussianBlur(cv2.LUT(tile, table.astype(np.float32)), (0, 0), 0.8)
    coarse = _halved(density)
    mean = coarse.mean(axis=2)
    tissue = cv2.GaussianBlur(mean, (0, 0), 1.0) > TISSUE_DENSITY
    if tissue.mean() < MIN_TISSUE:
        return None
    layers = _Layers(
        brown=np.maximum(unmix(density, _VECTORS)[..., 2], 0),
        coarse_brown=np.maximum(unmix(coarse, _VECTORS)[..., 2], 0),
        coarse_blue=np.maximum(unmix(coarse, _VECTORS)[..., 0], 0),
        coarse_mean=mean,
        tissue=tissue,
    )
    sharp = density[::2, ::2]
    hue, chroma = _color(sharp[tissue], sharp.mean(axis=2)[tissue])
    inside = layers.brown[::2, ::2][tissue]
    p50, p90, p99 = np.percentile(inside, (50, 90, 99))
    stained = (np.log(inside.mean() + 0.005), np.log(p99 + 0.01), p50 / (p99 + 0.02),
               p90 / (p99 + 0.02))  # fmt: skip
    return TileMeasure(
        hue=hue,
        plain=np.array([*chroma, *_density(mean[tissue]), *stained], dtype=np.float64),
        structure=_structure(layers),
        tissue=float(tissue.sum()),
        brown=float(inside.sum()) + _TINY,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """Amounts of a tile, float32 (T, T); `coarse_…` and the mask `tissue` at half of the size."""

    brown: Float
    coarse_brown: Float
    coarse_blue: Float
    coarse_mean: Float
    tissue: NDArray[np.bool_]


def slide_features(tiles: Sequence[TileMeasure]) -> Values:
    """Combine the tiles of a slide; at least one."""
    hue = np.sum([t.hue for t in tiles], axis=0)
    share = hue / max(float(hue.sum()), _TINY)
    at = np.interp((0.05, 0.25, 0.5, 0.75, 0.95), np.cumsum(share), np.linspace(0, 1, HUE_BINS))
    # Real slides have a little of every hue, drawn ones have not: rare hues must not count.
    coarse = np.sqrt(share.reshape(HUE_BINS // 2, 2).sum(axis=1) + RARE_HUE)
    by_tissue = np.array([t.tissue for t in tiles])
    by_brown = np.array([t.brown for t in tiles])
    plain = np.average([t.plain for t in tiles], axis=0, weights=by_tissue)
    structure = np.average([t.structure for t in tiles], axis=0, weights=by_brown)
    each = by_brown / by_tissue
    spread = np.log((each.max() + 0.005) / (by_brown.sum() / by_tissue.sum() + 0.005))
    return np.concatenate([coarse, at, plain, structure, [spread]]).astype(np.float64)


def _halved(layer: Float) -> Float:
    rows, columns = layer.shape[:2]
    half: Float = cv2.resize(layer, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    return half


def _color(density: Float, mean: Float) -> tuple[Values, list[float]]:
    """Histogram of hue by density, and chroma (x, y) of pale, medium and dark px."""
    total = np.maximum(mean, 1e-3)
    x = density[:, 0] / total - 1
    y = (density[:, 1] - density[:, 2]) / (_SQRT_3 * total)
    # The cut of the circle lies at 300°, between brown and blue, where no stain has its hue.
    turn = (cv2.phase(x, y, angleInDegrees=True).ravel() + 60) % 360
    strength = mean * np.minimum(np.hypot(x, y) / 0.3, 1)
    at = np.minimum((turn * (HUE_BINS / 360)).astype(int), HUE_BINS - 1)
    hue = np.bincount(at, weights=strength, minlength=HUE_BINS)
    low, high = np.percentile(mean, (50, 85))
    chroma = []
    for part in (mean <= low, (mean > low) & (mean <= high), mean > high):
        weight = mean[part]
        whole = float(weight.sum()) + _TINY
        chroma += [float((axis[part] * weight).sum()) / whole for axis in (x, y)]
    return hue.astype(np.float64), chroma


def _density(mean: Float) -> list[float]:
    p10, p50, p90, p99 = np.percentile(mean, (10, 50, 90, 99))
    return [float(np.log(p + 0.02)) for p in (p10, p50, p90, p99, mean.mean(), mean.std())]


def _structure(layers: _Layers) -> Values:
    brown, blue, tissue = layers.coarse_brown, layers.coarse_blue, layers.tissue
    found = [_opened(layers.brown, 3), *(_opened(brown, px) for px in (3, 5, 7))]
    found += _shapes(layers.brown, 1.5)
    for layer in (brown, layers.coarse_mean):
        found += [value for sigma in (1.5, 3.0) for value in _shapes(layer, sigma)]
    for nuclei in (_nuclei(layers.coarse_mean), _nuclei(blue)):
        found += _places(brown, nuclei, tissue)
    soft = [cv2.GaussianBlur(layer, (0, 0), 1.0)[tissue] for layer in (brown, blue)]
    found += [_correlation(brown[tissue], blue[tissue]), _correlation(*soft)]
    return np.array([*found, *_pieces(brown, tissue)], dtype=np.float64)


def _opened(brown: Float, px: int) -> float:
    """Share of the brown that survives an opening by a disk: thin lines vanish first."""
    levels = np.clip(brown * 128, 0, 255).astype(np.uint8)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (px, px))
    return float(cv2.morphologyEx(levels, cv2.MORPH_OPEN, disk).sum()) / (float(levels.sum()) + 64)


def _shapes(layer: Float, sigma: float) -> tuple[float, float]:
    """Blobs against lines, and holes against both, at a scale; weighted by the layer."""
    soft = cv2.GaussianBlur(layer, (0, 0), sigma)
    xx, yy = cv2.Sobel(soft, cv2.CV_32F, 2, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 2)
    xy = cv2.Sobel(soft, cv2.CV_32F, 1, 1)
    middle, half = (xx + yy) / 2, cv2.magnitude((xx - yy) / 2, xy)
    low, high = middle - half, middle + half
    across = float((soft * np.maximum(-low, 0)).sum()) + _TINY
    line = float(np.maximum(-low, 0).sum()) + _TINY
    return (
        float((soft * np.maximum(-high, 0)).sum()) / across,
        float(np.maximum(low, 0).sum()) / line,
    )


def _nuclei(layer: Float) -> NDArray[np.uint8]:
    """Mask (0, 1) of what is darker than its surroundings over the size of a nucleus."""
    above = cv2.GaussianBlur(layer, (0, 0), 1.0) - cv2.GaussianBlur(layer, (0, 0), 4.0)
    limit = max(0.4 * float(np.percentile(above, 98)), 0.01)
    mask: NDArray[np.uint8] = (above > limit).astype(np.uint8)
    return mask


def _places(brown: Float, nuclei: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> list[float]:
    """Brown within nuclei, close to them and farther off, relative to that of the tissue."""
    near = cv2.dilate(nuclei, np.ones((3, 3), np.uint8))
    around = cv2.dilate(near, np.ones((5, 5), np.uint8))
    usual = float(brown[tissue].mean()) + 0.005
    rings = (nuclei > 0, (near > 0) & (nuclei == 0), (around > 0) & (near == 0))
    found = []
    for ring in rings:
        here = brown[ring & tissue]
        found.append(float(np.log((here.mean() if len(here) else usual) / usual + 0.05)))
    return found


def _correlation(a: Float, b: Float) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / (spread + 1e-4)


def _pieces(brown: Float, tissue: NDArray[np.bool_]) -> list[float]:
    """Share of brown tissue; shares of it in pieces by area, and in compact ones."""
    limit = max(0.45 * float(np.percentile(brown[tissue], 99.5)), 0.06)
    mask = ((brown > limit) & tissue).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    px_um2 = (2 * TILE_MPP) ** 2
    area = stats[1:, cv2.CC_STAT_AREA] * px_um2
    box = stats[1:, cv2.CC_STAT_WIDTH] * stats[1:, cv2.CC_STAT_HEIGHT] * px_um2
    sides = np.sort(stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]], axis=1)
    compact = (area > 0.6 * box) & (sides[:, 1] < 2.2 * sides[:, 0]) & (area > 8) & (area < 150)
    whole = float(area.sum()) + 20.0
    by_size = np.histogram(area, (0, *_AREAS_UM2, np.inf), weights=area)[0] / whole
    share = float(mask.sum()) / float(tissue.sum())
    return [float(np.log(share + 0.003)), *by_size.tolist(), float(area[compact].sum()) / whole]
