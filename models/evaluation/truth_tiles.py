"""Tiles with truth from images: read, resampled to 0.2793 µm/px, cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.images import open_whole
from models.errors import DataSetError
from models.spec import CLASSES, TILE_MPP, TILE_PX, Task

IGNORED = 255
"""Mask value of unlabeled px and of padding."""
MOST_FILL = 0.1
"""Largest share of an edge by which a last tile may be short; it is padded by mirroring."""
BCSS_CODES = 21
"""Highest code of the BCSS data set: 1 is tumor, 0 lies outside the labeled region."""
WHITE_FROM = 127
"""Value above which a mask of several gray values is white."""
JPEG_NOISE = 40
"""Most that the channels of a gray JPEG mask may differ by."""
USUAL_GLASS = (245, 245, 245)
DARKEST_GLASS = 180
TUMOR_FROM, OTHER_UP_TO = 0.5, 0.1
"""Limits of tumor share: a tile from the first on is tumor, up to the second is none; a tile
between them is not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskValues:
    """Meaning of mask values, from ``mask.json``: {"tumor": [1, 19], "ignore": [0]}.

    `classes` holds the values of each class, by its number in what `read_mask` returns.
    """

    classes: dict[int, tuple[int, ...]]
    ignore: tuple[int, ...]


def read_mask_values(folder: Path, task: Task) -> MaskValues | None:
    """Read ``mask.json`` in `folder`; None without that file.

    Raises
    ------
    DataSetError
        If it is not of the form in `MaskValues`, or names an unknown class.
    """
    path = folder / "mask.json"
    if not path.is_file():
        return None
    try:
        raw = {name: tuple(int(v) for v in values) for name, values in _object(path).items()}
    except (ValueError, TypeError, AttributeError) as err:
        raise DataSetError(f'{path}: not of the form {{"tumor": [1], "ignore": [0]}}.') from err
    ignore, numbers = raw.pop("ignore", ()), _numbers(task)
    if unknown := set(raw) - set(numbers):
        known = ", ".join(numbers)
        raise DataSetError(f"{path}: unknown class {min(unknown)!r}; there are {known}, ignore.")
    classes: dict[int, tuple[int, ...]] = {}
    for name, values in raw.items():
        classes[numbers[name]] = (*classes.get(numbers[name], ()), *values)
    return MaskValues(classes=classes, ignore=ignore)


def values_of_folder(folder: Path, task: Task, masks: Iterable[Path]) -> MaskValues | None:
    """Meaning of the values of all masks of a folder; None where each mask tells its own.

    Without ``mask.json`` tumor masks are of BCSS if one of them has several codes: a region that
    shows one class has one value, like a mask of tumor.

    Raises
    ------
    DataSetError
        If ``mask.json`` cannot be used, or some masks are of BCSS and others cannot be.
    """
    values = read_mask_values(folder, task)
    if values is not None or task is not Task.TUMOR:
        return values
    odd: Path | None = None
    coded = False
    for path in masks:
        image = open_whole(path)
        lossy = image.format == "JPEG"
        present = np.unique(_gray(image, path, lossy=lossy))
        if lossy or present[-1] > BCSS_CODES:
            odd = odd or path
        else:
            coded |= int((present > 0).sum()) > 1
    if coded and odd is not None:
        raise DataSetError(
            f"{odd}: other masks in this folder hold BCSS codes, and this one cannot. Save them "
            "alike, or put them into folders of their own."
        )
    return MaskValues(classes={1: (1,)}, ignore=(0,)) if coded else None


def _numbers(task: Task) -> dict[str, int]:
    """Names of classes in ``mask.json``, each with its number in what `read_mask` returns.

    Masks for L have the numbering of M: background is 0, and L's first class is 1.
    """
    if task is not Task.INTENSITY:
        return {name: number for number, name in enumerate(CLASSES[task])}
    own = {name: number for number, name in enumerate(CLASSES[task], start=1)}
    return {name: number for number, name in enumerate(CLASSES[Task.SEGMENTATION])} | own


