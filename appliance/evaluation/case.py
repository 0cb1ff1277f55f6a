"""One case with known truth: the answers of the appliance and of the baseline beside it.

The appliance's own steps run on the two slides; this module has no other way to a score. The
baseline replaces the networks in the same steps: its tumor map is paired and scored alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.domain import Her2Score
from appliance.evaluation.baseline_answers import baseline_tumor_map
from appliance.evaluation.case_files import (
    CaseFiles,
    Floats,
    part_in_tile,
    read_true_classes,
    read_true_tumor,
    read_truth,
    tumor_shares,
)
from appliance.evaluation.scored_tiles import judge_scored_tiles
from appliance.findings.classes import CLASS_NAMES, count_classes
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.geometry import TileGrid, TileIndex
from appliance.line.process import process_pair
from appliance.readers.tile_pass import Progress, silent
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from models.evaluation.baseline import Baseline, load_baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """Truth and both sides' answers of one case: n tissue tiles on H&E, m scored tiles on IHC.

    `he_share` (n,): true tumor share of each H&E tile that was read; `he_said` by side (n, 2).
    `ihc_counts` (m, 5): true px per class of each scored IHC tile; `ihc_said` by side (m, 4);
    `matrices` by side (m, 5, 5): px of each scored tile, rows truth, columns found.
    `he_place` (n, 2), `ihc_partner` (m, 2): (column, row) on the H&E slide of each tile, and of
    each one's partner. Scores are grades 0-3; -1 means no score. `facts`: see `group_facts`.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCase:
    """A case that the appliance could not score, with the reason: counts as wrong."""

    patient: str
    score: int
    problem: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeTiles:
    """Tiles of the H&E slide that were read: true tumor share, and the baseline's map of `grid`."""

    tiles: list[TileIndex]
    share: Floats
    baseline: Floats
    grid: TileGrid


def judge_case(
    files: CaseFiles, out_dir: Path, settings: Settings, progress: Progress = silent
) -> JudgedCase:
    """Process the pair into `out_dir` and compare the answers with the truth.

    Raises
    ------
    DataSetError
        If the truth is not as ``tandem synth`` writes it.
    SlideError
        If a slide cannot be used.
    """
    facts = read_truth(files.truth)
    process_pair(files.he, files.ihc, out_dir, settings, assay_name="her2", progress=progress)
    findings = load_findings(out_dir)
    baseline = load_baseline()
    mpp = findings.rasters.ihc_mpp
    classes = read_true_classes(files.truth, facts["classes_mpp"], mpp)
    he = _he_tiles(files, findings, baseline, facts["masks_mpp"], progress)
    with SlideReader.open(files.ihc, mpp=findings.ihc.mpp) as ihc:
        truths = [part_in_tile(classes, mpp, TileIndex(t.column, t.row)) for t in findings.tiles]
        judged = judge_scored_tiles(
            ihc,
            findings,
            baseline,
            settings,
            he_baseline=he.baseline,
            he_grid=he.grid,
            truths=truths,
            progress=progress,
        )
    at = tuple(np.array([(t.row, t.column) for t in he.tiles], dtype=int).reshape(-1, 2).T)
    model_he, baseline_he = findings.rasters.he_probability[at], he.baseline[at]
    return JudgedCase(
        patient=findings.accession,
        score=CLASS_NAMES.index(facts["score"]),
        found={"model": _grade(findings.score), "baseline": judged.baseline_grade},
        paper_score=_grade(findings.paper_score),
        review=tuple(reason.code for reason in findings.review),
        he_place=_place(he.tiles),
        he_share=he.share,
        he_said={"model": _two(model_he), "baseline": _two(baseline_he)},
        ihc_partner=_place([TileIndex(t.he_column, t.he_row) for t in findings.tiles]),
        ihc_counts=np.array([count_classes(t) for t in truths], np.int64).reshape(-1, 5),
        ihc_said=judged.said,
        matrices=judged.matrices,
        unscored_tumor_tiles=_missed(he, findings),
        percent={
            "truth": facts["percent"],
            "model": findings.percent,
            "baseline": judged.baseline_percent,
        },
        facts=group_facts(facts) | {"mpp": round(findings.ihc.mpp, 4)},
    )


def group_facts(truth: dict[str, Any]) -> dict[str, Any]:
    """Facts of a case's truth by which figures are grouped, and its origin; None where unknown.

    `mpp` is the resolution of the slides in µm/px.
    """
    return {k: truth.get(k) for k in ("synthetic", "seed", "organ", "scanner", "mpp")}


def _he_tiles(
    files: CaseFiles, findings: Findings, baseline: Baseline, mpp: float, progress: Progress
) -> _HeTiles:
    """The tiles of the H&E slide that were read; `mpp` is that of the true tumor mask."""
    read = ~np.isnan(findings.rasters.he_probability)
    tiles = [TileIndex(int(c), int(r)) for r, c in np.argwhere(read)]
    with SlideReader.open(files.he, mpp=findings.he.mpp) as reader:
        shares = tumor_shares(read_true_tumor(files.truth), reader.grid, mpp)
        return _HeTiles(
            tiles=tiles,
            share=shares[read],
            baseline=baseline_tumor_map(reader, tiles, baseline, progress),
            grid=reader.grid,
        )


def _missed(he: _HeTiles, findings: Findings) -> int:
    """Number of tumor tiles that C missed, or that found no partner."""
    partners = {(t.he_column, t.he_row) for t in findings.tiles}
    return sum(
        bool(share >= 0.5) and (t.column, t.row) not in partners
        for t, share in zip(he.tiles, he.share, strict=True)
    )


def _place(tiles: list[TileIndex]) -> NDArray[np.int64]:
    return np.array([(t.column, t.row) for t in tiles], dtype=np.int64).reshape(-1, 2)


def _two(tumor: Floats) -> Floats:
    """Probabilities (n, 2) of other and tumor."""
    return np.stack([1 - tumor, tumor], axis=1)


def _grade(score: str | None) -> int:
    return -1 if score is None else Her2Score(score).grade
