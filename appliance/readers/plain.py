"""Plain reader: HER2 classes of cells by color deconvolution, nuclei and rings of DAB.

It uses no network and learnt nothing but a few limits, so it fails elsewhere than networks do. Its
opinion is shown and compared with the score. It also looks on the overview for strong stain outside
the tumor (`appliance.readers.outside`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.domain import HER2, Stain
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.measured import StainFocus
from appliance.findings.opinion import Opinion, shares
from appliance.geometry import TILE_PX, TileIndex
from appliance.readers.cells import measure_cells
from appliance.readers.control import find_control
from appliance.readers.opinions import load_opinion, save_opinion
from appliance.readers.outside import focus_on_overview
from appliance.readers.reader import Batch, Needs, TileInput, reader
from appliance.readers.tile_pass import spread
from appliance.slides.artefacts import find_pen
from models.spec import Task

OUTSIDE_NAME = "outside.json"
PLAIN_TILES = 60
"""Tiles of a slide that are measured, at some tens of ms each."""
MIN_CELLS = 100
"""Least number of cells of an opinion."""
TISSUE_OD = 0.06
"""Mean optical density above which a place of 1.1 µm is tissue."""
STAINED_SHARE = 0.3
"""Stained share of the outline (0-1) from which a cell is not 0."""
COMPLETE_SHARE = 0.65
"""The same from which a membrane may be 2+ or 3+; below it, staining is incomplete: 1+."""
MODERATE_OD, STRONG_OD = 0.5, 1.6
"""Mean DAB of the stained outline as optical density from which a complete membrane is 2+, 3+."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainReading:
    """The opinion: share of the measured cells in each class.

    `outside` is the largest strongly stained focus of the overview outside the tumor.
    """

    opinion: Opinion
    outside: StainFocus | None = None


class PlainSession:
    """Reading of one slide by color; without `MIN_CELLS` cells nothing is judged."""

    def __init__(self, given: TileInput) -> None:
        self.network = None
        self.px = TILE_PX
        self._given = given
        self._wanted = spread(_scored(given), PLAIN_TILES)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="plain")
        self._counts: list[Future[NDArray[np.int64]]] = []

    def answer(self, pixels: NDArray[np.uint8]) -> None:
        """Nothing: cells are measured beside the networks."""

    def take(self, batch: Batch, answer: None) -> None:
        """Queue the tiles that are measured."""
        for index, tile, judged in zip(batch.tiles, batch.pixels, batch.judged, strict=True):
            if judged and index in self._wanted:
                self._counts.append(self._pool.submit(count_cells, tile.copy()))

    def finish(self) -> PlainReading:
        """Reading, with the share of cells in each class as the opinion."""
        counts = sum((f.result() for f in self._counts), start=np.zeros(4, dtype=np.int64))
        counts = counts if counts.sum() >= MIN_CELLS else 0 * counts
        classes, probabilities = shares(dict(zip(CLASS_NAMES, counts.tolist(), strict=True)))
        return PlainReading(
            opinion=Opinion(
                reader=PlainReader.name,
                version=PlainReader.version,
                about="score",
                weights=None,
                classes=classes,
                probabilities=probabilities,
            ),
            outside=focus_on_overview(self._given, PlainReader.name),
        )

    def close(self) -> None:
        """End the thread; tiles that wait are dropped."""
        self._pool.shutdown(cancel_futures=True)


@reader
class PlainReader:
    """Color deconvolution, on some HER2 tiles with a tumor partner and on the overview."""

    name: ClassVar[str] = "plain"
    version: ClassVar[int] = 3
    needs: ClassVar[Needs] = "tiles"
    stains: ClassVar[tuple[Stain, ...]] = (HER2,)
    task: ClassVar[Task | None] = None

    def begin(self, given: TileInput) -> PlainSession:
        """Begin a slide."""
        return PlainSession(given)

    def save(self, reading: PlainReading, folder: Path) -> None:
        """Write the opinion and ``outside.json``."""
        save_opinion(reading.opinion, folder)
        focus = None if reading.outside is None else asdict(reading.outside)
        (folder / OUTSIDE_NAME).write_text(json.dumps(focus))

    def load(self, folder: Path) -> PlainReading:
        """Read what `save` wrote."""
        focus = json.loads((folder / OUTSIDE_NAME).read_text())
        return PlainReading(
            opinion=load_opinion(folder), outside=None if focus is None else StainFocus(**focus)
        )


def _scored(given: TileInput) -> Sequence[TileIndex]:
    """Judged tiles without control tissue, as the score counts them."""
    if given.beside is None:
        return given.tiles
    pen = find_pen(given.picture, given.tissue)
    control = find_control(given.beside.mapping, given.beside.tissue, given.tissue, pen)
    held = control.share(given.slide.grid) > 0
    return [tile for tile in given.tiles if not held[tile.row, tile.column]]


def count_cells(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the cells of each class: int64 (4,).

    `pixels` is uint8 RGB (T, T, 3) at 0.2793 µm/px with the glass at 255. All cells of the tile
    count, those of stroma too: a score asks for a tenth of the cells, and stroma adds zeros only.
    """
    size = (pixels.shape[1] // 4, pixels.shape[0] // 4)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    density = -np.log10(np.maximum(small, 1) / 255.0).mean(axis=2)
    found = measure_cells(pixels, (density > TISSUE_OD).astype(np.uint8))
    whole = ~np.isnan(found.completeness)
    share, amount = found.completeness[whole], found.membrane_od[whole]
    grade = (share >= STAINED_SHARE).astype(int)
    complete = share >= COMPLETE_SHARE
    grade += (complete & (amount >= MODERATE_OD)).astype(int)
    grade += (complete & (amount >= STRONG_OD)).astype(int)
    return np.bincount(grade, minlength=len(CLASS_NAMES)).astype(np.int64)
