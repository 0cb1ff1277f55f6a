"""Placement of rasters on a slide: spacing, axes, and whole multiples of the slide's px."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom.errors import ObjectError

MOST_ANISOTROPY = 1.05
"""Largest ratio of the resolutions of the two axes; those of scanners differ by under 1 %. Results
count in px on both axes, so that they lie right whatever it is; areas are off by under 0.1 %."""
ROUNDING = 1e-6
"""Largest relative difference of two resolutions that are one: 0.1 px on the widest slides."""


def px_per_value(
    base: Dataset, shape: tuple[int, ...], mpp: float, read_mpp: float | None = None
) -> int:
    """Return the width of a raster's px (`mpp` µm) in px of the slide; `read_mpp` as `slide_mpp`.

    Raises
    ------
    ObjectError
        If it is no whole number, or the raster (rows, columns) does not lie on the slide.
    """
    base_mpp = slide_mpp(base, read_mpp)
    factor = max(1, round(mpp / base_mpp))
    # Rounding errors accumulate over the slide: at its far edge they must stay below half a px.
    drift_px = abs(mpp / base_mpp / factor - 1) * max(shape)
    if drift_px > 0.5:
        raise ObjectError(f"{mpp:g} µm is no whole multiple of the slide's {base_mpp:g} µm")
    size = (int(base.TotalPixelMatrixRows), int(base.TotalPixelMatrixColumns))
    for what, cells, px in zip(("rows", "columns"), shape, size, strict=True):
        # One px more than covers the slide is padding; beyond that the raster is of another slide,
        # as is one that does not reach its end.
        if abs(cells - -(-px // factor)) > 1:
            raise ObjectError(
                f"{cells} {what} of {factor} px do not lie on a slide of {px} px; the label map "
                "belongs to another slide or has another resolution"
            )
    return factor


def slide_mpp(image: Dataset, read_mpp: float | None = None) -> float:
    """Return µm per px of an image, as results count them: the mean of rows and columns.

    `read_mpp` is that with which the slide was read, whose axes were judged then: where a sidecar
    corrects the header, places count in its px. Without it the spacings must agree to a factor of
    `MOST_ANISOTROPY` (ObjectError).
    """
    rows, columns = spacing_mm(image)
    stated = (rows + columns) / 2 * 1000
    if read_mpp is None:
        if max(rows, columns) > MOST_ANISOTROPY * min(rows, columns):
            raise ObjectError("the slide's pixels are not square")
        return stated
    # Equal but for rounding: the header's, which earlier editions took.
    return stated if abs(read_mpp - stated) <= ROUNDING * stated else read_mpp


def spacing_mm(image: Dataset) -> tuple[float, float]:
    """Spacing of rows and of columns in mm (PS3.3 10.7.1.3)."""
    rows, columns = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    return float(rows), float(columns)


def axes_mm(
    image: Dataset, spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origin (3,) of a total pixel matrix and one px of `spacing` down and to the right (2, 3), in
    mm of the slide's frame of reference (PS3.3 C.8.12.4)."""
    start = image.TotalPixelMatrixOriginSequence[0]
    origin = [float(start.get(f"{axis}OffsetInSlideCoordinateSystem") or 0) for axis in "XYZ"]
    right, down = np.array([float(v) for v in image.ImageOrientationSlide]).reshape(2, 3)
    return np.array(origin), np.stack([down * spacing[0], right * spacing[1]])


def matrix_mm(image: Dataset) -> tuple[float, float]:
    """Return the size of the total pixel matrix, (width, height) in mm."""
    rows, columns = spacing_mm(image)
    width, height = int(image.TotalPixelMatrixColumns), int(image.TotalPixelMatrixRows)
    return width * columns, height * rows


def onto_glass(image: Dataset, size_mm: tuple[float, float]) -> None:
    """Move a converted level onto the glass where the slide, (width, height) in mm, lies beside it.

    The slide coordinate system begins at a corner of the glass (PS3.3 C.8.12.2.1.1). The converter
    takes a corner of 25 x 50 mm for the image's start where the file states none: a larger image
    would reach to negative places. All levels of a slide move alike.
    """
    (start,) = image.TotalPixelMatrixOriginSequence
    along = np.array([float(v) for v in image.ImageOrientationSlide]).reshape(2, 3)
    least = np.minimum(0, along * np.array(size_mm)[:, None]).sum(axis=0)
    for axis, lowest in zip("XY", least[:2].tolist(), strict=True):
        keyword = f"{axis}OffsetInSlideCoordinateSystem"
        if float(start[keyword].value) + lowest < 0:
            setattr(start, keyword, round(-lowest, 6))


def to_frame_of_reference(
    points_um: NDArray[np.float64], image: Dataset, read_mpp: float | None = None
) -> NDArray[np.float64]:
    """Convert slide µm (x, y), shape (N, 2), to mm of the slide's frame of reference, shape (N, 3).

    `read_mpp` as `slide_mpp`: the slide's µm are those of its px, mm those of its header.

    PS3.3 C.8.12.4.1.1: the total pixel matrix starts, with the center of its first px, at
    TotalPixelMatrixOriginSequence and runs along ImageOrientationSlide.
    """
    start, _ = axes_mm(image, spacing_mm(image))
    along = np.array([float(v) for v in image.ImageOrientationSlide]).reshape(2, 3)
    down, right = spacing_mm(image)
    from_center_px = points_um / slide_mpp(image, read_mpp) - 0.5
    result: NDArray[np.float64] = start + (from_center_px * [right, down]) @ along
    return result
