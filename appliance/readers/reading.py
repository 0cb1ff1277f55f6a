"""Tiles of a slide through the networks: the loops that the appliance exists for.

What people ask beside a label map (do the tiles look familiar, how complete are membranes) is asked
of some tiles, drawn from all: a few hundred say it as well as ten thousand do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.findings.classes import count_classes
from appliance.findings.findings import MARGIN, SCORED
from appliance.findings.label_map import LabelWriter
from appliance.geometry import TILE_PX, TileIndex
from appliance.readers.cell_tally import CellTally
from appliance.readers.cells import TileCells, measure_cells
from appliance.readers.control import ControlTissue
from appliance.slides.appearance import Appearance
from appliance.slides.reader import SlideReader
from appliance.slides.stream import DECODE_THREADS, TileStream, in_lanes
from models.spec import ModelSpec

if TYPE_CHECKING:
    from appliance.readers.inference import Network

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
White = tuple[int, int, int]

LOOKED_AT = 100
"""Tiles of a slide whose stain and focus are compared with those of training."""
CELL_TILES = 200
"""Tiles whose cells are measured, 4 mm², where no guideline asks for the largest cluster."""
CELL_THREADS = max(1, DECODE_THREADS // 2)
CELL_TILES_AHEAD = 32
"""Tiles that wait for these; each is 0.8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TumorReading:
    """`probability` float32 (rows, columns of the tile grid), NaN where a tile was not read."""

    probability: NDArray[np.float32]
    looks: Appearance
    unreadable_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TileReadings:
    """What L and M say of n tiles, row by row of the grid.

    `places` int32 (n, 2), column and row; `intensity` uint8 (n,), L's class 0-3, and `certainty`
    float32 (n,), its probability; `counts` int64 (n, 5), px per class of M's label map; `cells` the
    tally of those tiles whose cells were measured, by their number.
    """

    places: NDArray[np.int32]
    intensity: NDArray[np.uint8]
    certainty: NDArray[np.float32]
    counts: NDArray[np.int64]
    cells: Mapping[int, CellTally]


@dataclass(frozen=True, slots=True, kw_only=True)
class StainReading:
    """`tiles` that are scored and could be decoded; `read` uint8, the shape of the tile grid: 0 not
    on the label map, 1 there as margin, 2 scored; `unreadable_percent` of those to be scored."""

    tiles: TileReadings
    read: NDArray[np.uint8]
    looks: Appearance
    unreadable_percent: float


class _Answers(NamedTuple):
    """Of a batch: L's probabilities, M's label maps."""

    intensity: NDArray[np.float32]
    maps: NDArray[np.uint8]


def classifier_px(spec: ModelSpec) -> int:
    """Edge of the tiles that a classifier is given: half of `TILE_PX` where it sees no more."""
    return TILE_PX // 2 if spec.input_px <= TILE_PX // 2 else TILE_PX


def read_tumor(
    reader: SlideReader,
    tiles: Sequence[TileIndex],
    white_rgb: White,
    network: Network,
    batch_size: int,
    progress: Progress,
) -> TumorReading:
    """C on these tiles of an H&E slide."""
    probability = np.full(reader.grid.shape, np.nan, dtype=np.float32)
    done = 0
    stream = TileStream(
        reader,
        tiles,
        white_rgb,
        batch_size,
        px=classifier_px(network.spec),
        hold=network.lanes,
        allocate=network.batch_memory,
        threads=network.decoders,
    )
    some = sorted(_spread(tiles, LOOKED_AT), key=_row_by_row)
    with ThreadPoolExecutor(1, thread_name_prefix="look") as aside:
        # Of their own, as they are looked at in full size: beside the networks, not before them.
        looks = aside.submit(_looked_at, TileStream(reader, some, white_rgb, 1), network.spec)
        answers = in_lanes(stream, lambda _, pixels: network.classify(pixels), network.lanes)
        for indices, _, likely in answers:
            for index, value in zip(indices, likely[:, 1], strict=True):
                probability[index.row, index.column] = value
            done += len(indices)
            progress("tumor on H&E", done, len(tiles))
            if looks.done():
                looks.result()  # not after the whole slide, should it have failed
        return TumorReading(
            probability=probability,
            looks=looks.result(),
            unreadable_percent=stream.unreadable_percent,
        )


