"""One case with known truth: what the appliance says of it, what the baseline says, what is true.

The appliance's own steps run on the two slides; nothing here is a second way to a score. The
baseline takes the networks' place in the same steps: its tumor map is paired and scored alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.guideline import load_guideline
from appliance.domain import Her2Score
from appliance.findings.classes import CLASS_NAMES, count_classes, percent_of_tumor
from appliance.findings.findings import Findings, load_findings
from appliance.geometry import TILE_UM, TileGrid, TileIndex
from appliance.line.process import process_pair
from appliance.readers.chosen_weights import chosen_weights
from appliance.registration.tile_plan import TilePlan, map_tumor
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from appliance.slides.tissue import find_tissue, tissue_share
from models.datasets.images import read_rgb
from models.errors import DataSetError
from models.evaluation.baseline import Baseline, load_baseline
from models.evaluation.figures import confusion
from models.spec import Task

Floats = NDArray[np.float32]
BATCH_TILES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """A pair of slides and its truth, as ``tandem synth`` writes them."""

    he: Path
    ihc: Path
    truth: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """Truth and both sides' answers of one case; n tissue tiles on H&E, m scored tiles on IHC.

    `he_share` (n,): true tumor share of each H&E tile that was read; `he_said` by side (n, 2).
    `ihc_counts` (m, 5): true px per class of each scored IHC tile; `ihc_said` by side (m, 4);
    `matrices` by side (m, 5, 5): px of each scored tile, rows truth, columns found.
    `he_place` (n, 2), `ihc_partner` (m, 2): (column, row) on the H&E slide of each tile, and of
    each one's partner. Scores are grades 0-3, -1 without.
    """

    patient: str
    score: int
    found: dict[str, int]
    paper_score: int
    review: tuple[str, ...]
    he_place: NDArray[np.int64]
    he_share: Floats
    he_said: dict[str, Floats]
    ihc_partner: NDArray[np.int64]
    ihc_counts: NDArray[np.int64]
    ihc_said: dict[str, Floats]
    matrices: dict[str, NDArray[np.int64]]
    unscored_tumor_tiles: int
    percent: dict[str, dict[str, float]]
    facts: dict[str, Any]


def judge_case(files: CaseFiles, out_dir: Path, settings: Settings) -> JudgedCase:
    """Process the pair into `out_dir` and lay the answers beside the truth.

    Raises
    ------
    DataSetError
        If the truth is not as ``tandem synth`` writes it.
    SlideError
        If a slide cannot be used.
    """
    facts = _facts(files.truth)
    process_pair(files.he, files.ihc, out_dir, settings, progress=lambda *_: None)
    findings = load_findings(out_dir)
    if abs(findings.rasters.ihc_mpp - facts["classes_mpp"]) > 1e-3:
        raise DataSetError(
            f"{files.truth}: classes at {facts['classes_mpp']:.3f} µm/px cannot be compared with "
            f"a label map at {findings.rasters.ihc_mpp:.3f} µm/px; use slides at 0.2793 µm/px."
        )
    baseline = load_baseline()
    stem = str(files.truth.with_suffix(""))
    he_truth = (read_rgb(Path(f"{stem}_he_tumor.png"))[..., 0] > 127).astype(np.float32)
    classes = read_rgb(Path(f"{stem}_ihc_classes.png"))[..., 0]
    with SlideReader.open(files.he, mpp=findings.he.mpp) as he:
        read = ~np.isnan(findings.rasters.he_probability)
        he_tiles = _indices(read)
        he_baseline = _tumor_map(he, he_tiles, baseline, settings)
        shares = _tumor_shares(he_truth, he.grid, facts["masks_mpp"])
        he_grid = he.grid
    with SlideReader.open(files.ihc, mpp=findings.ihc.mpp) as ihc:
        scored = [TileIndex(t.column, t.row) for t in findings.tiles]
        truths = [_tile_of(classes, facts["classes_mpp"], index) for index in scored]
        counts = np.array([count_classes(t) for t in truths], np.int64).reshape(-1, 5)
        said, matrices, grade, percent = _ihc(
            ihc, findings, baseline, settings, he_baseline, he_grid, scored, truths
        )
    at = tuple(np.array([(t.row, t.column) for t in he_tiles], dtype=int).reshape(-1, 2).T)
    model_he, baseline_he = findings.rasters.he_probability[at], he_baseline[at]
    true_he = shares[at]
    # The tumor tiles that C missed, or that found no partner.
    partners = {(t.he_column, t.he_row) for t in findings.tiles}
    missed = sum(
        bool(share >= 0.5) and (t.column, t.row) not in partners
        for t, share in zip(he_tiles, true_he, strict=True)
    )
    return JudgedCase(
        patient=findings.accession,
        score=CLASS_NAMES.index(facts["score"]),
        found={"model": _grade(findings.score), "baseline": grade},
        paper_score=_grade(findings.paper_score),
        review=tuple(reason.code for reason in findings.review),
        he_place=_place(he_tiles),
        he_share=true_he,
        he_said={"model": _two(model_he), "baseline": _two(baseline_he)},
        ihc_partner=_place([TileIndex(t.he_column, t.he_row) for t in findings.tiles]),
        ihc_counts=counts,
        ihc_said=said,
        matrices=matrices,
        unscored_tumor_tiles=missed,
        percent={
            "truth": facts["percent"],
            "model": findings.percent,
            "baseline": percent,
        },
        facts={k: facts.get(k) for k in ("synthetic", "seed", "organ", "scanner")},
    )


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise DataSetError(f"{path}: not readable as a case's truth ({err}).") from err
    needed = {"score", "masks_mpp", "classes_mpp", "percent"}
    if missing := needed - set(facts):
        raise DataSetError(
            f"{path}: no {min(missing)!r}; a case's truth is as `tandem synth` writes it."
        )
    if facts["score"] not in CLASS_NAMES:
        raise DataSetError(f"{path}: score {facts['score']!r}: use {', '.join(CLASS_NAMES)}.")
    return facts


def _tumor_map(
    reader: SlideReader, tiles: list[TileIndex], baseline: Baseline, settings: Settings
) -> Floats:
    """The baseline's tumor probability over the H&E grid, NaN where nothing was read."""
    found = np.full(reader.grid.shape, np.nan, dtype=np.float32)
    white, _ = _inspected(reader)
    for indices, pixels in TileStream(reader, tiles, white, BATCH_TILES):
        said = baseline.classify(Task.TUMOR, pixels)[:, 1]
        for index, value in zip(indices, said, strict=True):
            found[index.row, index.column] = value
    return found


