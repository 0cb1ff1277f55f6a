"""Nuclei of an IHC tile, and the DAB within each: for stains of nuclei, such as ER and PR.

Color deconvolution (Ruifrok & Johnston 2001) gives hematoxylin and DAB. A px belongs to a nucleus
where hematoxylin stands out from the surroundings, or where DAB does; nuclei are split by watershed
(`appliance.readers.nucleus_shapes`). The stain of a nucleus is the DAB in it less the DAB in the
ring around it, so that haze and brown cytoplasm do not count, and a brown membrane counts against
it. Pale brown that holds no more hematoxylin than its surroundings is no nucleus: it is stroma or
cytoplasm. A nucleus is taken for a tumor cell's by its size and shape, since lymphocytes are
smaller and fibroblasts narrower, unless most nuclei around it are of a lymphocyte's size:
lymphocytes that touch look like one larger nucleus. Frame: tile px / `STEP`, origin at the tile's
upper left corner. Brown that looks like pigment is counted as stain, and told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.readers.nucleus_shapes import (
    COARSE_MPP,
    GLASS_OD,
    MIN_CONTRAST_OD,
    Array,
    Labels,
    coarse_density,
    disc,
    filled,
    flattened,
    medians,
    residual,
    smooth,
    split_nuclei,
    stain_amounts,
)

TISSUE_OD = 0.06
"""Mean optical density above which a place of 2 µm is tissue."""
BROWN_OD = 0.18
"""Least excess of DAB over the palest DAB within `PALE_UM` at which a px is brown. A nucleus
reaches to half of its darkest px: else blur would make brown ones larger than blue ones."""
PALE_UM = 5.0
WIDE_UM = 2.8
"""Radius of the disc that brown in nuclei holds, and brown membranes do not."""
NEAR_OTSU = 0.85
"""Limit of a blue nucleus between the mean of pale px (0) and Otsu's threshold (1): pale nuclei
count as well as dark ones."""
SADDLE_UM = 0.2
"""Least depth of the saddle between two nuclei that touch."""
RING_UM = 1.7
"""Width of the ring around a nucleus that tells its surroundings."""
SMALLEST_UM2, NARROWEST_UM, LONGEST = 36.0, 2.5, 2.4
"""Least area, least half axis and largest ratio of the axes of a tumor nucleus. Lymphocytes and
normal ducts have about 28 µm², fibroblasts a ratio of 3."""
LEAST_ELLIPTIC = 0.85
"""Least ratio of a nucleus's area to that of the ellipse of its moments: ragged pieces are fibers
and gaps."""
PALE_BROWN_OD = 0.6
"""DAB of a nucleus below which its counterstain must be seen."""
LEAST_COUNTERSTAIN_OD = 0.06
"""Least hematoxylin in a pale brown nucleus beyond that around it. Nuclei of drawn ER slides have
0.12 and more, their brown stroma 0.02."""
AMONG_UM, AMONG_LEAST, AMONG_RATIO = 20.0, 4, 1.5
"""A nucleus lies among lymphocytes where within this distance at least so many nuclei are too small
for a tumor's, and so many times as many as it and the others that are not."""
ROUND = 1.6
"""Largest ratio of the axes of a lymphocyte's nucleus."""
UNEVEN_UM, MOST_UNEVEN = 1.0, 0.21
"""Spread of the DAB inside a nucleus about its mean within this distance, as a share of its DAB,
above which it is made of granules. On drawn ER slides up to 15 % of the stained nuclei of a slide
have more, of single coarse or sharpened tiles up to 38 %, and of macrophages with hemosiderin, seen
sharply at 0.25 µm/px, half and more, the larger the more."""
LEAST_BROWN_OD = 0.05
"""DAB that paler brown is compared with: its shares would be noise."""
OTHER_HUE = 0.09
"""Density that neither hematoxylin nor DAB explains, as a share of the DAB, above which brown is
none: melanin and carbon are blacker. What hematoxylin leaves unexplained on the same tile is
taken off."""
LEAST_PLAIN = 5
"""Least number of nuclei without DAB of a tile that tell its hematoxylin."""
LEAST_HEMATOXYLIN_OD = 0.03
"""Hematoxylin below which a stained nucleus has none: hemosiderin is more golden than DAB, and lies
beside the nuclei. A fifth of that of the tile's other nuclei, where these are paler."""
LEAST_DETAIL = -1.7
"""Least detail of a sharp tile (`_detail`). Drawn tiles have -1.0 and more, at 0.5 µm/px -1.2, and
out of focus by a Gaussian of 1 µm or more -1.8 and less, noise or not."""
SMALL_UM2 = 12.0
"""Least area of a lymphocyte's nucleus: a smaller one is cut by the edge of the tile."""
_MIN_PX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TileNuclei:
    """Nuclei of a tile, one row each.

    Attributes
    ----------
    raster
        int32 (T / `STEP`, T / `STEP`): 0 none, k + 1 the nucleus of row k.
    stain_od
        float32 (n,): DAB in the nucleus less the DAB around it, optical density.
    counted
        bool (n,): it has size and shape of a tumor nucleus, and no other tile counts it.
    brown_px, wide_px
        Brown px within `PALE_UM` of counted nuclei, and those of them in pieces that hold a disc of
        `WIDE_UM`. Nuclei are as wide, membranes are not.
    pigment
        bool (n,): its brown, if there is any, looks like pigment: it is made of granules, has
        another hue than DAB, or there is no hematoxylin in it.
    brown_alone
        No blue nucleus stands out from its surroundings: brown ones alone are found.
    blurred
        The tile is out of focus.
    """

    raster: Labels
    stain_od: Array
    counted: NDArray[np.bool_]
    pigment: NDArray[np.bool_]
    brown_px: int
    wide_px: int
    brown_alone: bool
    blurred: bool