def read_mask(path: Path, task: Task, values: MaskValues | None = None) -> NDArray[np.uint8]:
    """Return the class of each px, uint8 (rows, columns): 0/1 for the tumor task, else 0-4;
    `IGNORED`.

    Without `values`, the one nonzero value of a tumor mask is tumor, but for 2 to `BCSS_CODES`;
    several values up to `BCSS_CODES` are BCSS codes, and of others those above `WHITE_FROM` are
    tumor. Masks of other tasks hold 0-4 in the numbering of network M.

    Raises
    ------
    DataSetError
        If the file is no image or in color, or holds a value without meaning, or with two.
    """
    image = open_whole(path)
    lossy = image.format == "JPEG"
    mask = _gray(image, path, lossy=lossy)
    present = np.unique(mask)
    if values is not None:
        found = np.full(mask.shape, 0 if task is Task.TUMOR else IGNORED, dtype=np.uint8)
        for number, codes in values.classes.items():
            found[np.isin(mask, codes)] = number
        found[np.isin(mask, values.ignore)] = IGNORED
        known = [*values.ignore, *(c for codes in values.classes.values() for c in codes)]
        if task is not Task.TUMOR and (strange := set(present.tolist()) - set(known)):
            raise DataSetError(f"{path}: mask value {min(strange)} is not in mask.json.")
        return found
    if task is Task.TUMOR:
        return _tumor(mask, path, lossy=lossy)
    highest = len(CLASSES[Task.SEGMENTATION]) - 1
    if lossy or present[-1] > highest:
        why = "JPEG does not keep values" if lossy else f"value {present[-1]}"
        raise DataSetError(
            f"{path}: {why}; a mask holds 0 (background) to {highest} (3+), losslessly, or "
            "mask.json says what its values mean."
        )
    return mask.astype(np.uint8)


def _gray(image: Image.Image, path: Path, *, lossy: bool) -> NDArray[np.int64]:
    """Return the values of a mask, int64 (rows, columns).

    Raises
    ------
    DataSetError
        If it is in color. A color's brightness is no value: red would be black.
    """
    if image.mode in ("L", "P", "1", "I;16", "I"):
        return np.asarray(image, dtype=np.int64)
    if image.mode == "LA":
        return np.asarray(image.convert("L"), dtype=np.int64)
    colors = np.asarray(image.convert("RGB"), dtype=np.int64)
    if np.ptp(colors, axis=2).max() > (JPEG_NOISE if lossy else 0):
        raise DataSetError(f"{path}: a mask has one value per px, not colors; save it gray.")
    return colors[..., 0]


def _tumor(mask: NDArray[np.int64], path: Path, *, lossy: bool) -> NDArray[np.uint8]:
    present = np.unique(mask)
    if not lossy and present[-1] <= BCSS_CODES:
        if (present > 0).sum() > 1:
            return np.where(mask == 0, IGNORED, mask == 1).astype(np.uint8)
        if present[-1] > 1:
            raise DataSetError(
                f"{path}: {present[-1]} may be tumor, or a BCSS code of other tissue. Let "
                f'mask.json say it: {{"tumor": [{present[-1]}]}}, or {{"tumor": [1], "ignore": '
                "[0]} for BCSS."
            )
    if not lossy and (present > 0).sum() <= 1:
        return (mask > 0).astype(np.uint8)
    if 0 < present[-1] <= WHITE_FROM:
        raise DataSetError(
            f"{path}: several gray values, none above {present[-1]}; tumor is white, or one value "
            "other than 0 (not as JPEG, which does not keep it), or mask.json says what the values "
            "mean."
        )
    return (mask > WHITE_FROM).astype(np.uint8)


