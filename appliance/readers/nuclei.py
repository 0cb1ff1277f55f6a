"""Reader of nuclei: stain of the tumor nuclei of an ER or PR slide, without a network.

Where tumor is, C says on the H&E slide: the tiles that are judged have a tumor partner. Which
nuclei of a tile are the tumor's, size and shape say (`appliance.readers.stained_nuclei`). Beside
them the reader looks where stain must be if the run worked: at control tissue, and at tissue
outside the tumor, whose epithelium is the internal control.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from appliance.domain import ER, PR, Stain
from appliance.findings.classes import NUCLEAR_CLASSES, count_classes
from appliance.findings.codec import IHC_CLASSES
from appliance.findings.label_map import LabelWriter, StoredLabels
from appliance.findings.opinion import Opinion, shares
from appliance.geometry import TILE_PX, TileIndex
from appliance.readers.control import ControlReading, find_control
from appliance.readers.opinions import load_opinion, save_opinion
from appliance.readers.reader import Batch, Needs, Options, TileInput, reader
from appliance.readers.stained_nuclei import TileNuclei, measure_nuclei, paint_classes
from appliance.readers.tile_pass import PLAIN_BATCH, row_by_row, spread
from appliance.slides.artefacts import find_pen
from appliance.slides.raster import RasterGrid
from appliance.slides.stream import DECODE_THREADS, TileStream
from appliance.slides.tissue import tissue_share, tissue_tiles
from models.spec import Task

RASTER_UM = 1.117
"""Wanted resolution of the label map, as of M's: a nucleus is some 8 px wide."""
FEWEST_NUCLEI = 20
"""Nuclei of a tile, some 1,000 per mm², below which its blue ones were perhaps not seen. Where all
are brown, none is blue either, but there are more of them."""
OUTSIDE_TILES = 40
"""Tissue tiles outside the tumor whose nuclei are looked at as internal control."""
TILES_NAME, CONTROL_NAME = "tiles.npz", "control.json"
Limits = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NucleiReading:
    """Nuclei of n tiles, row by row of the grid; the opinion is that on judged tiles.

    Attributes
    ----------
    places, judged
        int32 (n, 2), column and row; bool (n,), false for a tile of the margin.
    counts
        int64 (n, 4): nuclei with the shape of a tumor nucleus, by class: negative to strong.
    label_px
        int64 (n, 5): px per class of the label map.
    brown_px
        int64 (n, 2): brown px near these nuclei, and those of them in pieces as wide as nuclei.
    pigment
        int64 (n,): counted stained nuclei whose brown looks like pigment.
    unseen
        bool (n,): no blue nucleus stands out, and fewer than `FEWEST_NUCLEI` were counted.
    blurred
        bool (n,): the tile is out of focus.
    on_control
        bool (n,): the tile holds control tissue.
    outside
        Nuclei of the same shape per class on tissue outside the tumor, and brown px as above.
    control_nuclei, control_brown_px, control_pigment
        int64 (m, 4), (m, 2) and (m,): nuclei per class on control tissue, of the tiles of
        `control.counts`, and brown px and pigment of these tiles as above.
    labels, mpp
        Label map of the slide (uint8, 0-4), margin included, and its µm per px.
    unreadable_control_percent
        Share (0-100) of the tiles of control tissue that the file does not give.
    """

    opinion: Opinion
    places: NDArray[np.int32]
    judged: NDArray[np.bool_]
    counts: NDArray[np.int64]
    label_px: NDArray[np.int64]
    brown_px: NDArray[np.int64]
    pigment: NDArray[np.int64]
    unseen: NDArray[np.bool_]
    blurred: NDArray[np.bool_]
    on_control: NDArray[np.bool_]
    outside: OutsideReading
    control: ControlReading
    control_nuclei: NDArray[np.int64]
    control_brown_px: NDArray[np.int64]
    control_pigment: NDArray[np.int64]
    labels: StoredLabels
    mpp: float
    unreadable_control_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideReading:
    """Nuclei outside the tumor: tiles read, nuclei per class, and the rest as `NucleiReading`'s."""

    tiles: int
    counts: tuple[int, ...]
    pigment: int
    brown_px: int
    wide_px: int