def _ihc(
    reader: SlideReader,
    findings: Findings,
    baseline: Baseline,
    settings: Settings,
    he_baseline: Floats,
    he_grid: TileGrid,
    scored: list[TileIndex],
    truths: list[NDArray[np.uint8]],
) -> tuple[dict[str, Floats], dict[str, NDArray[np.int64]], int, dict[str, float]]:
    """Both sides' answers on the scored tiles; the baseline's score by its own map of tumor."""
    # Here, so that a listing of cases needs no torch.
    from appliance.readers.inference import Network

    folder, _ = chosen_weights(Task.INTENSITY, settings)
    network = Network(folder, settings.models.device, settings.models.runtime)
    classes = findings.rasters.ihc_classes[:]
    white, share = _inspected(reader)
    plan = _baseline_plan(he_baseline, findings, he_grid, reader.grid, share, settings)
    number = {index: k for k, index in enumerate(scored)}
    said = {side: np.zeros((len(scored), 4), np.float32) for side in ("model", "baseline")}
    matrices = {side: np.zeros((len(scored), 5, 5), np.int64) for side in said}
    own = set(plan.ihc_tiles)
    counts = np.zeros(5, dtype=np.int64)
    every = sorted(set(scored) | own, key=lambda t: (t.row, t.column))
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
                "model": _tile_of(classes, findings.rasters.ihc_mpp, index),
                "baseline": labels[k],
            }
            for side in said:
                said[side][place] = likely[side][k]
                matrices[side][place] = confusion(truth, _cut(found[side], truth), 5)
    percent = percent_of_tumor(counts)
    guideline = load_guideline(findings.guideline)
    grade = _grade(guideline.score(percent)) if counts[1:].sum() else -1
    return said, matrices, grade, percent


def _baseline_plan(
    he_baseline: Floats,
    findings: Findings,
    he_grid: TileGrid,
    ihc_grid: TileGrid,
    share: Floats,
    settings: Settings,
) -> TilePlan:
    threshold = settings.scoring.tumor_threshold
    return map_tumor(he_baseline, findings.mapping, he_grid, ihc_grid, share, threshold=threshold)


def _inspected(reader: SlideReader) -> tuple[tuple[int, int, int], Floats]:
    """Glass, and tissue share over the grid, as step 3 finds them."""
    facts = reader.facts
    mpp = thumbnail_mpp(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
    tissue = find_tissue(reader.thumbnail(mpp), mpp)
    return tissue.white_rgb, tissue_share(tissue, reader.grid)


def _tumor_shares(mask: Floats, grid: TileGrid, mpp: float) -> Floats:
    """Tumor share (rows, columns of `grid`) of each tile, from a mask of the slide at `mpp`."""
    shares = np.zeros(grid.shape, dtype=np.float32)
    for row in range(grid.rows):
        for column in range(grid.columns):
            tile = _tile_of(mask, mpp, TileIndex(column, row))
            # What a border tile lacks is glass.
            shares[row, column] = tile.sum() / round(TILE_UM / mpp) ** 2
    return np.minimum(shares, 1)


def _tile_of(raster: NDArray[Any], mpp: float, index: TileIndex) -> NDArray[Any]:
    """The part of a slide-wide raster that lies in a tile; smaller at the slide's edge."""
    x, y = (round(k * TILE_UM / mpp) for k in (index.column, index.row))
    size = round(TILE_UM / mpp)
    return raster[y : y + size, x : x + size]


def _cut(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels of a whole tile, as far as the slide, and so the truth, reaches."""
    return labels[: truth.shape[0], : truth.shape[1]]


def _indices(mask: NDArray[np.bool_]) -> list[TileIndex]:
    return [TileIndex(int(c), int(r)) for r, c in np.argwhere(mask)]


def _place(tiles: list[TileIndex]) -> NDArray[np.int64]:
    return np.array([(t.column, t.row) for t in tiles], dtype=np.int64).reshape(-1, 2)


def _two(tumor: Floats) -> Floats:
    return np.stack([1 - tumor, tumor], axis=1)


def _grade(score: Her2Score | None) -> int:
    return -1 if score is None else score.grade