def measure_nuclei(pixels: NDArray[np.uint8]) -> TileNuclei:
    """Find and measure the nuclei of an IHC tile, uint8 RGB (T, T, 3), the glass at 255.

    The tile has 0.2793 µm/px. A nucleus that the right or lower edge cuts is left to the next tile,
    so that adjacent tiles count each one once (Gundersen's unbiased frame, J Microsc 1977;111:219).
    The result is deterministic.
    """
    density = coarse_density(pixels)
    blue, dab = stain_amounts(density)
    dab = smooth(dab, 0.4)
    pale = smooth(cv2.erode(smooth(dab, 1.0), disc(PALE_UM)), 4.0)
    tissue = smooth(density.mean(axis=2), 2.0) > TISSUE_OD
    excess = dab - np.maximum(pale, 0)
    brown = tissue & (excess > BROWN_OD)
    dark = brown & (excess > cv2.dilate(excess, disc(RING_UM)) / 2)
    mask = _mask(blue, dark, tissue)
    nuclei = split_nuclei(_opened(dark) if mask is None else mask, SADDLE_UM)
    found = _measured(nuclei, smooth(blue, 0.4), dab, brown)
    return replace(
        found,
        pigment=_looks_like_pigment(nuclei, blue, dab, residual(density)),
        brown_alone=mask is None,
        blurred=_detail(pixels[..., 1]) < LEAST_DETAIL,
    )


