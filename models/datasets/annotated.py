"""Labeled tiles from annotated slides. The caller opens the slides: `Slide` is the protocol.

A network thus learns from exactly the pixels that the appliance will show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.build import Sample
from models.datasets.folders import listed
from models.datasets.geojson import Area, read_annotations
from models.datasets.masked import thinned
from models.datasets.patients import PatientOf, read_table, split_of
from models.datasets.progress import Progress
from models.datasets.rules import class_of, is_ignored, labels_nothing, tile_label
from models.datasets.splits import Split
from models.errors import DataSetError
from models.patch_counts.patches import OVERLAP
from models.patch_counts.quality import clahe, usable
from models.spec import CLASSES, TILE_MPP, TILE_PX, Task

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws with."""
_NOTHING, _PASSED_OVER, _NOT_ASKED = 255, 254, 253
"""Values of a tile's raster: no annotation; one to be ignored; tissue that L is not asked about."""


class Slide(Protocol):
    """An open slide; `mpp` in µm per level-0 px, `offset_px` where QuPath counts from (x, y)."""

    @property
    def width_px(self) -> int: ...
    @property
    def height_px(self) -> int: ...
    @property
    def mpp(self) -> float: ...
    @property
    def offset_px(self) -> tuple[int, int]: ...

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        """A tile of the grid: uint8 RGB (512, 512, 3) at 0.2793 µm/px, glass at 255."""


