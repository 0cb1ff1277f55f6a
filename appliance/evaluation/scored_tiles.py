"""Answers of the networks and of the baseline on the scored tiles of an IHC slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.guideline import load_guideline
from appliance.evaluation.baseline_answers import (
    BATCH_TILES,
    Floats,
    baseline_plan,
    inspected,
)
from appliance.evaluation.case_files import part_in_tile
from appliance.findings.classes import count_classes, percent_of_tumor
from appliance.findings.findings import Findings
from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from models.errors import DataSetError
from models.evaluation.baseline import Baseline
from models.evaluation.confusion import confusion
from models.spec import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTiles:
    """Answers on m scored tiles, by side: `said` (m, 4), `matrices` (m, 5, 5), rows truth.

    The baseline's grade (0-3, -1 without score) and shares (0-100) follow from its own tumor map.
    """

    said: dict[str, Floats]
    matrices: dict[str, NDArray[np.int64]]
    baseline_grade: int
    baseline_percent: dict[str, float]


def judge_scored_tiles(
    reader: SlideReader,
    findings: Findings,
    baseline: Baseline,
    settings: Settings,
    *,
    he_baseline: Floats,
    he_grid: TileGrid,
    truths: list[NDArray[np.uint8]],
    progress: Progress,
) -> ScoredTiles:
    """Compare both sides with `truths`, the true label maps of the scored tiles.

    `he_baseline` is the baseline's tumor map over `he_grid`.
    """
    # Imported here, so that a listing of cases loads no torch.
    from appliance.readers.inference import Network

    folder, spec = chosen_weights(Task.INTENSITY, settings)
    network = Network(folder, settings.models.device, settings.models.runtime, spec.site)
    network.prepare(int(np.count_nonzero(findings.rasters.ihc_read)))  # as the pass was
    scored = [TileIndex(t.column, t.row) for t in findings.tiles]
    stored = findings.rasters.ihc_classes
    if stored is None:
        raise DataSetError("The findings have no label map to compare with the truth.")
    classes = stored[:]
    white, share = inspected(reader)
    plan = baseline_plan(he_baseline, findings, he_grid, reader.grid, share, settings)
    number = {index: k for k, index in enumerate(scored)}
    said = {side: np.zeros((len(scored), 4), np.float32) for side in ("model", "baseline")}
    matrices = {side: np.zeros((len(scored), 5, 5), np.int64) for side in said}
    own = set(plan.ihc_tiles)
    counts = np.zeros(5, dtype=np.int64)
    every = sorted(set(scored) | own, key=lambda t: (t.row, t.column))
    done = 0
    for indices, pixels in TileStream(reader, every, white, BATCH_TILES):
        labels = baseline.segment(pixels)
        likely = {
            "model": network.classify(pixels),
            "baseline": baseline.classify(Task.INTENSITY, pixels),
        }
        for k, index in enumerate(indices):
            if index in own:
                counts += count_classes(labels[k])
            if index not in number:
                continue
            place, truth = number[index], truths[number[index]]
            found = {
                "model": part_in_tile(classes, findings.rasters.ihc_mpp, index),
                "baseline": _at_mpp(labels[k], findings.rasters.ihc_mpp),
            }
            for side in said:
                said[side][place] = likely[side][k]
                matrices[side][place] = confusion(truth, _cropped(found[side], truth), 5)
        done += len(indices)
        progress("comparison on IHC", done, len(every))
    percent = percent_of_tumor(counts)
    guideline = load_guideline(findings.guideline)
    grade = guideline.score(percent).grade if counts[1:].sum() else -1
    return ScoredTiles(said=said, matrices=matrices, baseline_grade=grade, baseline_percent=percent)


def _at_mpp(labels: NDArray[np.uint8], mpp: float) -> NDArray[np.uint8]:
    """Labels of a whole tile at `mpp`: the label at each px's center."""
    px = round(TILE_UM / mpp)
    if px == len(labels):
        return labels
    at = ((np.arange(px) + 0.5) * len(labels) / px).astype(int)
    found: NDArray[np.uint8] = labels[at[:, None], at]
    return found


def _cropped(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels of a whole tile, cropped to the slide, and so to the truth."""
    return labels[: truth.shape[0], : truth.shape[1]]