def _detail(green: NDArray[np.uint8]) -> float:
    """Logarithm of the variance of the Laplacian at 1.1 µm/px over that at 2.2 µm/px.

    At 1.1 µm/px scanners of 0.25 and of 0.5 µm/px see alike, and noise of the sensor is averaged.
    """
    small = cv2.resize(green, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA)
    smaller = cv2.resize(green, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    fine, coarse = (float(cv2.Laplacian(each, cv2.CV_32F).var()) for each in (small, smaller))
    return float(np.log((fine + 1e-6) / (coarse + 1e-6)))


def _looks_like_pigment(nuclei: Labels, blue: Array, dab: Array, other: Array) -> NDArray[np.bool_]:
    """Return whether the brown of each of n nuclei looks like pigment, bool (n,).

    `other` is the optical density that neither stain explains.
    """
    n = int(nuclei.max()) + 1
    number = nuclei.astype(np.float32)
    # The rim is uneven in any nucleus.
    inner = (cv2.erode(number, disc(1.1)) == number) & (cv2.dilate(number, disc(1.1)) == number)
    inner &= nuclei > 0
    weight = inner.astype(np.float32)
    near = smooth(dab * weight, UNEVEN_UM) / np.maximum(smooth(weight, UNEVEN_UM), 1e-3)
    own, px = nuclei[inner], np.maximum(np.bincount(nuclei[inner], minlength=n), 1)
    square = np.bincount(own, weights=(dab - near)[inner] ** 2, minlength=n) / px
    brown = np.maximum(np.bincount(own, weights=dab[inner], minlength=n) / px, LEAST_BROWN_OD)
    other, blue, dab = (medians(each, nuclei, nuclei > 0, n) for each in (other, blue, dab))
    found: NDArray[np.bool_] = np.sqrt(square) > MOST_UNEVEN * brown
    # The laboratory's own hematoxylin, which is seen where no DAB is, explains its share of both.
    plain = dab < LEAST_BROWN_OD
    plain[0] = False
    usual = float(np.median(blue[plain])) if np.count_nonzero(plain) >= LEAST_PLAIN else 0.0
    if usual > LEAST_HEMATOXYLIN_OD:
        own_other = float(np.median(other[plain])) / usual
        found |= other - own_other * blue > OTHER_HUE * np.maximum(dab, LEAST_BROWN_OD)
        found |= blue < min(LEAST_HEMATOXYLIN_OD, usual / 5)
    return found[1:]


def paint_classes(found: TileNuclei, grade: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label map of a tile: 0 none, 1 to 4 the counted nuclei of grade 0 to 3.

    uint8 of the shape of `TileNuclei.raster`; `grade` (n,).
    """
    values = np.concatenate([[0], np.where(found.counted, grade + 1, 0)]).astype(np.uint8)
    labels: NDArray[np.uint8] = values[found.raster]
    return labels


def _mask(
    hematoxylin: Array, brown: NDArray[np.bool_], tissue: NDArray[np.bool_]
) -> NDArray[np.uint8] | None:
    """Mask of nuclei (0 and 1); None where no blue nucleus stands out from its surroundings."""
    from skimage.filters import threshold_otsu  # slow to load; the daemon does not need it

    # Clipped: values below 0 are brown of another hue than the textbook's.
    blue = smooth(np.maximum(hematoxylin, 0), 0.5)
    stained = tissue & (blue > GLASS_OD)
    # Brown nuclei would move the threshold that tells blue ones from the rest.
    free = tissue & (cv2.dilate(brown.astype(np.uint8), disc(0.6)) == 0)
    if np.count_nonzero(free) < _MIN_PX:
        return None
    flat = flattened(blue, free, 8.0)
    values = flat[free]
    threshold = threshold_otsu(np.clip(values, *np.percentile(values, (0.5, 99.5))))
    dark, pale = values[values > threshold], values[values <= threshold]
    if not dark.size or dark.mean() - pale.mean() < MIN_CONTRAST_OD:
        return None
    level = float(pale.mean())
    limit = level + NEAR_OTSU * (float(threshold) - level)
    mask = (brown | ((flat > limit) & stained)).astype(np.uint8)
    # Rims of vesicular nuclei are closed, then filled.
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc(0.6))
    return _opened(filled(mask, np.where(brown, 1, flat).astype(np.float32), level))


def _opened(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.uint8]:
    opened: NDArray[np.uint8] = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(1.1))
    return opened


def _measured(nuclei: Labels, blue: Array, dab: Array, brown: NDArray[np.bool_]) -> TileNuclei:
    n = int(nuclei.max()) + 1
    # The rim of a nucleus is half its own stain: the ring begins outside of it.
    covered = cv2.dilate((nuclei > 0).astype(np.uint8), disc(0.6)) > 0
    ring = cv2.dilate(nuclei.astype(np.float32), disc(RING_UM)).astype(np.int32)
    free = ~covered & (ring > 0)
    stain = medians(dab, nuclei, nuclei > 0, n) - _around(dab, ring, free, n)
    counterstain = medians(blue, nuclei, nuclei > 0, n) - _around(blue, ring, free, n)
    browned = 2 * np.bincount(nuclei[brown], minlength=n) > np.bincount(nuclei.ravel(), minlength=n)
    shapes = _shapes(nuclei, n)
    counted = shapes.of_tumor()
    counted &= ~(browned & (stain < PALE_BROWN_OD) & (counterstain < LEAST_COUNTERSTAIN_OD))
    counted[0] = False
    counted &= ~_among_lymphocytes(shapes, counted)
    counted[nuclei[-1]] = counted[nuclei[:, -1]] = False
    chosen = counted[nuclei]
    near = cv2.dilate(chosen.astype(np.uint8), disc(PALE_UM)) > 0
    whole = cv2.morphologyEx(brown.astype(np.uint8), cv2.MORPH_CLOSE, disc(0.6))
    wide = brown & (cv2.morphologyEx(whole, cv2.MORPH_OPEN, disc(WIDE_UM)) > 0)
    return TileNuclei(
        raster=nuclei,
        stain_od=stain[1:].astype(np.float32),
        counted=counted[1:],
        pigment=np.zeros(n - 1, dtype=bool),
        brown_px=int(np.count_nonzero(brown & near)),
        wide_px=int(np.count_nonzero(wide & near)),
        brown_alone=False,
        blurred=False,
    )


def _around(layer: Array, ring: Labels, free: NDArray[np.bool_], n: int) -> Array:
    """Median of a layer in the ring around each of `n` nuclei, (n,)."""
    around = medians(layer, ring, free, n)
    # A nucleus within others has no ring: the ring of most nuclei of the tile stands for it.
    usual = float(np.nanmedian(around)) if np.isfinite(around).any() else 0.0
    return np.where(np.isnan(around), np.float32(usual), around)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shapes:
    """Regions of a tile: center (n, 2) in µm, area in µm², and half axes in µm, (n,).

    Region 0 is what lies between the nuclei.
    """

    center: NDArray[np.float64]
    area: NDArray[np.float64]
    longer: NDArray[np.float64]
    shorter: NDArray[np.float64]

    def of_tumor(self) -> NDArray[np.bool_]:
        """Return whether each region has the size and shape of a tumor nucleus, (n,)."""
        shaped: NDArray[np.bool_] = (
            (self.area >= SMALLEST_UM2)
            & (self.shorter >= NARROWEST_UM)
            & (self.longer <= LONGEST * self.shorter)
            & (self.area >= LEAST_ELLIPTIC * np.pi * self.longer * self.shorter)
        )
        return shaped

    def of_lymphocyte(self) -> NDArray[np.bool_]:
        """Return whether each region has the size and shape of a lymphocyte's nucleus, (n,)."""
        small: NDArray[np.bool_] = (
            (self.area > SMALL_UM2)
            & (self.area < SMALLEST_UM2)
            & (self.longer < ROUND * self.shorter)
        )
        return small


def _shapes(nuclei: Labels, n: int) -> _Shapes:
    number = nuclei.ravel()
    px = np.maximum(np.bincount(number, minlength=n), 1)
    y, x = (axis.ravel().astype(np.float64) for axis in np.indices(nuclei.shape))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(number, weights=values, minlength=n) / px

    # A px has a variance of 1/12 of its own.
    xx = mean(x * x) - mean(x) ** 2 + 1 / 12
    yy = mean(y * y) - mean(y) ** 2 + 1 / 12
    xy = mean(x * y) - mean(x) * mean(y)
    half, spread = (xx + yy) / 2, np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    return _Shapes(
        center=COARSE_MPP * np.stack([mean(x), mean(y)], axis=1),
        area=px * COARSE_MPP**2,
        longer=2 * COARSE_MPP * np.sqrt(half + spread),
        shorter=2 * COARSE_MPP * np.sqrt(np.maximum(half - spread, 1e-6)),
    )


def _among_lymphocytes(shapes: _Shapes, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether most nuclei around each of n regions are of a lymphocyte's size, bool (n,)."""
    small = shapes.of_lymphocyte()
    small[0] = False
    apart = np.linalg.norm(shapes.center[:, None] - shapes.center[None], axis=2)
    near = apart < AMONG_UM
    lymphocytes, others = near @ small.astype(np.int64), near @ counted.astype(np.int64)
    among: NDArray[np.bool_] = (lymphocytes >= AMONG_LEAST) & (lymphocytes > AMONG_RATIO * others)
    return among
