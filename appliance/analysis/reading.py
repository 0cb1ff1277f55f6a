"""Tiles of a slide through the networks: the loops that the appliance exists for.

What people ask beside a label map (do the tiles look familiar, how complete are membranes) is asked
of some tiles, drawn from all: a few hundred say it as well as ten thousand do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.analysis.appearance import Appearance
from appliance.analysis.cell_tally import CellTally
from appliance.analysis.cells import measure_cells
from appliance.analysis.control import ControlTissue
from appliance.analysis.findings import MARGIN, SCORED
from appliance.analysis.label_map import LabelWriter
from appliance.analysis.scoring import count_classes
from appliance.analysis.slide import SlideReader
from appliance.analysis.stream import TileStream, in_lanes
from appliance.geometry import TILE_PX, TileIndex
from models.spec import ModelSpec

if TYPE_CHECKING:
    from appliance.analysis.inference import Network

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
White = tuple[int, int, int]

LOOKED_AT = 100
"""Tiles of a slide whose stain and focus are compared with those of training."""
CELL_TILES = 200
"""Tiles whose cells are measured, 4 mm², where no guideline asks for the largest cluster."""


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
    """Of a batch: L's probabilities, M's label maps, cells where they are measured."""

    intensity: NDArray[np.float32]
    maps: NDArray[np.uint8]
    cells: list[CellTally | None]


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
    looks = Appearance()
    some = sorted(_spread(tiles, LOOKED_AT), key=_row_by_row)
    for _, pixels in TileStream(reader, some, white_rgb, batch_size):
        looks = looks.seen(pixels, [network.spec])
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
    answers = in_lanes(stream, lambda _, pixels: network.classify(pixels), network.lanes)
    for indices, _, likely in answers:
        for index, value in zip(indices, likely[:, 1], strict=True):
            probability[index.row, index.column] = value
        done += len(indices)
        progress("tumor on H&E", done, len(tiles))
    return TumorReading(
        probability=probability, looks=looks, unreadable_percent=stream.unreadable_percent
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

    `margin`: tiles for the label map alone. `every_cell`: cells are measured on every tile, not on
    `CELL_TILES` of them.
    """
    scored = frozenset(tiles)
    every = sorted((*tiles, *margin), key=_row_by_row)
    with_cells = scored if every_cell else _spread(tiles, CELL_TILES)
    read = np.zeros(reader.grid.shape, dtype=np.uint8)
    places: list[TileIndex] = []
    said: list[NDArray[np.float32]] = []
    counts: list[NDArray[np.int64]] = []
    cells: dict[int, CellTally] = {}
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

    def answer(indices: Sequence[TileIndex], pixels: NDArray[np.uint8]) -> _Answers:
        maps = segmentation.segment(pixels)
        return _Answers(
            intensity.classify(pixels),
            maps,
            [
                measure_cells(tile, label_map).tally if index in with_cells else None
                for index, tile, label_map in zip(indices, pixels, maps, strict=True)
            ],
        )

    for indices, pixels, said_now in in_lanes(stream, answer, lanes):
        for index, p, label_map, tally in zip(indices, *said_now, strict=True):
            labels.paint(index, label_map)
            read[index.row, index.column] = MARGIN
            if index not in scored:
                continue
            read[index.row, index.column] = SCORED
            if tally is not None:
                cells[len(places)] = tally
            places.append(index)
            said.append(p)
            counts.append(count_classes(label_map))
        some = [tile for index, tile in zip(indices, pixels, strict=True) if index in looked_at]
        looks = looks.seen(some, [intensity.spec, segmentation.spec])
        done += len(indices)
        progress("stain on IHC", done, len(every))
    likely = np.array(said, dtype=np.float32).reshape(-1, len(intensity.spec.classes))
    return StainReading(
        tiles=TileReadings(
            places=np.array([(t.column, t.row) for t in places], np.int32).reshape(-1, 2),
            intensity=likely.argmax(axis=1).astype(np.uint8),
            certainty=likely.max(axis=1, initial=0.0),
            counts=np.array(counts, dtype=np.int64).reshape(-1, 5),
            cells=cells,
        ),
        read=read,
        looks=looks,
        unreadable_percent=100 * len(scored.intersection(stream.unreadable)) / max(1, len(tiles)),
    )


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


def _row_by_row(tile: TileIndex) -> tuple[int, int]:
    return tile.row, tile.column


def _spread(tiles: Sequence[TileIndex], most: int) -> frozenset[TileIndex]:
    """At most so many of the tiles: drawn, as every n-th would follow the grid's columns."""
    if len(tiles) <= most:
        return frozenset(tiles)
    drawn = np.random.default_rng(len(tiles)).choice(len(tiles), most, replace=False)
    return frozenset(tiles[k] for k in drawn.tolist())