OpenSlide = Callable[[Path], AbstractContextManager[Slide]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules that turn annotations into labels.

    `names` translates class names. `rest` is the class of tissue without annotation (None: tiles
    without annotation are left out). `equalise` applies CLAHE.
    """

    names: Mapping[str, str]
    rest: str | None = None
    equalise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedSlide:
    """A slide's file, its annotations in QuPath's GeoJSON, and its patient."""

    slide: Path
    annotations: Path
    patient: str
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """An annotated area with the index of its class."""

    area: Area
    label: int


def annotated_samples(
    table: Path, task: Task, open_slide: OpenSlide, rules: Rules, progress: Progress
) -> Iterator[Sample]:
    """Yield tiles of the slides in a CSV table with columns ``slide``, ``annotations``, ``patient``
    and optionally ``split``.

    Paths are relative to the table. Tiles are those of `samples_of_slides`.

    Raises
    ------
    DataSetError
        If the table is unusable, or as `samples_of_slides`.
    """
    return samples_of_slides(slides_of_table(table), task, open_slide, rules, progress)


def slides_of_table(table: Path) -> list[AnnotatedSlide]:
    """Rows of a CSV table with columns ``slide``, ``annotations``, ``patient``, ``split``.

    Raises
    ------
    DataSetError
        If the table is unusable, or names a slide or a file of annotations twice.
    """
    rows = read_table(table, ("slide", "annotations", "patient"), "split")
    found = [
        AnnotatedSlide(
            slide=table.parent / row["slide"],
            annotations=table.parent / row["annotations"],
            patient=row["patient"],
            split=split_of(row),
        )
        for row in rows
    ]
    _check_once(found, [f"{table}, line {row.line}" for row in rows])
    return found


def _check_once(slides: Sequence[AnnotatedSlide], where: Sequence[str]) -> None:
    """Check that no file is there twice: its tiles would count twice, or for two patients."""
    first: dict[Path, str] = {}
    drawn: dict[Path, str] = {}
    for each, place in zip(slides, where, strict=True):
        if (other := first.setdefault(each.slide.resolve(), place)) != place:
            raise DataSetError(
                f"{place}: the slide {each.slide.name} is in {other}, too. Name it once; one "
                "GeoJSON file can hold all its annotations."
            )
        if (other := drawn.setdefault(each.annotations.resolve(), place)) != place:
            raise DataSetError(
                f"{place}: the annotations {each.annotations.name} are those of {other}, too. They "
                "are drawn on one slide: correct one of them."
            )


def slides_of_folder(
    folder: Path, patient_of: PatientOf | None = None, *, suffixes: Collection[str] = ()
) -> list[AnnotatedSlide]:
    """Slides below `folder` that have a GeoJSON file of their name beside them.

    The file is called ``NAME.geojson`` or ``NAME.svs.geojson``. A file with one of the `suffixes`
    of slides precedes folders (as of MRXS) and other files of its name; what is hidden is none of
    them. The patient is that of `patient_of`
    (given the slide's path below `folder`), by default the folder below `folder`, else the slide.

    Raises
    ------
    DataSetError
        If a GeoJSON file has no slide, or several, a slide has several such files, or the patient
        is unknown.
    """
    found = []
    for marks in sorted(folder.rglob("*.geojson")):
        if any(part.startswith(".") for part in marks.relative_to(folder).parts):
            continue
        name = marks.stem
        beside = [path for path in listed(marks.parent) if path != marks]
        named = [path for path in beside if name in (path.name, path.stem)]
        slides = [p for p in named if p.suffix.lower() in suffixes and p.is_file()] or named
        if len(slides) != 1:
            many = ", ".join(sorted(path.name for path in slides)) or "none"
            raise DataSetError(f"{marks}: needs one slide of its name beside it; there is {many}.")
        inside = PurePosixPath(slides[0].relative_to(folder).as_posix())
        patient = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        split = None
        if patient_of is not None:
            patient, split = patient_of(inside)
        found.append(
            AnnotatedSlide(slide=slides[0], annotations=marks, patient=patient, split=split)
        )
    _check_once(found, [str(each.annotations) for each in found])
    return found


def samples_of_slides(
    annotated: Sequence[AnnotatedSlide],
    task: Task,
    open_slide: OpenSlide,
    rules: Rules,
    progress: Progress,
    *,
    ignored: int | None = None,
    named: bool = False,
) -> Iterator[Sample]:
    """Yield the labeled tiles of annotated slides.

    A tile counts if 5 % of it are annotated and it is neither too white nor too black; see `rules`.
    The smaller of overlapping areas wins. All annotations are read before the first tile. Px to be
    ignored get the value `ignored` in label maps. A data set has none: tiles with 5 % of them are
    left out. `named`: origins name the slide's file.

    Raises
    ------
    DataSetError
        If an annotation or class is unusable, or a slide gives no tile; `open_slide` has others.
    """
    rest = None if rules.rest is None else class_of(task, rules.rest, {})
    if rest is not None and task is not Task.TUMOR:
        raise DataSetError(f"--rest is for tumor: {task} is asked about annotated tumor only")
    slides, done = [], 0
    for each in annotated:
        with open_slide(each.slide) as slide:
            drawn = drawn_areas(each.annotations, task, slide, rules.names)
            cells = _cells(slide, drawn, everything=rest is not None)
        slides.append((each, drawn, cells))
    total = sum(len(cells) for _, _, cells in slides)
    for number, (each, drawn, cells) in enumerate(slides, 1):
        found, boxes = 0, boxes_of(drawn)
        origin = str(each.slide) if named else f"slide {number} of the table"
        with open_slide(each.slide) as slide:
            for column, line in cells:
                done += 1
                progress("cutting tiles", done, total)
                raster = class_raster(drawn, boxes, column, line, slide.mpp / TILE_MPP)
                label = _label(task, raster, rest, ignored)
                if label is None:
                    continue
                pixels = slide.tile(column, line)
                if not usable(pixels):
                    continue
                found += 1
                yield Sample(
                    pixels=clahe(pixels) if rules.equalise else pixels,
                    label=label,
                    patient=each.patient,
                    split=each.split,
                    origin=f"{origin}, column {column}, row {line}",
                    annotated=_annotated(raster, everything=rest is not None),
                )
        if not found:
            raise DataSetError(
                f"{each.slide}: no tile: what is annotated covers no tile by 5 %, or is glass or "
                "ignored"
            )


def drawn_areas(path: Path, task: Task, slide: Slide, names: Mapping[str, str]) -> list[Drawn]:
    """Return the annotated areas of a slide, largest first.

    Raises
    ------
    DataSetError
        If the file is unusable or names an unknown class.
    """
    drawn = []
    for area in read_annotations(path, slide.width_px, slide.height_px, slide.offset_px):
        if labels_nothing(area.name, names):
            continue
        try:
            label = class_of(task, area.name, names)
        except DataSetError as err:
            raise DataSetError(f"{path}, feature {area.number}: {err}") from err
        if label is None:
            label = _PASSED_OVER if is_ignored(area.name, names) else _NOT_ASKED
        drawn.append(Drawn(area, label))
    return sorted(drawn, key=lambda item: -item.area.size_px2)


def _cells(slide: Slide, drawn: list[Drawn], *, everything: bool) -> list[tuple[int, int]]:
    """(column, row) of the candidate tiles, row by row."""
    tile_px = TILE_PX * TILE_MPP / slide.mpp  # level-0 px
    columns = math.ceil(slide.width_px / tile_px - 1e-6)
    rows = math.ceil(slide.height_px / tile_px - 1e-6)
    wanted = np.zeros((rows, columns), dtype=bool)
    if everything:
        wanted[:] = True
    for item in drawn:
        left, top, right, bottom = (max(0, math.floor(v / tile_px)) for v in item.area.box_px)
        wanted[top : bottom + 1, left : right + 1] = True
    return [(column, row) for row, column in np.argwhere(wanted).tolist()]


def boxes_of(drawn: Sequence[Drawn]) -> NDArray[np.float64]:
    """Return left, top, right, bottom of areas in level-0 px, (n, 4), for `class_raster`."""
    return np.array([item.area.box_px for item in drawn], dtype=np.float64).reshape(-1, 4)


def class_raster(
    drawn: Sequence[Drawn],
    boxes: NDArray[np.float64],
    column: int,
    row: int,
    scale: float,
    px: int = TILE_PX,
) -> NDArray[np.uint8]:
    """Return the class per px of a tile, uint8 (`px`, `px`): 255 without annotation, 254 ignored,
    253 tissue of which no class is asked.

    `boxes` are those of `drawn`; `scale` is px of tiles per level-0 px. Smaller areas lie
    over larger ones.
    """
    raster = np.full((px, px), _NOTHING, dtype=np.uint8)
    corner = np.array([column, row]) * px
    # A file may have areas by the ten thousand, of which a tile has a few.
    low, high = boxes[:, :2] * scale, boxes[:, 2:] * scale
    for number in np.flatnonzero(((high >= corner) & (low <= corner + px)).all(axis=1)).tolist():
        item = drawn[number]
        # Px i of a raster covers i to i + 1; OpenCV puts its center at i.
        rings = [
            np.round((ring * scale - corner - 0.5) * 2**_SHIFT).astype(np.int32)
            for ring in item.area.rings
        ]
        cv2.fillPoly(raster, rings, item.label, shift=_SHIFT)  # even-odd: holes stay open
    return raster


def _annotated(raster: NDArray[np.uint8], *, everything: bool) -> float:
    """Share of a tile of which the tissue is named; `everything`: what is not annotated is, too.

    What is to be ignored is not.
    """
    without = raster == _PASSED_OVER
    if not everything:
        without |= raster == _NOTHING
    return 1 - float(without.mean())


def _label(
    task: Task, raster: NDArray[np.uint8], rest: int | None, ignored: int | None
) -> int | NDArray[np.uint8] | None:
    counts = np.bincount(raster.ravel(), minlength=_NOTHING + 1)
    shares = counts[: len(CLASSES[task])] / raster.size
    if rest is not None:
        shares[rest] += counts[_NOTHING] / raster.size
    label = tile_label(task, shares)
    if task is not Task.SEGMENTATION or label is None:
        return label
    if ignored is None and counts[_PASSED_OVER] >= OVERLAP * raster.size:
        return None
    classes = np.where(raster == _PASSED_OVER, ignored or 0, raster).astype(np.uint8)
    classes[raster == _NOTHING] = 0
    return thinned(classes)
