"""Accuracy of finding and measuring single tumor cells, against the generator's own cells.

``python benchmarks/cells.py figures [--tiles 60] [--seed 950000000] [--network] [--json]`` measures
generated tumor tiles (synthetic) with the true label map, and with that of the shipped network M.
``python benchmarks/cells.py draw IMAGE --mpp 0.46 --out FILE [--everywhere]`` draws nuclei and
membranes on a HER2 field: red to green outlines are membranes of completeness 0 to 1, blue nuclei.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import spearmanr
from skimage.segmentation import find_boundaries

from appliance.geometry import TILE_MPP
from appliance.readers.cell_tally import COMPLETE, CellTally
from appliance.readers.cells import CellMap, TileCells, map_cells, measure_cells
from appliance.readers.nucleus_shapes import STEP
from models.datasets.generated_tiles import GeneratedTile, generated_tile
from models.datasets.glass import calibrated
from models.datasets.images import read_rgb, tiles_of
from models.evaluation.truth_tiles import glass_of_field
from models.spec import Task, reference_folder
from models.synthesis.truth import CellTruth, tile_cells

Labels = NDArray[np.uint8]
MIN_TUMOR = 0.1
"""Least share of tumor of a tile; with less it holds only a few cells."""
MATCH_UM = 4.0
"""Largest distance of a found and a true cell that are each other's nearest, to be the same
cell."""
CLASSES = ("0", "1+", "2+", "3+")


def main() -> int:
    """Run one of the two commands; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    figures = commands.add_parser("figures")
    figures.add_argument("--tiles", type=int, default=60)
    figures.add_argument("--seed", type=int, default=950_000_000)
    figures.add_argument("--network", action="store_true")
    figures.add_argument("--json", action="store_true")
    drawing = commands.add_parser("draw")
    drawing.add_argument("image", type=Path)
    drawing.add_argument("--mpp", type=float, required=True)
    drawing.add_argument("--out", type=Path, required=True)
    drawing.add_argument("--everywhere", action="store_true", help="take the whole field for tumor")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.command == "draw":
        draw(options.image, options.mpp, options.out, everywhere=options.everywhere)
        return 0
    found = judge(options.seed, options.tiles, network=options.network)
    if options.json:
        print(json.dumps(found))
    else:
        for source, values in found.items():
            print(f"with {source}")
            for name, value in values.items():
                print(f"  {name:<40}{value}")
    return 0


def judge(first_seed: int, count: int, *, network: bool) -> dict[str, dict[str, Any]]:
    """Return all figures of the first `count` tumor tiles from `first_seed` on, by source of
    labels."""
    segment = _network() if network else None
    sources = ("true labels", "M's labels") if segment else ("true labels",)
    judged = {source: Judged() for source in sources}
    seed = first_seed
    while len(judged["true labels"].errors) < count:
        tile, seed = generated_tile(seed), seed + 1
        if (tile.classes > 0).mean() < MIN_TUMOR:
            continue
        truth = tile_cells(seed - 1)
        judged["true labels"].add(tile, tile.classes, truth)
        if segment:
            judged["M's labels"].add(tile, segment(tile.ihc), truth)
    return {source: one.figures() for source, one in judged.items()}


@dataclass
class Judged:
    """Measurements of tiles with one source of label maps."""

    errors: list[float] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rows: list[NDArray[np.float64]] = field(default_factory=list)
    found: int = 0

    def add(self, tile: GeneratedTile, labels: Labels, truth: CellTruth) -> None:
        """Measure one tile."""
        start = time.process_time()
        cells = measure_cells(tile.ihc, labels)
        self.seconds.append(time.process_time() - start)
        self.errors.append(len(cells.number) / max(1, len(truth.grade)) - 1)
        self.grades.append(tile.intensity)
        self.found += len(cells.number)
        mine, true = matches(cells.xy_px, truth.xy_px)
        self.rows.append(
            np.column_stack([
                truth.grade[true], cells.grade[mine], truth.completeness[true], truth.drawn[true],
                cells.completeness[mine], truth.membrane[true], cells.membrane_od[mine],
            ])
        )  # fmt: skip

    def figures(self) -> dict[str, Any]:
        """Return the figures that `main` prints."""
        table = np.concatenate(self.rows)
        error, grade = np.array(self.errors), np.array(self.grades)
        return {
            "tiles": len(error),
            "tiles per class": _per_class(lambda k: int((grade == k).sum())),
            "cells matched": len(table),
            "found cells with a true one, %": round(100 * len(table) / max(1, self.found), 1),
            "cell count, median relative error": round(float(np.median(error)), 3),
            "cell count, median absolute error": round(float(np.median(abs(error))), 3),
            "the same by the tile's class": _per_class(
                lambda k: round(float(np.median(abs(error[grade == k]))), 3) if k in grade else None
            ),
            "class accuracy": round(float((table[:, 0] == table[:, 1]).mean()), 3),
            **_membranes(table),
            "ms per tile, median": round(1e3 * float(np.median(self.seconds)), 1),
            "ms per tile, slowest": round(1e3 * max(self.seconds), 1),
        }