class NucleiSession:
    """Reading of one slide; `options` holds the least DAB of weak, moderate and strong nuclei."""

    def __init__(self, given: TileInput) -> None:
        self.network = None
        self.px = TILE_PX
        self._given = given
        self._limits = limits_of(given.options)
        self._raster = RasterGrid.of(given.slide.facts, RASTER_UM)
        self._path = given.out / IHC_CLASSES
        self._labels = LabelWriter(self._path, self._raster)
        self._pool = ThreadPoolExecutor(max(1, DECODE_THREADS // 2), thread_name_prefix="nuclei")
        self._places: list[tuple[int, int]] = []
        self._judged: list[bool] = []
        self._counts: list[NDArray[np.int64]] = []
        self._label_px: list[NDArray[np.int64]] = []
        self._brown_px: list[tuple[int, int]] = []
        self._pigment: list[int] = []
        self._unseen: list[bool] = []
        self._blurred: list[bool] = []
        self._control_nuclei: list[NDArray[np.int64]] = []
        self._control_brown_px: list[tuple[int, int]] = []
        self._control_pigment: list[int] = []
        self._open = True

    def answer(self, pixels: NDArray[np.uint8]) -> list[TileNuclei]:
        """Nuclei of each tile."""
        return list(self._pool.map(measure_nuclei, pixels))

    def take(self, batch: Batch, answer: Sequence[TileNuclei]) -> None:
        """Paint the label map and count nuclei."""
        for index, found, judged in zip(batch.tiles, answer, batch.judged, strict=True):
            labels = paint_classes(found, grades(found.stain_od, self._limits))
            self._labels.paint(index, labels)
            self._places.append((index.column, index.row))
            self._judged.append(judged)
            counts = count_nuclei(found, self._limits)
            self._counts.append(counts)
            self._pigment.append(count_pigment(found, self._limits))
            self._blurred.append(found.blurred)
            self._unseen.append(found.brown_alone and int(counts.sum()) < FEWEST_NUCLEI)
            self._label_px.append(count_classes(labels))
            self._brown_px.append((found.brown_px, found.wide_px))

    def finish(self) -> NucleiReading:
        """Reading, with the share of each class of the scored tiles' nuclei as the opinion."""
        self._labels.close(whole=True)
        self._open = False
        judged = np.array(self._judged, dtype=bool)
        counts = np.array(self._counts, dtype=np.int64).reshape(-1, 4)
        control, control_tiles, lost = self._control()
        on_control = np.array([TileIndex(*p) in control_tiles for p in self._places], dtype=bool)
        # As the score, which no tile on control tissue counts for.
        total = counts[judged & ~on_control].sum(axis=0).tolist()
        classes, probabilities = shares(dict(zip(NUCLEAR_CLASSES, total, strict=True)))
        return NucleiReading(
            opinion=Opinion(
                reader=NucleiReader.name,
                version=NucleiReader.version,
                about="score",
                weights=None,
                classes=classes,
                probabilities=probabilities,
                raster="ihc_classes",
            ),
            places=np.array(self._places, dtype=np.int32).reshape(-1, 2),
            judged=judged,
            counts=counts,
            label_px=np.array(self._label_px, dtype=np.int64).reshape(-1, 5),
            brown_px=np.array(self._brown_px, dtype=np.int64).reshape(-1, 2),
            pigment=np.array(self._pigment, dtype=np.int64),
            unseen=np.array(self._unseen, dtype=bool),
            blurred=np.array(self._blurred, dtype=bool),
            on_control=on_control,
            outside=self._outside(control_tiles),
            control=control,
            control_nuclei=np.array(self._control_nuclei, dtype=np.int64).reshape(-1, 4),
            control_brown_px=np.array(self._control_brown_px, dtype=np.int64).reshape(-1, 2),
            control_pigment=np.array(self._control_pigment, dtype=np.int64),
            labels=StoredLabels.open(self._path),
            mpp=self._raster.mpp,
            unreadable_control_percent=lost,
        )

    def close(self) -> None:
        """End the threads; leave a label map that was not finished as it is."""
        self._pool.shutdown(cancel_futures=True)
        if self._open:
            self._labels.close(whole=False)
            self._open = False

    def _control(self) -> tuple[ControlReading, frozenset[TileIndex], float]:
        """Control tissue, all tiles that hold some, and the share (0-100) that was not given."""
        given = self._given
        if given.beside is None:
            return ControlReading(area_mm2=0.0, counts=[]), frozenset(), 0.0
        tissue, slide = given.tissue, given.slide
        pen = find_pen(given.picture, tissue)
        control = find_control(given.beside.mapping, given.beside.tissue, tissue, pen)
        stream = self._stream(control.tiles(slide.grid))
        counts = []
        for index, pixels in _one_by_one(stream):
            found = measure_nuclei(pixels)
            labels = paint_classes(found, grades(found.stain_od, self._limits))
            counts.append(count_classes(control.within(index, labels)).tolist())
            within = nuclei_in(found, control.holds(index, found.raster.shape))
            self._control_nuclei.append(count_nuclei(within, self._limits))
            self._control_pigment.append(count_pigment(within, self._limits))
            self._control_brown_px.append((found.brown_px, found.wide_px))
        rows, columns = np.nonzero(control.share(slide.grid) > 0)
        tiles = frozenset(TileIndex(int(c), int(r)) for r, c in zip(rows, columns, strict=True))
        reading = ControlReading(area_mm2=control.area_mm2, counts=counts)
        return reading, tiles, stream.unreadable_percent

    def _outside(self, control: frozenset[TileIndex]) -> OutsideReading:
        """Nuclei of some tissue tiles outside the tumor and its neighborhood of one tile."""
        given = self._given
        tumor = {
            TileIndex(tile.column + right, tile.row + down)
            for tile in given.tiles
            for right in (-1, 0, 1)
            for down in (-1, 0, 1)
        }
        tissue = tissue_tiles(tissue_share(given.tissue, given.slide.grid))
        rest = [tile for tile in tissue if tile not in tumor and tile not in control]
        wanted = sorted(spread(rest, OUTSIDE_TILES), key=row_by_row)
        found = [measure_nuclei(pixels) for _, pixels in _one_by_one(self._stream(wanted))]
        none = np.zeros(4, dtype=np.int64)
        counts = sum((count_nuclei(each, self._limits) for each in found), start=none)
        return OutsideReading(
            tiles=len(found),
            counts=tuple(counts.tolist()),
            pigment=sum(count_pigment(each, self._limits) for each in found),
            brown_px=sum(each.brown_px for each in found),
            wide_px=sum(each.wide_px for each in found),
        )

    def _stream(self, tiles: Sequence[TileIndex]) -> TileStream:
        given = self._given
        return TileStream(given.slide, tiles, given.tissue.white_rgb, PLAIN_BATCH)


def _one_by_one(stream: TileStream) -> Iterator[tuple[TileIndex, NDArray[np.uint8]]]:
    """Yield the tiles that the file gives with their px, whose memory is used again."""
    for indices, pixels in stream:
        yield from zip(indices, pixels, strict=True)


@reader
class NucleiReader:
    """Color deconvolution on the tiles of an ER or PR slide that have a tumor partner."""

    name: ClassVar[str] = "nuclei"
    version: ClassVar[int] = 7
    needs: ClassVar[Needs] = "tiles"
    stains: ClassVar[tuple[Stain, ...]] = (ER, PR)
    task: ClassVar[Task | None] = None

    def begin(self, given: TileInput) -> NucleiSession:
        """Begin a slide."""
        return NucleiSession(given)

    def save(self, reading: NucleiReading, folder: Path) -> None:
        """Write all but the label map, which the session wrote as it went."""
        np.savez_compressed(
            folder / TILES_NAME,
            places=reading.places,
            judged=reading.judged,
            counts=reading.counts,
            label_px=reading.label_px,
            brown_px=reading.brown_px,
            pigment=reading.pigment,
            unseen=reading.unseen,
            blurred=reading.blurred,
            on_control=reading.on_control,
            control_nuclei=reading.control_nuclei,
            control_brown_px=reading.control_brown_px,
            control_pigment=reading.control_pigment,
            mpp=reading.mpp,
            unreadable_control_percent=reading.unreadable_control_percent,
        )
        beside = {"control": asdict(reading.control), "outside": asdict(reading.outside)}
        (folder / CONTROL_NAME).write_text(json.dumps(beside))
        save_opinion(reading.opinion, folder)

    def load(self, folder: Path) -> NucleiReading:
        """Read what the session and `save` wrote."""
        beside = json.loads((folder / CONTROL_NAME).read_text())
        outside = beside["outside"]
        with np.load(folder / TILES_NAME, allow_pickle=False) as arrays:
            return NucleiReading(
                opinion=load_opinion(folder),
                places=arrays["places"],
                judged=arrays["judged"],
                counts=arrays["counts"],
                label_px=arrays["label_px"],
                brown_px=arrays["brown_px"],
                pigment=arrays["pigment"],
                unseen=arrays["unseen"],
                blurred=arrays["blurred"],
                on_control=arrays["on_control"],
                outside=OutsideReading(**outside | {"counts": tuple(outside["counts"])}),
                control=ControlReading(**beside["control"]),
                control_nuclei=arrays["control_nuclei"],
                control_brown_px=arrays["control_brown_px"],
                control_pigment=arrays["control_pigment"],
                labels=StoredLabels.open(folder / IHC_CLASSES),
                mpp=float(arrays["mpp"]),
                unreadable_control_percent=float(arrays["unreadable_control_percent"]),
            )


def limits_of(options: Options) -> Limits:
    """Least stain of a weak, a moderate and a strong nucleus, of an assay's options."""
    weak, moderate, strong = options["limits_od"]
    return float(weak), float(moderate), float(strong)


def grades(stain_od: NDArray[np.float32], limits: Limits) -> NDArray[np.uint8]:
    """Grade (0-3) of each nucleus: uint8 (n,); a stain on a limit belongs to the higher grade."""
    found: NDArray[np.uint8] = np.searchsorted(np.array(limits), stain_od, side="right").astype(
        np.uint8
    )
    return found


def nuclei_in(found: TileNuclei, held: NDArray[np.bool_]) -> TileNuclei:
    """Return a tile's nuclei without counting those of which most lies outside of `held`.

    `held` is bool of the shape of `TileNuclei.raster`.
    """
    n = len(found.counted) + 1
    whole = np.bincount(found.raster.ravel(), minlength=n)
    inside = np.bincount(found.raster[held], minlength=n)
    return replace(found, counted=found.counted & (2 * inside > whole)[1:])


def count_nuclei(found: TileNuclei, limits: Limits) -> NDArray[np.int64]:
    """Counted nuclei of a tile per class: int64 (4,)."""
    graded = grades(found.stain_od[found.counted], limits)
    return np.bincount(graded, minlength=len(NUCLEAR_CLASSES)).astype(np.int64)


def count_pigment(found: TileNuclei, limits: Limits) -> int:
    """Counted stained nuclei of a tile whose brown looks like pigment."""
    stained = grades(found.stain_od, limits) > 0
    return int(np.count_nonzero(found.counted & found.pigment & stained))
