"""Reader M: class of every px of a HER2 slide's tiles, with cells and control tissue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from appliance.domain import HER2, Stain
from appliance.findings.classes import CLASS_NAMES, count_classes
from appliance.findings.codec import IHC_CLASSES
from appliance.findings.label_map import LabelWriter, StoredLabels
from appliance.findings.opinion import Opinion, shares
from appliance.geometry import TILE_PX
from appliance.readers.cell_lane import CellLane
from appliance.readers.cell_tally import CellTally
from appliance.readers.control import ControlReading, ControlTissue, find_control
from appliance.readers.networks import network_for
from appliance.readers.opinions import load_opinion, reference_to, save_opinion
from appliance.readers.reader import Batch, Needs, TileInput, reader
from appliance.readers.tile_pass import spread
from appliance.slides.artefacts import find_pen
from appliance.slides.raster import RasterGrid
from appliance.slides.stream import TileStream
from models.spec import Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

RASTER_UM = 1.117
"""Wanted resolution of the label map: M answers at a quarter of `TILE_MPP`."""
CELL_TILES = 200
"""Tiles whose cells are measured, 4 mm², unless ``every_cell`` is asked for."""
TILES_NAME, CELLS_NAME, CONTROL_NAME = "tiles.npz", "cells.json", "control.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationReading:
    """Answers of M on n tiles, row by row of the grid; the opinion is that on judged tiles
    without control tissue.

    Attributes
    ----------
    places, judged, counts
        int32 (n, 2), column and row; bool (n,), false for a tile of the margin; int64 (n, 5), px
        per class of the label map.
    on_control
        bool (n,): the tile holds control tissue.
    cells
        Tally of the judged tiles whose cells were measured, by tile number.
    labels, mpp
        Label map of the slide (uint8, 0-4), margin included, and its µm per px.
    unreadable_control_percent
        Share (0-100) of the control tissue's tiles that the file does not give.
    """

    opinion: Opinion
    places: NDArray[np.int32]
    judged: NDArray[np.bool_]
    counts: NDArray[np.int64]
    on_control: NDArray[np.bool_]
    cells: Mapping[int, CellTally]
    labels: StoredLabels
    mpp: float
    control: ControlReading
    unreadable_control_percent: float


class SegmentationSession:
    """Reading of one slide by M."""

    def __init__(self, given: TileInput, network: Network) -> None:
        self.network = network
        self.px = TILE_PX
        self._given = given
        self._with_cells = (
            frozenset(given.tiles)
            if given.options.get("every_cell", False)
            else spread(given.tiles, CELL_TILES)
        )
        self._raster = RasterGrid.of(given.slide.facts, RASTER_UM)
        self._path = given.out / IHC_CLASSES
        self._labels = LabelWriter(self._path, self._raster)
        self._cells = CellLane()
        # Preallocate: retained outputs would fragment the memory of the networks.
        most = len(given.tiles) + len(given.margin)
        self._places = np.zeros((most, 2), dtype=np.int32)
        self._judged = np.zeros(most, dtype=bool)
        self._counts = np.zeros((most, 5), dtype=np.int64)
        self._known = 0
        self._open = True

    def answer(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label maps (N, h, w)."""
        return self.network.segment(pixels)

    def take(self, batch: Batch, answer: NDArray[np.uint8]) -> None:
        """Paint the label map and count px; measure cells of judged tiles."""
        for index, tile, labels, judged in zip(
            batch.tiles, batch.pixels, answer, batch.judged, strict=True
        ):
            self._labels.paint(index, labels)
            if index in self._with_cells:
                self._cells.measure(self._known, tile, labels)
            self._places[self._known] = index.column, index.row
            self._judged[self._known] = judged
            self._counts[self._known] = count_classes(labels)
            self._known += 1

    def finish(self) -> SegmentationReading:
        """Reading, with the share of each class of the scored tumor px as the opinion."""
        tallies = self._cells.tallies()
        self._labels.close(whole=True)
        self._open = False
        places, judged = self._places[: self._known], self._judged[: self._known]
        control, on_control, lost = self._control(places)
        counts = self._counts[: self._known]
        # As the score, which no tile on control tissue counts for.
        tumor = counts[judged & ~on_control].sum(axis=0)[1:].tolist()
        classes, probabilities = shares(dict(zip(CLASS_NAMES, tumor, strict=True)))
        opinion = Opinion(
            reader=SegmentationReader.name,
            version=SegmentationReader.version,
            about="score",
            weights=reference_to(self.network.spec),
            classes=classes,
            probabilities=probabilities,
            raster="ihc_classes",
        )
        return SegmentationReading(
            opinion=opinion,
            places=places,
            judged=judged,
            counts=counts,
            on_control=on_control,
            cells=tallies,
            labels=StoredLabels.open(self._path),
            mpp=self._raster.mpp,
            control=control,
            unreadable_control_percent=lost,
        )

    def close(self) -> None:
        """End the threads; leave a label map that was not finished as it is."""
        self._cells.close()
        if self._open:
            self._labels.close(whole=False)
            self._open = False

    def _control(
        self, places: NDArray[np.int32]
    ) -> tuple[ControlReading, NDArray[np.bool_], float]:
        """Control tissue; whether the tiles at `places` hold it; share (0-100) not decoded."""
        beside = self._given.beside
        if beside is None:
            return ControlReading(area_mm2=0.0, counts=[]), np.zeros(len(places), dtype=bool), 0.0
        tissue = self._given.tissue
        pen = find_pen(self._given.picture, tissue)
        control = find_control(beside.mapping, beside.tissue, tissue, pen)
        counts, lost = self._read_control(control)
        held = control.share(self._given.slide.grid) > 0
        on_control: NDArray[np.bool_] = held[places[:, 1], places[:, 0]]
        return ControlReading(area_mm2=control.area_mm2, counts=counts), on_control, lost

    def _read_control(self, control: ControlTissue) -> tuple[list[list[int]], float]:
        """Px per class on each control tile, and the share (0-100) that cannot be decoded."""
        slide = self._given.slide
        batch_size = self._given.settings.models.batch_size or self.network.fitting_batch()
        stream = TileStream(
            slide, control.tiles(slide.grid), self._given.tissue.white_rgb, batch_size
        )
        counts = [
            count_classes(control.within(index, labels)).tolist()
            for indices, pixels in stream
            for index, labels in zip(indices, self.network.segment(pixels), strict=True)
        ]
        return counts, stream.unreadable_percent