def _membranes(table: NDArray[np.float64]) -> dict[str, Any]:
    table = table[np.isfinite(table[:, 3]) & np.isfinite(table[:, 4])]
    grade, _, meant, drawn, share, membrane, density = table.T
    stained = grade > 0

    def rho(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return round(float(spearmanr(a[stained], b[stained])[0]), 3)

    def mean(values: NDArray[np.float64]) -> dict[str, float | None]:
        return _per_class(
            lambda k: round(float(values[grade == k].mean()), 3) if k in grade else None
        )

    weak, moderate = share[grade == 1], share[grade == 2]
    return {
        "cells measured": len(table),
        "completeness, mean measured": mean(share),
        "completeness, mean drawn": mean(drawn),
        "completeness, mean meant (0: not drawn)": mean(meant),
        f"cells with at least {COMPLETE}, %": mean(100.0 * (share >= COMPLETE)),
        f"drawn at least {COMPLETE}, %": mean(100.0 * (drawn >= COMPLETE)),
        "rho, measured and drawn": rho(share, drawn),
        "rho, measured and meant": rho(share, meant),
        "rho, drawn and meant (the ceiling)": rho(drawn, meant),
        "rho, membrane DAB": rho(density, membrane),
        "mean absolute error to drawn": round(float(abs(share - drawn).mean()), 3),
        "AUC 2+ against 1+": round(float((weak[:, None] < moderate[None]).mean()), 3),
    }


def matches(
    found_px: NDArray[np.float32], true_px: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of found and true cells that are each other's nearest, within `MATCH_UM`."""
    nobody = np.zeros(0, dtype=np.int64)
    if not len(found_px) or not len(true_px):
        return nobody, nobody
    distance, true = (np.asarray(each) for each in cKDTree(true_px).query(found_px))
    back = np.asarray(cKDTree(found_px).query(true_px)[1])
    ok = (distance * TILE_MPP < MATCH_UM) & (back[true] == np.arange(len(found_px)))
    return np.flatnonzero(ok), true[ok]


def draw(image: Path, mpp: float, out: Path, *, everywhere: bool) -> None:
    """Draw nuclei and membranes on a field of any size, tile by tile; print the means."""
    pixels = read_rgb(image)
    tiles = tiles_of(calibrated(pixels, glass_of_field(pixels)), mpp)
    segment = None if everywhere else _network()
    drawn, total = [], CellTally()
    for tile in tiles:
        labels = np.full((128, 128), 2, np.uint8) if segment is None else segment(tile)
        cells = measure_cells(tile, labels)
        total += cells.tally
        drawn.append(_overlay(tile, cells, map_cells(tile, labels)))
    columns = max(1, round(len(tiles) ** 0.5))
    rows = [np.hstack(drawn[k : k + columns]) for k in range(0, len(drawn), columns)]
    cv2.imwrite(str(out), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
    for name, value in {
        "cells": total.counted,
        "mean completeness": total.mean_completeness,
        "complete, %": total.complete_percent,
    }.items():
        print(f"{name:<20}{value}")


def _overlay(tile: NDArray[np.uint8], cells: TileCells, found: CellMap) -> NDArray[np.uint8]:
    share = np.full(int(found.cells.max()) + 1, np.nan)
    share[cells.number] = cells.completeness
    picture: NDArray[np.uint8] = cv2.resize(tile, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    cell_map = found.cells.repeat(2 * STEP, 0).repeat(2 * STEP, 1)
    edge = find_boundaries(cell_map, mode="inner") & (cell_map > 0)
    value = share[cell_map[edge]]
    color = np.stack([255 * (1 - value), 255 * value, 0 * value], axis=1)
    color[np.isnan(value)] = 150
    picture[edge] = color.astype(np.uint8)
    nuclei = found.nuclei.repeat(2 * STEP, 0).repeat(2 * STEP, 1)
    picture[find_boundaries(nuclei, mode="inner")] = (40, 60, 255)
    return picture


def _network() -> Callable[[NDArray[np.uint8]], Labels]:
    from appliance.readers.inference import Network

    network = Network(reference_folder(Task.SEGMENTATION), "cpu")
    return lambda tile: network.segment(tile[None])[0]


def _per_class(value: Callable[[int], Any]) -> dict[str, Any]:
    return {name: value(k) for k, name in enumerate(CLASSES)}


if __name__ == "__main__":
    sys.exit(main())