def read_stain(
    reader: SlideReader,
    tiles: Sequence[TileIndex],
    white_rgb: White,
    labels: LabelWriter,
    intensity: Network,
    segmentation: Network,
    batch_size: int,
    progress: Progress,
    *,
    margin: Sequence[TileIndex] = (),
    every_cell: bool = False,
) -> StainReading:
    """L and M on these tiles of an IHC slide, decoded once for both; M's answers go to `labels`.

    `margin`: others, for the label map alone. `every_cell`: cells are measured on every tile, not
    on `CELL_TILES` of them.
    """
    scored = frozenset(tiles)
    every = sorted((*tiles, *margin), key=_row_by_row)
    with_cells = scored if every_cell else _spread(tiles, CELL_TILES)
    read = np.zeros(reader.grid.shape, dtype=np.uint8)
    # Made at once: answers that were kept would hold on to the networks' own memory, between whose
    # large blocks they lie, and nothing large would fit there again.
    places = np.zeros((len(tiles), 2), dtype=np.int32)
    likely = np.zeros((len(tiles), len(intensity.spec.classes)), dtype=np.float32)
    counts = np.zeros((len(tiles), 5), dtype=np.int64)
    known = 0  # of these
    done, looks, looked_at = 0, Appearance(), _spread(tiles, LOOKED_AT)
    lanes = intensity.lanes
    stream = TileStream(
        reader,
        every,
        white_rgb,
        batch_size,
        hold=lanes,
        allocate=segmentation.batch_memory,
        threads=segmentation.decoders,
    )

    def answer(_: Sequence[TileIndex], pixels: NDArray[np.uint8]) -> _Answers:
        return _Answers(intensity.classify(pixels), segmentation.segment(pixels))

    with _Cells() as cells:
        for indices, pixels, said_now in in_lanes(stream, answer, lanes):
            for index, tile, p, label_map in zip(indices, pixels, *said_now, strict=True):
                labels.paint(index, label_map)
                read[index.row, index.column] = MARGIN
                if index not in scored:
                    continue
                read[index.row, index.column] = SCORED
                if index in with_cells:
                    cells.measure(known, tile, label_map)
                places[known] = index.column, index.row
                likely[known] = p
                counts[known] = count_classes(label_map)
                known += 1
            some = [tile for index, tile in zip(indices, pixels, strict=True) if index in looked_at]
            looks = looks.seen(some, [intensity.spec, segmentation.spec])
            done += len(indices)
            progress("stain on IHC", done, len(every))
        tallies = cells.tallies()
    return StainReading(
        tiles=TileReadings(
            places=places[:known],
            intensity=likely[:known].argmax(axis=1).astype(np.uint8),
            certainty=likely[:known].max(axis=1, initial=0.0),
            counts=counts[:known],
            cells=tallies,
        ),
        read=read,
        looks=looks,
        unreadable_percent=100 * len(scored.intersection(stream.unreadable)) / max(1, len(tiles)),
    )


class _Cells:
    """Cells of tiles, measured by threads of their own while the networks go on.

    It takes tens of ms per tile, for which a GPU should not wait. Only a few tiles wait at a time.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CELL_THREADS, thread_name_prefix="cells")
        self._ahead: deque[tuple[int, Future[TileCells]]] = deque()
        self._tallies: dict[int, CellTally] = {}

    def __enter__(self) -> _Cells:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def measure(self, number: int, tile: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """The tile's memory may be used for another one after this."""
        if len(self._ahead) >= CELL_TILES_AHEAD:
            self._take()
        self._ahead.append((number, self._pool.submit(measure_cells, tile.copy(), labels)))

    def tallies(self) -> dict[int, CellTally]:
        """Of all tiles, by their numbers."""
        while self._ahead:
            self._take()
        return self._tallies

    def _take(self) -> None:
        number, future = self._ahead.popleft()
        self._tallies[number] = future.result().tally


def read_control(
    reader: SlideReader,
    control: ControlTissue,
    white_rgb: White,
    segmentation: Network,
    batch_size: int,
) -> tuple[list[list[int]], float]:
    """Px per class of M on the control tissue, for each of its tiles that can be decoded, and the
    share (0-100) of those that cannot."""
    stream = TileStream(reader, control.tiles(reader.grid), white_rgb, batch_size)
    counts = [
        count_classes(control.within(index, labels)).tolist()
        for indices, pixels in stream
        for index, labels in zip(indices, segmentation.segment(pixels), strict=True)
    ]
    return counts, stream.unreadable_percent


def _looked_at(stream: TileStream, spec: ModelSpec) -> Appearance:
    looks = Appearance()
    for _, pixels in stream:
        looks = looks.seen(pixels, [spec])
    return looks


def _row_by_row(tile: TileIndex) -> tuple[int, int]:
    return tile.row, tile.column


def _spread(tiles: Sequence[TileIndex], most: int) -> frozenset[TileIndex]:
    """At most so many of the tiles: drawn, as every n-th would follow the grid's columns."""
    if len(tiles) <= most:
        return frozenset(tiles)
    drawn = np.random.default_rng(len(tiles)).choice(len(tiles), most, replace=False)
    return frozenset(tiles[k] for k in drawn.tolist())