@reader
class SegmentationReader:
    """M, on the HER2 tiles that have a tumor partner, the margin, and control tissue."""

    name: ClassVar[str] = "segmentation"
    version: ClassVar[int] = 10
    needs: ClassVar[Needs] = "tiles"
    stains: ClassVar[tuple[Stain, ...]] = (HER2,)
    task: ClassVar[Task | None] = Task.SEGMENTATION

    def begin(self, given: TileInput) -> SegmentationSession:
        """Begin a slide."""
        return SegmentationSession(given, network_for(Task.SEGMENTATION, given.settings))

    def save(self, reading: SegmentationReading, folder: Path) -> None:
        """Write all but the label map, which the session wrote as it went."""
        np.savez_compressed(
            folder / TILES_NAME,
            places=reading.places,
            judged=reading.judged,
            counts=reading.counts,
            on_control=reading.on_control,
            mpp=reading.mpp,
        )
        cells = {number: asdict(tally) for number, tally in reading.cells.items()}
        (folder / CELLS_NAME).write_text(json.dumps(cells))
        control = asdict(reading.control)
        control["unreadable_percent"] = reading.unreadable_control_percent
        (folder / CONTROL_NAME).write_text(json.dumps(control))
        save_opinion(reading.opinion, folder)

    def load(self, folder: Path) -> SegmentationReading:
        """Read what the session and `save` wrote."""
        cells = json.loads((folder / CELLS_NAME).read_text())
        control = json.loads((folder / CONTROL_NAME).read_text())
        lost = control.pop("unreadable_percent")
        with np.load(folder / TILES_NAME, allow_pickle=False) as arrays:
            return SegmentationReading(
                opinion=load_opinion(folder),
                places=arrays["places"],
                judged=arrays["judged"],
                counts=arrays["counts"],
                on_control=arrays["on_control"],
                cells={
                    int(number): CellTally(**{name: tuple(v) for name, v in tally.items()})
                    for number, tally in cells.items()
                },
                labels=StoredLabels.open(folder / IHC_CLASSES),
                mpp=float(arrays["mpp"]),
                control=ControlReading(**control),
                unreadable_control_percent=float(lost),
            )
