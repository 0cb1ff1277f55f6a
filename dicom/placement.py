"""Placement of rasters on a slide: spacing, axes, and whole multiples of the slide's px."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom.errors import ObjectError


def px_per_value(base: Dataset, shape: tuple[int, ...], mpp: float) -> int:
    """Return the width of a raster's px (`mpp` µm) in px of the slide.

    Raises
    ------
    ObjectError
        If it is no whole number, or the raster (rows, columns) does not lie on the slide.
    """
    base_mpp = slide_mpp(base)
    factor = max(1, round(mpp / base_mpp))
    # Rounding errors accumulate over the slide: at its far edge they must stay below half a px.
    drift_px = abs(mpp / base_mpp / factor - 1) * max(shape)
    if drift_px > 0.5:
        raise ObjectError(f"{mpp:g} µm is no whole multiple of the slide's {base_mpp:g} µm")
    size = (int(base.TotalPixelMatrixRows), int(base.TotalPixelMatrixColumns))
    for what, cells, px in zip(("rows", "columns"), shape, size, strict=True):
        # One px more than covers the slide is padding; beyond that the raster is of another slide.
        if cells > -(-px // factor) + 1:
            raise ObjectError(
                f"{cells} {what} of {factor} px do not lie on a slide of {px} px; the label map "
                "belongs to another slide or has another resolution"
            )
    return factor


def slide_mpp(image: Dataset) -> float:
    """Return µm per px of an image, mean of rows and columns; they must agree to 1%
    (ObjectError)."""
    rows, columns = spacing_mm(image)
    if abs(rows - columns) > 0.01 * rows:
        raise ObjectError("the slide's pixels are not square")
    return (rows + columns) / 2 * 1000


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


def to_frame_of_reference(points_um: NDArray[np.float64], image: Dataset) -> NDArray[np.float64]:
    """Convert slide µm (x, y), shape (N, 2), to mm of the slide's frame of reference, shape (N, 3).

    PS3.3 C.8.12.4.1.1: the total pixel matrix starts, with the center of its first px, at
    TotalPixelMatrixOriginSequence and runs along ImageOrientationSlide.
    """
    origin = image.TotalPixelMatrixOriginSequence[0]
    start = np.array(
        [
            float(origin.XOffsetInSlideCoordinateSystem),
            float(origin.YOffsetInSlideCoordinateSystem),
            float(origin.get("ZOffsetInSlideCoordinateSystem", 0) or 0),
        ]
    )
    along = np.array([float(v) for v in image.ImageOrientationSlide]).reshape(2, 3)
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    down, right = (float(v) for v in measures.PixelSpacing)
    from_center_px = points_um / slide_mpp(image) - 0.5
    result: NDArray[np.float64] = start + (from_center_px * [right, down]) @ along
    return result
