"""Brings the H&E slide onto the IHC slide of the same block: any turn, rigid, then affine.

Serial sections lie differently on their slides and are stained differently. What both show is
tissue and nuclei: the red channel's optical density, because haematoxylin absorbs red in both
stains, eosin hardly does, and DAB does less. A coarse search over all angles by cross-correlation
(OpenCV) starts SimpleITK, which optimises mutual information. The error is measured afterwards, on
local structure that the optimiser did not see at that scale.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import SimpleITK as sitk  # noqa: N813  its own convention
from numpy.typing import NDArray

from appliance.analysis.tissue import Tissue
from appliance.errors import AlignmentError
from appliance.geometry import Affine

LONGEST_PX = 1500
"""Wanted longest side of a thumbnail: fine enough for 10 µm, small enough for seconds."""
MPP_RANGE = (1.0, 8.0)
COARSE_PX = 160
"""Longest side of the images of the coarse search."""
ANGLE_STEP = 6.0
"""Of the coarse search, in degrees; the optimiser's basin is wider than that."""
CANDIDATES = 3
"""So many of the best coarse angles are refined."""
SEED = 20
PATCH_UM = 260.0
"""Edge of the patches on which the error is measured."""
SEARCH_UM = 160.0
"""So far around its expected place a patch is looked for: about one tile."""
UNKNOWN_ERROR_UM = 2 * SEARCH_UM
"""Reported where no patch found its counterpart."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """`he_to_ihc` maps slide µm to slide µm. `error_um`: median distance between where patches of
    H&E structure are found on the IHC slide and where the map puts them. `overlap`: share of the
    mapped H&E tissue that lies on IHC tissue (control tissue has no part in it)."""

    he_to_ihc: Affine
    error_um: float
    overlap: float
    method: str
    mirrored: bool = False


def thumbnail_mpp(width_um: float, height_um: float) -> float:
    """Resolution at which a slide of that size is inspected and aligned, µm per px."""
    return min(max(max(width_um, height_um) / LONGEST_PX, MPP_RANGE[0]), MPP_RANGE[1])


def align(
    he: NDArray[np.uint8],
    he_tissue: Tissue,
    ihc: NDArray[np.uint8],
    ihc_tissue: Tissue,
) -> Alignment:
    """Align two thumbnails, uint8 RGB (rows, cols, 3), whose mpp is that of their tissue.

    Raises
    ------
    AlignmentError
        If the two have different mpp, or one has no tissue.
    """
    if abs(he_tissue.mpp - ihc_tissue.mpp) > 1e-6:
        raise AlignmentError("thumbnails of different resolution cannot be aligned")
    if not he_tissue.mask.any() or not ihc_tissue.mask.any():
        raise AlignmentError("a slide without tissue cannot be aligned; look at the slide")
    mpp = he_tissue.mpp
    moving, fixed = _feature(he, he_tissue), _feature(ihc, ihc_tissue)
    starts = _coarse(moving, he_tissue.mask, fixed, ihc_tissue.mask, mpp)
    # SimpleITK's sums over threads differ from run to run, and equal slides must give equal
    # results: one thread for each start instead.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with ThreadPoolExecutor(CANDIDATES) as pool:
        refined_starts = list(pool.map(lambda start: _refine(moving, fixed, mpp, start), starts))
    best: tuple[float, Affine] | None = None
    for refined in refined_starts:
        score = _likeness(moving, fixed, mpp, refined)
        if best is None or score > best[0]:
            best = (score, refined)
    if best is None:
        raise AlignmentError("no position was found in which the slides overlap")
    he_to_ihc = best[1]
    return Alignment(
        he_to_ihc=he_to_ihc,
        error_um=_measured_error(moving, fixed, he_tissue.mask, mpp, he_to_ihc),
        overlap=_overlap(he_tissue.mask, ihc_tissue.mask, mpp, he_to_ihc),
        method="rigid, affine; mutual information of red optical density",
    )


def _feature(image: NDArray[np.uint8], tissue: Tissue) -> Array:
    """Optical density of the red channel within the tissue, 0-1, 0 outside."""
    red = np.maximum(image[..., 0], 1).astype(np.float32) / tissue.white_rgb[0]
    density = np.clip(-np.log10(red), 0, None)
    density[~tissue.mask] = 0
    top = float(np.quantile(density[tissue.mask], 0.99)) or 1.0
    scaled: Array = np.clip(density / top, 0, 1).astype(np.float32)
    return scaled


def _coarse(
    moving: Array,
    moving_mask: NDArray[np.bool_],
    fixed: Array,
    fixed_mask: NDArray[np.bool_],
    mpp: float,
) -> list[Affine]:
    """The most likely turns and shifts, best first."""
    step = max(1.0, max(*moving.shape, *fixed.shape) / COARSE_PX)
    coarse_mpp = mpp * step
    # Mask and structure together: an outline alone fits itself upside down.
    small_moving = _shrink(0.5 * moving_mask + moving, step)
    small_fixed = _shrink(0.5 * fixed_mask + fixed, step)
    side = cv2.getOptimalDFTSize(int(np.hypot(*small_moving.shape)) + max(small_fixed.shape) + 2)
    target = np.zeros((side, side), dtype=np.float32)
    target[: small_fixed.shape[0], : small_fixed.shape[1]] = small_fixed
    target_dft = np.fft.rfft2(target)
    found: list[tuple[float, float, Affine]] = []
    rows, columns = small_moving.shape
    center = (columns / 2, rows / 2)
    canvas = math.ceil(np.hypot(rows, columns))
    for degrees in np.arange(-180, 180, ANGLE_STEP):
        turn = cv2.getRotationMatrix2D(center, -float(degrees), 1.0)
        turn[:, 2] += canvas / 2 - np.array(center)
        turned = cv2.warpAffine(small_moving, turn, (canvas, canvas))
        energy = float(np.sqrt((turned**2).sum() * (small_fixed**2).sum())) or 1.0
        template = np.zeros((side, side), dtype=np.float32)
        template[:canvas, :canvas] = turned
        correlation = np.fft.irfft2(target_dft * np.conj(np.fft.rfft2(template)), (side, side))
        peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
        dy, dx = (int(p) - side if p > side // 2 else int(p) for p in peak)
        # Pixel-center map of the coarse rasters to a µm map.
        linear, shift = turn[:, :2], turn[:, 2] + (dx, dy)
        shift_um = (shift - linear @ np.array([0.5, 0.5]) + 0.5) * coarse_mpp
        affine = Affine(
            (linear[0, 0], linear[0, 1], linear[1, 0], linear[1, 1]),
            (float(shift_um[0]), float(shift_um[1])),
        )
        found.append((float(correlation.max()) / energy, float(degrees), affine))
    found.sort(key=lambda item: -item[0])
    chosen: list[tuple[float, Affine]] = []
    for _, degrees, affine in found:
        apart = (abs((degrees - d + 180) % 360 - 180) for d, _ in chosen)
        if all(a > 2 * ANGLE_STEP for a in apart):
            chosen.append((degrees, affine))
        if len(chosen) == CANDIDATES:
            break
    return [affine for _, affine in chosen]


def _shrink(image: NDArray[np.floating], step: float) -> Array:
    size = (max(1, round(image.shape[1] / step)), max(1, round(image.shape[0] / step)))
    small: Array = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return small


def _refine(moving: Array, fixed: Array, mpp: float, start: Affine) -> Affine:
    """Rigid, then affine, coarse to fine, by mutual information; physical units are µm."""
    fixed_image, moving_image = _image(fixed, mpp), _image(moving, mpp)
    backward = start.inverse()  # SimpleITK maps fixed points to moving ones
    rigid = sitk.Euler2DTransform()
    size = np.array(fixed.shape[::-1]) * mpp / 2
    rigid.SetCenter(size.tolist())
    rigid.SetAngle(math.radians(backward.rotation_degrees))
    moved = backward.apply(size[None])[0]
    rigid.SetTranslation((moved - size).tolist())
    _optimise(fixed_image, moving_image, rigid, (8, 4), step=4.0)
    affine = sitk.AffineTransform(2)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    _optimise(fixed_image, moving_image, affine, (4, 2), step=1.0)
    m = np.array(affine.GetMatrix()).reshape(2, 2)
    center = np.array(affine.GetCenter())
    shift = np.array(affine.GetTranslation()) + center - m @ center
    # A section does not shrink by a tenth: then the optimiser ran away, and rigid is better.
    if abs(np.linalg.det(m) - 1) > 0.1:
        m = np.array(rigid.GetMatrix()).reshape(2, 2)
        shift = np.array(rigid.GetTranslation()) + center - m @ center
    a, b, c, d = (float(v) for v in m.ravel())
    return Affine((a, b, c, d), (float(shift[0]), float(shift[1]))).inverse()


def _optimise(
    fixed: sitk.Image,
    moving: sitk.Image,
    transform: sitk.Transform,
    shrink: tuple[int, ...],
    step: float,
) -> None:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.5] * len(shrink), SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step, minStep=1e-3, numberOfIterations=120, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([0.5 * s for s in shrink])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as err:  # samples all outside: this start was no good
        if "outside" not in str(err) and "sample" not in str(err).lower():
            raise


def _image(array: Array, mpp: float) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((mpp, mpp))
    image.SetOrigin((mpp / 2, mpp / 2))
    return image


def _warp(array: Array, mpp: float, affine: Affine, shape: tuple[int, int]) -> Array:
    """An H&E raster as it lies on the IHC slide."""
    warped: Array = cv2.warpAffine(array, affine.to_raster(mpp, mpp), (shape[1], shape[0]))
    return warped


def _likeness(moving: Array, fixed: Array, mpp: float, affine: Affine) -> float:
    """Correlation coefficient over the union of both tissues, smoothed to 20 µm."""
    sigma = max(0.5, 20 / mpp)
    a = cv2.GaussianBlur(_warp(moving, mpp, affine, fixed.shape), (0, 0), sigma)
    b = cv2.GaussianBlur(fixed, (0, 0), sigma)
    union = (a > 0.02) | (b > 0.02)
    if union.sum() < 100 or not (a > 0.02).any():
        return -1.0
    return float(np.corrcoef(a[union], b[union])[0, 1])


def _overlap(
    moving: NDArray[np.bool_], fixed: NDArray[np.bool_], mpp: float, affine: Affine
) -> float:
    mapped = _warp(moving.astype(np.float32), mpp, affine, fixed.shape) > 0.5
    # Over the mapped tissue's whole area, what falls off the slide included.
    a, b, c, d = affine.matrix
    area = float(moving.sum()) * abs(a * d - b * c)
    return min(1.0, float((mapped & fixed).sum()) / max(area, 1.0))


def _measured_error(
    moving: Array, fixed: Array, moving_mask: NDArray[np.bool_], mpp: float, affine: Affine
) -> float:
    """Median offset (µm) of patches that are found again with certainty, see `Alignment`."""
    warped = _warp(moving, mpp, affine, fixed.shape)
    mask = _warp(moving_mask.astype(np.float32), mpp, affine, fixed.shape) > 0.5
    sigma = max(0.6, 6 / mpp)
    # Band-pass: what is finer than a gland and coarser than noise.
    a, b = (
        cv2.GaussianBlur(x, (0, 0), sigma) - cv2.GaussianBlur(x, (0, 0), 8 * sigma)
        for x in (warped, fixed)
    )
    patch = max(24, round(PATCH_UM / mpp))
    reach = max(8, round(SEARCH_UM / mpp))
    patch = min(patch, min(fixed.shape) // 3)
    reach = min(reach, (min(fixed.shape) - patch) // 2)
    if patch < 12 or reach < 2:
        return UNKNOWN_ERROR_UM
    offsets = []
    for y in range(0, fixed.shape[0] - patch + 1, patch):
        for x in range(0, fixed.shape[1] - patch + 1, patch):
            if mask[y : y + patch, x : x + patch].mean() < 0.6:
                continue
            offset = _find(a[y : y + patch, x : x + patch], b, x, y, reach)
            if offset is not None:
                offsets.append(offset * mpp)
    return float(np.median(offsets)) if len(offsets) >= 3 else UNKNOWN_ERROR_UM


def _find(template: Array, image: Array, x: int, y: int, reach: int) -> float | None:
    """Offset in px of a template near (x, y) of an image; None where nothing stands out."""
    y0, x0 = max(0, y - reach), max(0, x - reach)
    window = image[y0 : y + template.shape[0] + reach, x0 : x + template.shape[1] + reach]
    likeness = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
    _, top, _, at = cv2.minMaxLoc(likeness)
    if top < 0.25:
        return None
    return float(np.hypot(at[0] + x0 - x, at[1] + y0 - y))
