"""Tiles of a slide through the networks: the loops that the appliance exists for.

What people ask beside a label map (do the tiles look familiar, how complete are membranes) is asked
of some tiles, drawn from all: a few hundred say it as well as ten thousand do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliance.analysis.appearance import Appearance
from appliance.analysis.cells import measure_cells
from appliance.analysis.control import ControlTissue
from appliance.analysis.raster import RasterGrid
from appliance.analysis.scoring import count_classes
from appliance.analysis.slide import SlideReader
from appliance.analysis.stream import TileStream
from appliance.geometry import TileIndex

if TYPE_CHECKING:
    from appliance.analysis.inference import Network

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
White = tuple[int, int, int]

LOOKED_AT = 300
"""Tiles of a slide whose stain and focus are compared with those of training."""
CELL_TILES = 600
"""Tiles whose cells are measured, 12 mm², where no guideline asks for the largest cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TumorReading:
    """`probability` float32 (rows, columns of the tile grid), NaN where a tile was not read."""

    probability: NDArray[np.float32]
    looks: Appearance
    unreadable_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StainReading:
    """`classes` uint8, 0-4, on the raster; `records` one per tile, ready for JSON."""

    classes: NDArray[np.uint8]
    records: list[dict[str, Any]]
    looks: Appearance
    unreadable_percent: float


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
    done, looks, looked_at = 0, Appearance(), _spread(tiles, LOOKED_AT)
    stream = TileStream(reader, tiles, white_rgb, batch_size)
    for indices, pixels in stream:
        tumor = network.classify(pixels)[:, 1]
        for index, value in zip(indices, tumor, strict=True):
            probability[index.row, index.column] = value
        some = [tile for index, tile in zip(indices, pixels, strict=True) if index in looked_at]
        looks = looks.seen(some, [network.spec])
        done += len(indices)
        progress("tumor on H&E", done, len(tiles))
    return TumorReading(
        probability=probability, looks=looks, unreadable_percent=stream.unreadable_percent
    )


def read_stain(
    reader: SlideReader,
    tiles: Sequence[TileIndex],
    white_rgb: White,
    raster: RasterGrid,
    intensity: Network,
    segmentation: Network,
    batch_size: int,
    progress: Progress,
    *,
    every_cell: bool = False,
) -> StainReading:
    """L and M on these tiles of an IHC slide, decoded once for both.

    `every_cell`: cells are measured on every tile, not on `CELL_TILES` of them.
    """
    classes = np.zeros(raster.shape, dtype=np.uint8)
    records: list[dict[str, Any]] = []
    looks, looked_at = Appearance(), _spread(tiles, LOOKED_AT)
    with_cells = frozenset(tiles) if every_cell else _spread(tiles, CELL_TILES)
    stream = TileStream(reader, tiles, white_rgb, batch_size)
    for indices, pixels in stream:
        likely, maps = intensity.classify(pixels), segmentation.segment(pixels)
        for index, tile, p, labels in zip(indices, pixels, likely, maps, strict=True):
            raster.paint(classes, index, labels)
            grade = int(p.argmax())
            record: dict[str, Any] = {
                "column": index.column,
                "row": index.row,
                "intensity": grade,
                "intensity_probability": float(p[grade]),
                "counts": count_classes(labels).tolist(),
            }
            if index in with_cells:
                record["cells"] = asdict(measure_cells(tile, labels).tally)
            records.append(record)
        some = [tile for index, tile in zip(indices, pixels, strict=True) if index in looked_at]
        looks = looks.seen(some, [intensity.spec, segmentation.spec])
        progress("stain on IHC", len(records), len(tiles))
    return StainReading(
        classes=classes,
        records=records,
        looks=looks,
        unreadable_percent=stream.unreadable_percent,
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


def _spread(tiles: Sequence[TileIndex], most: int) -> frozenset[TileIndex]:
    """At most so many of the tiles: drawn, as every n-th would follow the grid's columns."""
    if len(tiles) <= most:
        return frozenset(tiles)
    drawn = np.random.default_rng(len(tiles)).choice(len(tiles), most, replace=False)
    return frozenset(tiles[k] for k in drawn.tolist())
