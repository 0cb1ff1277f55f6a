"""The pose of H&E tissue on the IHC slide without prior knowledge: any rotation, either face up.

`rotation_search` gives start poses; SimpleITK optimizes each by mutual information. Frames are
slide µm; images are float32, 0-1, 0 on glass.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import Affine
from appliance.registration.picture import Array, Picture, step_to
from appliance.registration.rotation_search import coarse_poses

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813  its own convention

ROUGH_PX, ROUGH_SAMPLES = 350, 6_000
"""Longest side of the images in which each start pose is optimized, and number of px that mutual
information is estimated from. Patches refine the result."""
FINE_PX, FINE_SAMPLES = 1000, 40_000
"""The same for a piece too small for patches."""
ROOMY, MARGIN = 1.5, 0.25
"""Factor by which a picture is longer than its tissue before the glass around it is left out, and
share of the tissue's length that is kept on each side."""
SEED = 20
Point = NDArray[np.float64]
SCALE_RANGE = (0.9, 1.1)
"""Plausible scales: a section does not shrink by a tenth. Outside them the optimizer diverged."""


def find_poses(moving: Picture, fixed: Picture) -> list[Affine]:
    """Likely poses of `moving` on `fixed`, optimized; the best of the coarse search first.

    Both have the same mpp. A pose with a negative determinant lays the section face down. Glass
    around little tissue is left out: scanners that keep the whole glass would leave it some px.
    """
    (moving, left), (fixed, right) = _cropped(moving), _cropped(fixed)
    # Pictures may lie on each other already, and faint ones correlate better elsewhere by chance.
    stay = _between(Affine.identity(), left, right)
    starts = [*coarse_poses(moving, fixed), stay]
    step = step_to(moving, fixed, ROUGH_PX)
    small = moving.shrunk(step), fixed.shrunk(step)
    with ThreadPoolExecutor(len(starts)) as pool:
        found = list(pool.map(lambda start: _optimized(*small, start, ROUGH_SAMPLES), starts))
    return [_between(pose, -left, -right) for pose in found]


def refined(moving: Picture, fixed: Picture, pose: Affine) -> Affine:
    """The pose, optimized again on finer pictures."""
    (moving, left), (fixed, right) = _cropped(moving), _cropped(fixed)
    step = step_to(moving, fixed, FINE_PX)
    small = moving.shrunk(step), fixed.shrunk(step)
    found = _optimized(*small, _between(pose, left, right), FINE_SAMPLES)
    return _between(found, -left, -right)


def _between(pose: Affine, left: Point, right: Point) -> Affine:
    """The pose between frames that begin at `left` and `right` µm (x, y) of those of `pose`."""
    x, y = (pose.apply(left) - right).tolist()
    return Affine(pose.matrix, (x, y))


def _cropped(picture: Picture) -> tuple[Picture, Point]:
    """The picture without the glass around its tissue, and the µm (x, y) where it begins.

    As it is where the tissue reaches over more than 1 / `ROOMY` of the longer side.
    """
    shape = picture.mask.shape
    spans = [np.flatnonzero(picture.mask.any(axis=axis)) for axis in (1, 0)]
    if not all(len(span) for span in spans):
        return picture, np.zeros(2)
    margin = MARGIN * max(int(span[-1]) + 1 - int(span[0]) for span in spans)
    edges = [
        slice(max(0, int(span[0] - margin)), min(size, int(span[-1] + 1 + margin)))
        for span, size in zip(spans, shape, strict=True)
    ]
    if ROOMY * max(edge.stop - edge.start for edge in edges) > max(shape):
        return picture, np.zeros(2)
    rows, columns = edges
    part = replace(picture, layers=picture.layers[rows, columns], mask=picture.mask[rows, columns])
    return part, np.array([columns.start, rows.start]) * picture.mpp


def _optimized(moving: Picture, fixed: Picture, start: Affine, samples: int) -> Affine:
    """The pose with rotation, shift and scale optimized by mutual information, coarse to fine."""
    import SimpleITK as sitk  # noqa: N813  slow to load; the daemon does not need it

    # Its sums over threads differ from run to run, and equal slides must give equal results: one
    # thread here; start poses have threads of their own.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    flip = np.diag([-1.0, 1.0]) if start.mirrors else np.eye(2)
    backward = start.inverse()  # SimpleITK maps fixed points to moving ones
    transform = sitk.Similarity2DTransform()
    middle = np.array(fixed.structure.shape[::-1]) * fixed.mpp / 2
    transform.SetCenter(middle.tolist())
    linear = flip @ np.array(backward.matrix).reshape(2, 2)
    transform.SetAngle(math.atan2(linear[1, 0], linear[0, 0]))
    # A section that lies face down is flipped about x = 0 before it is rotated.
    transform.SetTranslation((flip @ backward.apply(middle[None])[0] - middle).tolist())
    image = moving.structure[:, ::-1] if start.mirrors else moving.structure
    origin = moving.mpp / 2
    if start.mirrors:
        origin = moving.mpp / 2 - moving.structure.shape[1] * moving.mpp
    _optimize(
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


def _optimize(
    fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform, samples: int
) -> None:
    """Optimize `transform` in place; it stays as it is where no sample overlaps."""
    import SimpleITK as sitk  # noqa: N813

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
    except RuntimeError as err:  # all samples outside: a useless start pose
        if "outside" not in str(err) and "sample" not in str(err).lower():
            raise


def _image(array: Array, mpp: float, origin_x: float) -> sitk.Image:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(array)
    image.SetSpacing((mpp, mpp))
    image.SetOrigin((origin_x, mpp / 2))
    return image
