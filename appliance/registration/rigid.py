"""Where a piece of H&E tissue lies on the IHC slide, from nothing: any turn, either face up.

A coarse search over all angles by cross-correlation (OpenCV, SciPy) gives starts; SimpleITK
optimises each by mutual information. Frames are slide µm; images are float32, 0-1, 0 on glass.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import SimpleITK as sitk  # noqa: N813  its own convention
from numpy.typing import NDArray
from scipy import fft

from appliance.geometry import Affine

COARSE_PX = 160
"""Longest side of the images of the coarse search."""
ANGLE_STEP = 6.0
"""Of the coarse search, in degrees; the optimiser's basin is wider than that."""
CANDIDATES = 6
"""So many of the best coarse poses are refined."""
ROUGH_PX, ROUGH_SAMPLES = 350, 6_000
"""Longest side of the images in which the optimiser tries each start, and px that mutual
information is estimated from: patches do the rest."""
FINE_PX, FINE_SAMPLES = 1000, 40_000
"""The same for a piece too small for patches."""
SEED = 20
DETAIL_UM = 5.0
"""Width of the finest structure that both stains show alike, whatever the knife took between."""
NUCLEI_UM = 0.8
"""Width of a nucleus's rim and of chromatin, which the next section shares in part only."""
NUCLEI_MPP = 1.5
"""Coarser pictures do not show that."""
NUCLEI_STEP = 0.7
"""In degrees: half a millimeter of nuclei is lost a degree beside the right angle."""
NUCLEI_PX = 800
"""Longest side of a field so searched; it takes half a minute on two cores."""
STANDS_OUT = 1.2
"""Chance's best angle is a few hundredths better than its second."""
LOUDEST = 3.0
"""Standard deviations at which detail is cut off: one speck of dirt must not decide."""
SCALE_RANGE = (0.9, 1.1)
"""A section does not shrink by a tenth: then the optimiser ran away."""

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What both stains show of a slide. `layers` float32 (rows, cols, 2), 0-1, 0 on glass: nuclei
    (red optical density), and where there is tissue at all; `mask` bool, lumens filled;
    `detail_um`: width of the finest structure to look at."""

    layers: Array
    mask: NDArray[np.bool_]
    mpp: float
    detail_um: float = DETAIL_UM

    @cached_property
    def structure(self) -> Array:
        """Both layers in one, float32 (rows, cols)."""
        mean: Array = self.layers.mean(axis=2)
        return mean

    @cached_property
    def detail(self) -> Array:
        """Band-pass of both layers: finer than a lobule, coarser than noise; equal in weight."""
        sigma = max(0.7, self.detail_um / self.mpp)
        fine = cv2.GaussianBlur(self.layers, (0, 0), sigma)
        step = max(1, round(2 * sigma))
        rows, columns = fine.shape[:2]
        # The wide blur of a small picture is a wide blur, and costs little.
        small = cv2.resize(
            fine, (-(-columns // step), -(-rows // step)), interpolation=cv2.INTER_AREA
        )
        wide = cv2.GaussianBlur(small, (0, 0), 8 * sigma / step)
        fine -= cv2.resize(wide, (columns, rows), interpolation=cv2.INTER_LINEAR)
        spread = fine[::3, ::3][self.mask[::3, ::3]].reshape(-1, 2).std(axis=0)
        detail: Array = fine / np.maximum(spread, 1e-6).astype(np.float32)
        return detail

    def shrunk(self, step: int) -> Picture:
        """The same, `step` times as coarse; what reaches over the rim is glass."""
        if step <= 1:
            return self
        rows, columns = (-(-n // step) for n in self.mask.shape)
        border = (0, rows * step - self.mask.shape[0], 0, columns * step - self.mask.shape[1])
        layers, mask = (
            cv2.resize(
                cv2.copyMakeBorder(layer.astype(np.float32), *border, cv2.BORDER_CONSTANT),
                (columns, rows),
                interpolation=cv2.INTER_AREA,
            )
            for layer in (self.layers, self.mask)
        )
        return replace(self, layers=layers, mask=mask > 0.5, mpp=self.mpp * step)

    def within(self, mask: NDArray[np.bool_]) -> Picture:
        """The part that `mask` shows."""
        layers = self.layers * mask[..., None]
        return replace(self, layers=layers, mask=self.mask & mask)


def find_poses(moving: Picture, fixed: Picture) -> list[Affine]:
    """Likely poses of `moving` on `fixed`, optimised, best guess of the coarse search first.

    Both have the same mpp. A pose with a negative determinant lays the section face down.
    """
    starts = _coarse(moving, fixed)
    step = _step(moving, fixed, ROUGH_PX)
    small = moving.shrunk(step), fixed.shrunk(step)
    # SimpleITK's sums over threads differ from run to run, and equal slides must give equal
    # results: one thread for each start instead.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with ThreadPoolExecutor(CANDIDATES) as pool:
        return list(pool.map(lambda start: _optimised(*small, start, ROUGH_SAMPLES), starts))


def pose_by_nuclei(moving: Picture, fixed: Picture) -> Affine | None:
    """The pose of a small field of solid tissue, which has no outline and no lobules to go by.

    What is left are nuclei that lie in both sections. They correlate within a degree of the right
    angle only, so all angles are tried at full resolution, some 30 ms each for half a millimeter.
    In so many places chance finds good ones too, and its patches agree with each other; so the
    best must stand out from all other angles. None where it does not, or the field is too large.
    """
    if max(*moving.mask.shape, *fixed.mask.shape) > NUCLEI_PX or moving.mpp > NUCLEI_MPP:
        return None
    template, target = _rimless(moving), _rimless(fixed)
    rows, columns = template.shape
    canvas = math.ceil(math.hypot(rows, columns))
    side = int(fft.next_fast_len(max(fixed.mask.shape) + canvas, real=True))
    spectrum = fft.rfft2(target, (side, side))

    def tried(turned: tuple[float, bool]) -> tuple[float, float, Affine]:
        degrees, face_down = turned
        turn = _turn(degrees, (columns, rows), canvas, face_down)
        there = fft.rfft2(cv2.warpAffine(template, turn, (canvas, canvas)), (side, side))
        likeness, pose = _peak(
            fft.irfft2(spectrum * np.conj(there), (side, side)), turn, moving.mpp
        )
        return likeness, degrees, pose

    angles = np.arange(0, 360, NUCLEI_STEP).tolist()
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(tried, [(a, down) for down in (False, True) for a in angles]))
    best, at, pose = max(found, key=lambda item: item[0])
    others = max(v for v, a, _ in found if abs((a - at + 180) % 360 - 180) > 3 * NUCLEI_STEP)
    return pose if best > STANDS_OUT * others else None


def refined(moving: Picture, fixed: Picture, pose: Affine) -> Affine:
    """The pose, optimised once more on finer pictures."""
    step = _step(moving, fixed, FINE_PX)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return _optimised(moving.shrunk(step), fixed.shrunk(step), pose, FINE_SAMPLES)


def _coarse(moving: Picture, fixed: Picture) -> list[Affine]:
    """The most likely turns and shifts, face up or down, best first."""
    step = _step(moving, fixed, COARSE_PX)
    small = moving.shrunk(step), fixed.shrunk(step)
    mpp = small[1].mpp
    rows, columns = small[0].structure.shape
    canvas = math.ceil(np.hypot(rows, columns))
    side = int(fft.next_fast_len(canvas + max(small[1].structure.shape) + 2, real=True))
    targets = [fft.rfft2(layer, (side, side)) for layer in _contrast(small[1])]
    layers = _contrast(small[0])
    energies = [
        float(np.sqrt((a**2).sum() * (b**2).sum())) or 1.0
        for a, b in zip(layers, _contrast(small[1]), strict=True)
    ]
    found: list[tuple[float, float, bool, Affine]] = []
    for face_down in (False, True):
        for degrees in np.arange(-180, 180, ANGLE_STEP):
            turn = _turn(float(degrees), (columns, rows), canvas, face_down)
            total = np.zeros((side, side), dtype=np.float32)
            for layer, target, energy in zip(layers, targets, energies, strict=True):
                turned = cv2.warpAffine(layer, turn, (canvas, canvas))
                spectrum = np.conj(fft.rfft2(turned, (side, side)))
                total += fft.irfft2(target * spectrum, (side, side)) / energy
            likeness, affine = _peak(total, turn, mpp)
            found.append((likeness, float(degrees), face_down, affine))
    found.sort(key=lambda item: -item[0])
    chosen: list[tuple[float, bool, Affine]] = []
    for _, degrees, face_down, affine in found:
        apart = (abs((degrees - d + 180) % 360 - 180) for d, down, _ in chosen if down is face_down)
        if all(a > 2 * ANGLE_STEP for a in apart):
            chosen.append((degrees, face_down, affine))
        if len(chosen) == CANDIDATES:
            break
    return [affine for _, _, affine in chosen]


def _peak(
    likeness: NDArray[np.float32], turn: NDArray[np.float64], mpp: float
) -> tuple[float, Affine]:
    """Highest value of a circular correlation, and its pose, of a picture turned by `turn`."""
    side = len(likeness)
    peak = np.unravel_index(int(likeness.argmax()), likeness.shape)
    dy, dx = (int(p) - side if p > side // 2 else int(p) for p in peak)
    linear, shift = turn[:, :2], turn[:, 2] + (dx, dy)
    # Pixel-center map of the rasters to a µm map.
    shift_um = (shift - linear @ np.array([0.5, 0.5]) + 0.5) * mpp
    (a, b), (c, d) = linear.tolist()
    pose = Affine((a, b, c, d), (float(shift_um[0]), float(shift_um[1])))
    return float(likeness[peak]), pose


def _rimless(picture: Picture) -> Array:
    """Detail without the tissue's rim, which would outshine the nuclei."""
    reach = 2 * math.ceil(4 * picture.detail_um / picture.mpp) + 1
    inner = cv2.erode(picture.mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
    detail: Array = np.clip(picture.detail, -LOUDEST, LOUDEST).mean(axis=2) * inner
    return detail


def _step(moving: Picture, fixed: Picture, longest_px: int) -> int:
    longest: int = max(*moving.mask.shape, *fixed.mask.shape)
    return math.ceil(longest / longest_px)


def _contrast(picture: Picture) -> list[Array]:
    """Outline and structure apart: an outline alone fits itself upside down, and where tissue fills
    the picture there is no outline."""
    mask = picture.mask.astype(np.float32)
    mean = float(picture.structure[picture.mask].mean()) if picture.mask.any() else 0.0
    return [mask, ((picture.structure - mean) * mask).astype(np.float32)]


def _turn(
    degrees: float, size: tuple[int, int], canvas: int, face_down: bool
) -> NDArray[np.float64]:
    """(2, 3) map of px: turned about the middle onto a square of `canvas` px."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if face_down else 1.0, 1.0])
    middle = (np.array(size) - 1) / 2
    return np.column_stack([linear, (canvas - 1) / 2 - linear @ middle])


def _optimised(moving: Picture, fixed: Picture, start: Affine, samples: int) -> Affine:
    """The pose with turn, shift and scale optimised by mutual information, coarse to fine."""
    flip = np.diag([-1.0, 1.0]) if start.mirrors else np.eye(2)
    backward = start.inverse()  # SimpleITK maps fixed points to moving ones
    transform = sitk.Similarity2DTransform()
    middle = np.array(fixed.structure.shape[::-1]) * fixed.mpp / 2
    transform.SetCenter(middle.tolist())
    linear = flip @ np.array(backward.matrix).reshape(2, 2)
    transform.SetAngle(math.atan2(linear[1, 0], linear[0, 0]))
    # A section that lies face down is flipped about x = 0 before it is turned.
    transform.SetTranslation((flip @ backward.apply(middle[None])[0] - middle).tolist())
    image = moving.structure[:, ::-1] if start.mirrors else moving.structure
    origin = moving.mpp / 2
    if start.mirrors:
        origin = moving.mpp / 2 - moving.structure.shape[1] * moving.mpp
    _optimise(
        _image(fixed.structure, fixed.mpp, fixed.mpp / 2),
        _image(np.ascontiguousarray(image), moving.mpp, origin),
        transform,
        samples,
    )
    if not SCALE_RANGE[0] < transform.GetScale() < SCALE_RANGE[1]:
        return start
    linear = np.array(transform.GetMatrix()).reshape(2, 2)
    shift = np.array(transform.GetTranslation()) + middle - linear @ middle
    (a, b), (c, d) = (flip @ linear).tolist()
    x, y = (flip @ shift).tolist()
    return Affine((a, b, c, d), (x, y)).inverse()


def _optimise(
    fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform, samples: int
) -> None:
    method = sitk.ImageRegistrationMethod()
    shrink = (2, 1)
    pixels = float(np.prod(fixed.GetSize()))
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    shares = [min(1.0, samples / (pixels / factor**2)) for factor in shrink]
    method.SetMetricSamplingPercentagePerLevel(shares, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2 * fixed.GetSpacing()[0],
        minStep=0.01 * fixed.GetSpacing()[0],
        numberOfIterations=60,
        relaxationFactor=0.6,
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


def _image(array: Array, mpp: float, origin_x: float) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((mpp, mpp))
    image.SetOrigin((origin_x, mpp / 2))
    return image
