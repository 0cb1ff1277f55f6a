"""Foreground of a slide's overview, and the picture that systems of low resolution are given.

The foreground is found as in arXiv 2503.22069, section 2.3: contrast enhancement, Gaussian blur,
Otsu's threshold, and watershed to isolate the background. The paper gives no numbers; those here
were chosen on drawn slides.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import DataSetError
from models.slide_level.unscanned import on_glass, painted

FOREGROUND_PX = 512
"""Longer side of the picture on which the foreground is looked for."""
_GLASS_PERCENTILE = 5.0
"""Percentile of darkness that is glass: a section leaves more of the slide free."""
_DARK = 30.0
"""Gray levels below the glass from which on all is equally dark: else pen, control tissue and
strong stain take up the contrast, and Otsu's threshold divides tissue."""
_GAMMA = 0.5
"""Exponent of the contrast: pale stroma is brought nearer to dark epithelium than to glass."""
_SIGMA = 1.0
_SURE_PX = 3.0
"""Distance to the background, in px, of what is surely tissue."""
_SMALLEST = 2e-4
"""Share of the picture below which a piece is dust."""
_KEPT_PICTURES = 1200
_OPAQUE = (".jpg", ".jpeg")
"""Suffixes of files that hold no transparency."""
_JPEG, _AHEAD = b"\xff\xd8", bytes(16)
"""First bytes of JPEG, and bytes that a decoder looks ahead: some encoders write no end.
A progressive file without it is told from no cut-off one, and refused."""
MARGIN = 0.02
"""Margin of glass around the foreground, by its longer side."""


def foreground(overview: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the foreground of an overview, uint8 RGB (rows, columns, 3), as bool of its size.

    Black borders and the fill of unscanned areas count as glass.
    """
    overview = on_glass(overview)
    rows, columns = overview.shape[:2]
    scale = min(1.0, FOREGROUND_PX / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = cv2.resize(overview, size, interpolation=cv2.INTER_AREA)
    # Darkest channel: hematoxylin absorbs red, DAB blue; gray would miss pale tissue.
    dark = 255.0 - small.min(axis=2)
    glass = float(np.percentile(dark, _GLASS_PERCENTILE))
    enhanced = 255 * np.clip((dark - glass) / _DARK, 0, 1) ** _GAMMA
    smooth = cv2.GaussianBlur(enhanced, (0, 0), _SIGMA).astype(np.uint8)
    _, found = cv2.threshold(smooth, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    mask = _without_background(small, found)
    large = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
    whole: NDArray[np.bool_] = large.astype(bool)
    return whole


def _without_background(small: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Flood from sure tissue and sure background; the border lies on the steepest edge."""
    distance = cv2.distanceTransform(found, cv2.DIST_L2, 5)
    tissue = (distance > _SURE_PX).astype(np.uint8)
    background = 1 - cv2.dilate(found, np.ones((7, 7), dtype=np.uint8))
    markers = np.zeros(found.shape, dtype=np.int32)
    markers[background > 0], markers[tissue > 0] = 1, 2
    flooded = cv2.watershed(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), markers)
    mask = (flooded == 2).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, dtype=np.uint8)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= _SMALLEST * mask.size
    kept: NDArray[np.uint8] = keep[labels]
    return kept


def section_picture(
    overview: NDArray[np.uint8], mask: NDArray[np.bool_], px: int
) -> NDArray[np.uint8]:
    """Return the section alone: uint8 RGB (px, px, 3), glass at 255, everything else at 255.

    The square around the foreground `mask` is taken, with a margin, and shrunk or enlarged as a
    whole. Without foreground the whole overview is taken.
    """
    overview = on_glass(overview)
    glass = glass_color(overview, mask)
    place = _place(mask, px)
    section = np.ascontiguousarray(overview[place.box])
    inside = _whole_if_empty(mask)[place.box].astype(np.uint8)
    shrinks = place.size[0] < section.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = cv2.resize(section, place.size, interpolation=way)
    share = cv2.resize(255 * inside, place.size, interpolation=way)
    even = np.clip(small * (255.0 / glass) + 0.5, 0, 255).astype(np.uint8)
    even[share < 128] = 255
    picture = np.full((px, px, 3), 255, dtype=np.uint8)
    picture[place.within] = even
    return picture


