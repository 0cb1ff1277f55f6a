"""Step 8: from what the steps found to `Findings`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.guideline import ChosenGuideline
from appliance.assays.her2.review import Evidence, review_reasons
from appliance.assays.her2.rois import deciding_rois
from appliance.assays.her2.scoring import paper_score, tile_grade, tile_label, wsi_percent
from appliance.domain import HE, HER2, Identity, SlideFacts, Stain
from appliance.findings.classes import CLASS_NAMES, h_score, percent_of_tumor
from appliance.findings.findings import (
    IHC_CLASSES,
    AlignmentFacts,
    ControlFacts,
    Findings,
    Rasters,
    Reason,
    TileFinding,
)
from appliance.findings.label_map import StoredLabels
from appliance.findings.stored import (
    load_models,
    load_probability,
    load_readings,
    load_unreadable,
)
from appliance.geometry import TILE_UM, TileIndex
from appliance.readers.cell_tally import add_up
from appliance.readers.control import judge_control
from appliance.readers.reading import TileReadings
from appliance.registration.alignment import Alignment
from appliance.registration.tile_plan import TilePlan
from appliance.settings.settings import Settings
from appliance.slides.appearance import load_appearance
from appliance.slides.raster import RasterGrid

HE_RASTER_UM = 4.5
"""Wanted resolution of the H&E tumor map; a tile's answer needs no finer raster."""
NO_TUMOR_SHARE = 0.02
"""M finds no tumor on a tile when it calls less of it tumor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutputs:
    """What the steps left: facts of both slides, folders of steps 4 and 7, alignment and plan;
    `marked_percent` of the tumor tiles on each slide lie under pen or on a fold."""

    he: SlideFacts
    ihc: SlideFacts
    tumor: Path
    stain: Path
    alignment: Alignment
    plan: TilePlan
    marked_percent: dict[Stain, float]


def assemble(
    identity: Identity, found: StepOutputs, chosen: ChosenGuideline, settings: Settings
) -> Findings:
    """Counts to shares, shares to a score, and everything that makes it doubtful."""
    probability = load_probability(found.tumor)
    read, ihc_read, ihc_mpp = load_readings(found.stain)
    tiles = tuple(
        _tile(read, number, found.plan, probability) for number in range(len(read.places))
    )
    counts = read.counts
    cells = add_up(read.cells.values())
    control = _control(found.stain, settings)
    total = counts.sum(axis=0)
    percent = percent_of_tumor(total)
    guideline = chosen.guideline
    rule = guideline.decide(percent, cells.cluster_cells) if total[1:].any() else None
    score = None if rule is None else rule.score
    # A tile's label map always covers one tile, whatever its number of pixels.
    tumor_area_mm2 = float((counts[:, 1:].sum(1) / counts.sum(1)).sum()) * TILE_UM**2 / 1e6
    plan = found.plan
    # Without a partner, or with one that the file does not give.
    unscored = len(plan.unscored_he) + len(plan.ihc_tiles) - len(tiles)
    looks = {HE: load_appearance(found.tumor), HER2: load_appearance(found.stain)}
    unreadable = {
        HE: load_unreadable(found.tumor),
        HER2: load_unreadable(found.stain),
    }
    tumor_share = np.array([sum(tile.percent) for tile in tiles]) / 100
    reasons = review_reasons(
        settings.review,
        guideline,
        Evidence(
            alignment=found.alignment,
            score=score,
            percent=percent,
            tumor_area_mm2=tumor_area_mm2,
            unscored_tumor_percent=100 * unscored / max(1, unscored + len(tiles)),
            cells=cells,
            intensity_grade=_weighted([tile.intensity for tile in tiles], tumor_share),
            without_tumor_percent=100 * float((tumor_share < NO_TUMOR_SHARE).mean())
            if tiles
            else 0.0,
            appearance=looks,
            marked_percent=found.marked_percent,
            unreadable_percent=unreadable,
            control=control,
        ),
    )
    he_raster = RasterGrid.of(found.he, HE_RASTER_UM)
    return Findings(
        accession=identity.accession,
        block=identity.block,
        he=found.he,
        ihc=found.ihc,
        alignment=_alignment(found.alignment),
        mapping=found.alignment.mapping,
        guideline=guideline.name,
        guideline_version=guideline.version,
        organ=guideline.organ,
        score=score,
        rule="" if rule is None else rule.text,
        category=None if rule is None else rule.category,
        estimated=True,
        paper_score=paper_score(tiles),
        wsi_percent=wsi_percent(tiles),
        percent=percent,
        h_score=h_score(percent),
        tumor_area_mm2=tumor_area_mm2,
        unscored_tumor_area_mm2=unscored * TILE_UM**2 / 1e6,
        comment="" if score is None else guideline.comment(score, percent),
        review=tuple(sorted((*chosen.reasons, *reasons), key=lambda r: list(Reason).index(r.code))),
        appearance={
            name: round(seen.unusual_percent, 1)
            for name, seen in (("he", looks[HE]), ("ihc", looks[HER2]))
            if seen.tiles
        },
        unreadable={
            name: round(unreadable[stain], 2) for name, stain in (("he", HE), ("ihc", HER2))
        },
        cells=cells.facts if tiles else None,
        control=control,
        rois=deciding_rois(tiles, score),
        models=(*load_models(found.tumor), *load_models(found.stain)),
        tiles=tiles,
        rasters=Rasters(
            he_tumor=he_raster.expand(probability >= settings.scoring.tumor_threshold),
            he_mpp=he_raster.mpp,
            ihc_classes=StoredLabels.open(found.stain / IHC_CLASSES),
            ihc_mpp=ihc_mpp,
            ihc_read=ihc_read,
            he_probability=probability,
        ),
    )


def _tile(
    read: TileReadings, number: int, plan: TilePlan, probability: NDArray[np.float32]
) -> TileFinding:
    counts = read.counts[number]
    column, row = read.places[number].tolist()
    intensity = int(read.intensity[number])
    partner = plan.partner[TileIndex(column, row)]
    shares = 100.0 * counts[1:5] / counts.sum()
    return TileFinding(
        column=column,
        row=row,
        he_column=partner.column,
        he_row=partner.row,
        tumor_probability=float(probability[partner.row, partner.column]),
        intensity=intensity,
        intensity_probability=float(read.certainty[number]),
        percent=tuple(shares.tolist()),
        grade=tile_grade(counts),
        label=tile_label(counts, intensity),
    )


def _weighted(intensities: list[int], tumor_share: NDArray[np.float64]) -> float:
    """L's mean class over the tumor that M sees, so that both speak of the same px."""
    total = float(tumor_share.sum())
    return float(np.dot(intensities, tumor_share)) / total if total > 0 else 0.0


def _control(stain: Path, settings: Settings) -> ControlFacts | None:
    raw = json.loads((stain / "control.json").read_text())
    counts = [np.array(tile, dtype=np.int64) for tile in raw["counts"]]
    strongest = CLASS_NAMES.index(settings.review.control_strongest)
    return judge_control(raw["area_mm2"], counts, strongest)


def _alignment(alignment: Alignment) -> AlignmentFacts:
    main = alignment.mapping.main
    return AlignmentFacts(
        matrix=main.matrix,
        shift_um=main.shift_um,
        error_um=alignment.error_um,
        overlap=alignment.overlap,
        agreement=alignment.agreement,
        lost_mm2=alignment.lost_mm2,
        mirrored=alignment.mirrored,
        pieces=len(alignment.mapping.pieces),
        method=alignment.method,
    )
