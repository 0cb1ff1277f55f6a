"""The baseline in the place of the networks: its tumor map, and the tiles that it would score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.findings.findings import Findings
from appliance.geometry import TileGrid, TileIndex
from appliance.readers.tile_pass import Progress
from appliance.registration.tile_plan import TilePlan, map_tumor
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from appliance.slides.tissue import find_tissue, tissue_share
from models.evaluation.baseline import Baseline
from models.spec import Task

BATCH_TILES = 16

Floats = NDArray[np.float32]


def baseline_tumor_map(
    reader: SlideReader, tiles: list[TileIndex], baseline: Baseline, progress: Progress
) -> Floats:
    """The baseline's tumor probability over the H&E grid, NaN where no tile was read."""
    found = np.full(reader.grid.shape, np.nan, dtype=np.float32)
    white, _ = inspected(reader)
    done = 0
    for indices, pixels in TileStream(reader, tiles, white, BATCH_TILES):
        said = baseline.classify(Task.TUMOR, pixels)[:, 1]
        for index, value in zip(indices, said, strict=True):
            found[index.row, index.column] = value
        done += len(indices)
        progress("baseline on H&E", done, len(tiles))
    return found


def baseline_plan(
    tumor: Floats,
    findings: Findings,
    he_grid: TileGrid,
    ihc_grid: TileGrid,
    share: Floats,
    settings: Settings,
) -> TilePlan:
    """Tile plan for the baseline's `tumor` map; `share` is the tissue share of IHC tiles."""
    threshold = settings.scoring.tumor_threshold
    return map_tumor(tumor, findings.mapping, he_grid, ihc_grid, share, threshold=threshold)


def inspected(reader: SlideReader) -> tuple[tuple[int, int, int], Floats]:
    """Color of the glass, and tissue share over the grid, as step 3 finds them."""
    facts = reader.facts
    mpp = thumbnail_mpp(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
    tissue = find_tissue(reader.thumbnail(mpp), mpp)
    return tissue.white_rgb, tissue_share(tissue, reader.grid)