def on_overview(heat: NDArray[np.float32], mask: NDArray[np.bool_], px: int) -> NDArray[np.float32]:
    """Return a map of `section_picture` on its overview, float32 of the size of `mask`, 0 outside.

    `heat` covers the picture of `px` px, at any resolution.
    """
    place = _place(mask, px)
    fine = cv2.resize(heat, (px, px), interpolation=cv2.INTER_LINEAR)[place.within]
    whole = np.zeros(mask.shape, dtype=np.float32)
    rows, columns = whole[place.box].shape
    whole[place.box] = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_LINEAR)
    laid: NDArray[np.float32] = whole * _whole_if_empty(mask)
    return laid


def on_section(
    values: NDArray[np.float32], mask: NDArray[np.bool_], px: int
) -> NDArray[np.float32]:
    """Return what an overview's places hold on its `section_picture`, float32 (px, px, C).

    `values` (rows, columns, C) cover the overview of `mask`, at any resolution; 0 around it.
    """
    place = _place(mask, px)
    whole = cv2.resize(values, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    section = np.ascontiguousarray(whole[place.box])
    laid = np.zeros((px, px, values.shape[2]), dtype=np.float32)
    small = cv2.resize(section, place.size, interpolation=cv2.INTER_AREA)
    laid[place.within] = small.reshape(*place.size[::-1], -1)  # OpenCV leaves a single channel out
    return laid


@dataclass(frozen=True, slots=True)
class _Place:
    """`box` of the section on its overview; `size` (columns, rows) and slices in its picture."""

    box: tuple[slice, slice]
    size: tuple[int, int]
    within: tuple[slice, slice]


def _place(mask: NDArray[np.bool_], px: int) -> _Place:
    mask = _whole_if_empty(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    edges = [one.stop - one.start for one in box]
    scale = px / (max(edges) * (1 + 2 * MARGIN))
    height, width = (max(1, min(px, round(edge * scale))) for edge in edges)
    top, left = (px - height) // 2, (px - width) // 2
    return _Place(box, (width, height), (slice(top, top + height), slice(left, left + width)))


def _whole_if_empty(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask if mask.any() else np.ones_like(mask)


@lru_cache(maxsize=_KEPT_PICTURES)
def read_section(path: Path, px: int) -> NDArray[np.uint8]:
    """Return `section_picture` of an overview's file; do not change it: it is kept.

    What is transparent in the file is glass.

    Raises
    ------
    DataSetError
        If the file is no readable picture.
    """
    read = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if read is None or _is_cut_off(path):
        raise DataSetError(f"{path}: not a readable picture. Export it again as PNG or JPEG.")
    overview = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
    if path.suffix.lower() not in _OPAQUE:
        whole = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if whole is not None and whole.shape[2:] == (4,) and whole.shape[:2] == read.shape[:2]:
            overview = painted(overview, whole[..., 3] < np.iinfo(whole.dtype).max // 2)
    picture = section_picture(overview, foreground(overview), px)
    picture.setflags(write=False)
    return picture


def _is_cut_off(path: Path) -> bool:
    """Return whether px of a JPEG that OpenCV has read are missing: it fills them with gray."""
    data = path.read_bytes()
    if not data.startswith(_JPEG):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata and size: OpenCV has read it
        try:
            image = Image.open(io.BytesIO(data + _AHEAD))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return False  # of a kind that Pillow does not tell of
        try:
            image.load()
        except OSError:
            return True
    return False


def glass_color(overview: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the color (3,) of the glass outside the foreground `mask`.

    It is the median of the bright half of the background, at least 180 a channel.
    """
    outside = overview[::4, ::4][~mask[::4, ::4]]
    if len(outside) == 0:
        return np.full(3, 245.0)
    gray = outside.min(axis=1)
    glass: NDArray[np.float64] = np.median(outside[gray >= np.median(gray)], axis=0)
    bright: NDArray[np.float64] = np.maximum(glass, 180.0)
    return bright
