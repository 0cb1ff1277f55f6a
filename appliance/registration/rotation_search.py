"""Search over all rotations, face up and face down, by cross-correlation (OpenCV, SciPy).

Frames are slide µm; images are float32, 0-1, 0 on glass.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import Affine
from appliance.registration.picture import Array, Picture, step_to

COARSE_PX = 160
"""Longest side of the images of the coarse search."""
ANGLE_STEP = 6.0
"""Step of the coarse search in degrees; the optimizer converges from farther away."""
CANDIDATES = 6
"""Number of the best coarse poses that are optimized."""
NUCLEI_MPP = 1.5
"""Coarsest resolution that shows the rims of nuclei."""
NUCLEI_STEP = 0.7
"""Step in degrees: correlation of half a millimeter of nuclei is lost one degree off."""
NUCLEI_PX = 800
"""Longest side of a field that is searched by nuclei; it takes half a minute on two cores."""
STANDS_OUT = 1.2
"""Least ratio of the best angle to all others; by chance the ratio exceeds 1 by a few
hundredths."""
LOUDEST = 3.0
"""Standard deviations at which detail is clipped: one speck of dirt must not decide."""


def coarse_poses(moving: Picture, fixed: Picture) -> list[Affine]:
    """The most likely rotations and shifts, face up or down, best first."""
    from scipy import fft  # slow to load; the daemon does not need it

    step = step_to(moving, fixed, COARSE_PX)
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
    return _distinct(found)


def shows_nuclei(moving: Picture, fixed: Picture) -> bool:
    """Return whether both fields are fine enough to show nuclei, and small enough to search."""
    return max(*moving.mask.shape, *fixed.mask.shape) <= NUCLEI_PX and moving.mpp <= NUCLEI_MPP


def pose_by_nuclei(moving: Picture, fixed: Picture) -> Affine | None:
    """The pose of a small field of solid tissue, which has neither an outline nor lobules.

    Only nuclei that lie in both sections remain. They correlate within one degree of the right
    angle, so all angles are tried at full resolution, about 30 ms each for half a millimeter. Among
    so many places some fit by chance, and the patches of such a fit agree with each other; the best
    angle must therefore stand out from all others. None where it does not.
    """
    from scipy import fft  # slow to load; the daemon does not need it

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


def _distinct(found: list[tuple[float, float, bool, Affine]]) -> list[Affine]:
    """The best `CANDIDATES` poses that differ in angle or face; `found` is as in `coarse_poses`."""
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
    # Map between pixel centers of the rasters to a map in µm.
    shift_um = (shift - linear @ np.array([0.5, 0.5]) + 0.5) * mpp
    (a, b), (c, d) = linear.tolist()
    pose = Affine((a, b, c, d), (float(shift_um[0]), float(shift_um[1])))
    return float(likeness[peak]), pose


def _turn(
    degrees: float, size: tuple[int, int], canvas: int, face_down: bool
) -> NDArray[np.float64]:
    """Map (2, 3) of px: a rotation about the center onto a square of `canvas` px."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if face_down else 1.0, 1.0])
    middle = (np.array(size) - 1) / 2
    return np.column_stack([linear, (canvas - 1) / 2 - linear @ middle])


def _contrast(picture: Picture) -> list[Array]:
    """Outline and structure as separate layers.

    An outline alone also fits upside down; where tissue fills the picture there is no outline.
    """
    mask = picture.mask.astype(np.float32)
    mean = float(picture.structure[picture.mask].mean()) if picture.mask.any() else 0.0
    return [mask, ((picture.structure - mean) * mask).astype(np.float32)]


def _rimless(picture: Picture) -> Array:
    """Detail without the tissue's rim, which is stronger than the nuclei."""
    reach = 2 * math.ceil(4 * picture.detail_um / picture.mpp) + 1
    inner = cv2.erode(picture.mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
    detail: Array = np.clip(picture.detail, -LOUDEST, LOUDEST).mean(axis=2) * inner
    return detail