def fitting_mask(
    mask: NDArray[np.uint8], pixels: NDArray[np.uint8], path: Path
) -> NDArray[np.uint8]:
    """Return the mask at the size of its image; it may be coarser or finer.

    Raises
    ------
    DataSetError
        If its aspect ratio differs.
    """
    rows, columns = pixels.shape[:2]
    if abs(mask.shape[1] * rows / (mask.shape[0] * columns) - 1) > 0.02:
        raise DataSetError(
            f"{path}: a mask of {mask.shape[1]} x {mask.shape[0]} px does not fit an image of "
            f"{columns} x {rows} px."
        )
    return _resized(mask, (columns, rows), cv2.INTER_NEAREST_EXACT)


def glass_of_field(pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Color of the glass of a field, uint8 RGB (rows, columns, 3): median of the brightest 1 %.

    The brightest 10 % of a slide are glass; a field has hardly any glass, and its brightest 10 %
    are pale tissue. If the result is darker than any glass, it is tissue: the usual white is
    assumed.
    """
    flat = pixels.reshape(-1, 3)
    gray = flat.min(axis=1)
    brightest = flat[gray >= np.percentile(gray, 99)]
    r, g, b = (int(v) for v in np.median(brightest, axis=0))
    return (r, g, b) if min(r, g, b) >= DARKEST_GLASS else USUAL_GLASS


def at_tile_mpp(pixels: NDArray[np.uint8], mpp: float, *, labels: bool) -> NDArray[np.uint8]:
    """Resample an image or a mask (`labels`) of `mpp` µm/px to `TILE_MPP`."""
    factor = mpp / TILE_MPP
    if abs(factor - 1) < 0.005:
        return pixels
    rows, columns = (max(1, round(n * factor)) for n in pixels.shape[:2])
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return _resized(pixels, (columns, rows), cv2.INTER_NEAREST_EXACT if labels else smooth)


def cut(pixels: NDArray[np.uint8], *, labels: bool = False) -> NDArray[np.uint8]:
    """Cut an image at `TILE_MPP` into tiles (n, 512, 512[, 3]), row by row, without overlap.

    The grid is centered. A tile short by at most `MOST_FILL` of an edge, or an image smaller than a
    tile, is padded by mirroring (masks: with `IGNORED`).
    """
    counts = [max(1, int(n / TILE_PX + MOST_FILL)) for n in pixels.shape[:2]]
    for axis, count in enumerate(counts):
        spare = pixels.shape[axis] - count * TILE_PX
        if spare >= 0:
            first = spare // 2
            kept = slice(first, first + count * TILE_PX)
            pixels = pixels[kept] if axis == 0 else pixels[:, kept]
        else:
            sides = (-spare // 2, -spare - (-spare // 2))
            width = [sides if k == axis else (0, 0) for k in range(pixels.ndim)]
            if labels:
                pixels = np.pad(pixels, width, constant_values=IGNORED)
            else:
                pixels = np.pad(pixels, width, mode="symmetric")
    rows, columns = counts
    shape = (rows, TILE_PX, columns, TILE_PX, *pixels.shape[2:])
    tiles = pixels.reshape(shape).swapaxes(1, 2)
    return np.ascontiguousarray(tiles).reshape(-1, TILE_PX, TILE_PX, *pixels.shape[2:])


def tumor_share(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of tumor in each tile of masks (n, 512, 512); NaN where less than half is labeled."""
    flat = masks.reshape(len(masks), -1)
    labeled = (flat != IGNORED).sum(axis=1)
    tumor = ((flat > 0) & (flat != IGNORED)).sum(axis=1)
    return np.where(labeled >= flat.shape[1] / 2, tumor / np.maximum(labeled, 1), np.nan)


def _resized(array: NDArray[np.uint8], size: tuple[int, int], how: int) -> NDArray[np.uint8]:
    if array.shape[1::-1] == size:
        return array
    resized: NDArray[np.uint8] = cv2.resize(np.ascontiguousarray(array), size, interpolation=how)
    return resized


def _object(path: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(path.read_text())
    return found
