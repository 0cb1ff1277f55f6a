"""Patches of a slide at a resolution, labeled by the annotation that they meet (arXiv 2503.22069).

Section 2.3 of the paper: patches are cut from slides with partial annotations; one counts for an
annotation that covers 5 % of it or more. Of several the one with the largest share wins, which the
paper leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.annotated import Drawn, Slide, boxes_of, class_raster, drawn_areas
from models.datasets.patients import read_table
from models.datasets.rules import tile_label
from models.errors import DataSetError
from models.patch_counts.patches import CLASSES, UNLABELED, PatchSet, coded
from models.patch_counts.quality import white_share
from models.patch_counts.resolutions import PATCH_PX, RESOLUTIONS
from models.slide_level.cohort import file_below
from models.slide_level.foreground import foreground
from models.spec import Task

_GLASS = 0.99
"""Share of white px from which on a patch is glass alone and is not stored."""
ReadPatch = Callable[[int, int], NDArray[np.uint8]]


class WholeSlide(Slide, Protocol):
    """An open slide that also gives a picture of itself as a whole."""

    def picture(self, mpp: float) -> NDArray[np.uint8]:
        """Return the whole slide at `mpp` µm per px: uint8 RGB (rows, columns, 3), glass at 255."""


def slides_to_cut(table: Path) -> list[tuple[Path, Path | None]]:
    """Return slide and annotations of each row of a CSV table, None where the cell is empty.

    Columns are ``slide`` and optionally ``annotations``; paths are relative to the table.

    Raises
    ------
    DataSetError
        If the table cannot be read, names a file that is missing, or two slides of one name.
    """
    found: list[tuple[Path, Path | None]] = []
    lines: dict[str, int] = {}
    for row in read_table(table, ("slide",), "annotations"):
        where = f"{table}, line {row.line}"
        slide = file_below(table.parent, where, row["slide"])
        marks = row.get("annotations")
        found.append((slide, file_below(table.parent, where, marks) if marks else None))
        first = lines.setdefault(slide.stem, row.line)
        if first != row.line:
            raise DataSetError(f"{where}: a slide of the name {slide.stem} is in line {first}, too")
    return found


def cut_patches(
    name: str,
    slide: WholeSlide,
    annotations: Path | None,
    resolution: str,
    names: Mapping[str, str],
) -> PatchSet:
    """Return the patches of a slide that hold foreground or are annotated, row by row.

    `annotations` is QuPath's GeoJSON in level-0 px, None for a slide without; `names` translates
    its classes. Patches at the right and lower edge are padded with glass.

    Raises
    ------
    DataSetError
        If the annotations are unusable or name an unknown class, or the resolution is unknown.
    """
    if resolution not in RESOLUTIONS:
        raise DataSetError(f"resolution {resolution!r} is none of {', '.join(RESOLUTIONS)}")
    areas = []
    if annotations is not None:
        areas = drawn_areas(annotations, Task.INTENSITY, slide, names)
    mpp = RESOLUTIONS[resolution]
    read = _tile_reader(slide) if resolution == "high" else _picture_reader(slide.picture(mpp))
    parts, places, labels = [], [], []
    boxes = boxes_of(areas)
    for column, row in _cells(slide, areas, mpp):
        pixels = read(column, row)
        if white_share(pixels) >= _GLASS:
            continue
        parts.append(coded(pixels))
        places.append((column, row))
        labels.append(_label(areas, boxes, column, row, slide.mpp / mpp))
    return PatchSet(
        slide=name,
        resolution=resolution,
        coded=tuple(parts),
        places=np.array(places, dtype=np.int32).reshape(-1, 2),
        labels=np.array(labels, dtype=np.int8),
    )


def _tile_reader(slide: WholeSlide) -> ReadPatch:
    """Patches of high resolution are the appliance's tiles, shrunk."""

    def read(column: int, row: int) -> NDArray[np.uint8]:
        tile = slide.tile(column, row)
        small: NDArray[np.uint8] = cv2.resize(
            tile, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA
        )
        return small

    return read


def _picture_reader(picture: NDArray[np.uint8]) -> ReadPatch:
    def read(column: int, row: int) -> NDArray[np.uint8]:
        left, top = column * PATCH_PX, row * PATCH_PX
        part = picture[top : top + PATCH_PX, left : left + PATCH_PX]
        whole = np.full((PATCH_PX, PATCH_PX, 3), 255, dtype=np.uint8)
        whole[: part.shape[0], : part.shape[1]] = part
        return whole

    return read


def _cells(slide: WholeSlide, areas: list[Drawn], mpp: float) -> list[tuple[int, int]]:
    """(column, row) of the patches with foreground or an annotation's box, row by row."""
    edge_um = PATCH_PX * mpp
    columns = math.ceil(slide.width_px * slide.mpp / edge_um - 1e-6)
    rows = math.ceil(slide.height_px * slide.mpp / edge_um - 1e-6)
    wanted = np.zeros((rows, columns), dtype=bool)
    coarse_mpp = RESOLUTIONS["low"]
    y, x = np.nonzero(foreground(slide.picture(coarse_mpp)))
    at = [np.floor((v + 0.5) * coarse_mpp / edge_um).astype(int) for v in (y, x)]
    wanted[np.minimum(at[0], rows - 1), np.minimum(at[1], columns - 1)] = True
    for item in areas:
        box = (v * slide.mpp / edge_um for v in item.area.box_px)
        left, top, right, bottom = (max(0, math.floor(v)) for v in box)
        wanted[top : bottom + 1, left : right + 1] = True
    return [(column, row) for row, column in np.argwhere(wanted).tolist()]


def _label(
    areas: list[Drawn], boxes: NDArray[np.float64], column: int, row: int, scale: float
) -> int:
    if not areas:
        return UNLABELED
    raster = class_raster(areas, boxes, column, row, scale, PATCH_PX)
    shares = np.bincount(raster.ravel(), minlength=CLASSES)[:CLASSES] / raster.size
    label = tile_label(Task.INTENSITY, shares)
    return UNLABELED if label is None else int(label)
