"""Decision of a HER2 case: from the outputs of the steps to `Findings`."""

from __future__ import annotations

from dataclasses import replace

from appliance.assays.alignment import alignment_facts
from appliance.assays.assay import StepOutputs
from appliance.assays.her2.choice import choose_guideline
from appliance.assays.her2.guideline import Rule, load_guideline
from appliance.assays.her2.measure import Measured, measure
from appliance.assays.her2.paper import (
    binary_by_pixels,
    paper_score,
    wsi_percent,
    wsi_percent_of_slide,
)
from appliance.assays.her2.readouts import read_outs
from appliance.assays.her2.rois import deciding_rois
from appliance.assays.read_tiles import read_tiles
from appliance.domain import HE, Her2Score, Stain
from appliance.findings.classes import CLASS_NAMES, h_score
from appliance.findings.findings import Findings, Rasters
from appliance.findings.measured import Roi
from appliance.geometry import TILE_UM
from appliance.readers.segmentation import SegmentationReading
from appliance.readers.tumor import TumorReading
from appliance.settings.settings import Settings
from appliance.slides.raster import RasterGrid

NO_CLUSTER = (0, 0, 0, 0)
HE_RASTER_UM = 4.5
"""Wanted resolution of the tumor map; a tile's answer needs no finer raster."""


def decide(outputs: StepOutputs, settings: Settings) -> Findings:
    """Counts to shares, shares to a score by the guideline; without reasons for review."""
    measured = measure(outputs, settings)
    guideline = choose_guideline(settings.scoring, outputs.declared).guideline
    rule: Rule | None = None
    if measured.total[1:].any():
        rule = guideline.decide(measured.percent, measured.cells.cluster_cells)
    score = None if rule is None else rule.score
    category = None if rule is None else rule.category
    # A share of hardly any tumor says nothing about a drug.
    enough = measured.tumor_area_mm2 >= settings.review.min_tumor_area_mm2
    findings = Findings(
        assay="her2",
        accession=outputs.identity.accession,
        block=outputs.identity.block,
        he=outputs.anatomy,
        ihc=outputs.target,
        alignment=alignment_facts(outputs.alignment),
        mapping=outputs.alignment.mapping,
        guideline=guideline.name,
        guideline_version=guideline.version,
        organ=guideline.organ,
        score=None if score is None else score.value,
        rule="" if rule is None else rule.text,
        category=None if category is None else category.value,
        estimated=True,
        percent=measured.percent,
        h_score=h_score(measured.percent),
        tumor_area_mm2=measured.tumor_area_mm2,
        tumor_percent=measured.tumor_percent,
        unscored_tumor_area_mm2=measured.unscored * TILE_UM**2 / 1e6,
        comment=guideline.comment(score, measured.percent) if score and enough else "",
        review=(),
        opinions=tuple(reading.opinion for reading in outputs.readings.values()),
        appearance={
            key: round(outputs.appearance[stain].unusual_percent, 1)
            for key, stain in _keys(outputs)
            if outputs.appearance[stain].tiles
        },
        unreadable={
            key: round(outputs.unreadable_percent[stain], 2) for key, stain in _keys(outputs)
        },
        cells=measured.cells.facts if measured.tiles else None,
        control=measured.control,
        outside_tumor=measured.outside,
        rois=_rois(measured, rule),
        read_outs=read_outs(score, organ=guideline.organ, category=category)
        if score and enough
        else None,
        tiles=measured.tiles,
        annotated=measured.annotated,
        rasters=_rasters(outputs, measured, settings),
    )
    return _with_paper(findings, measured, enough=enough)


def corrected(findings: Findings, score: str) -> Findings:
    """Findings with a person's score.

    Statements of the appliance on its own score do not hold for a person's: the rule, the category,
    the shares that tell ultralow from null, the status by px, the regions that decided, and the
    reasons for review, which are answered and stay in the report that is replaced. Where the scheme
    has categories a score alone tells no status.
    """
    given = Her2Score(score)
    guideline = load_guideline(findings.guideline)
    return replace(
        findings,
        score=given.value,
        review=(),
        estimated=False,
        rule="",
        category=None,
        binary_by_pixels=None,
        comment="" if given is Her2Score.ZERO else guideline.comment(given, findings.percent),
        rois=(),
        read_outs=None if guideline.has_categories else read_outs(given, organ=findings.organ),
    )


def _rois(measured: Measured, rule: Rule | None) -> tuple[Roi, ...]:
    """Regions that decided: tiles of the score's class, or those that hold a cluster of the size
    that the rule asks for, where clusters were counted."""
    if rule is None or rule.cluster_from_cells is None or measured.cells.cluster_cells is None:
        return deciding_rois(measured.tiles, None if rule is None else rule.score)
    least, lowest = rule.cluster_from_cells, min(map(CLASS_NAMES.index, rule.classes))
    held = [
        tile
        for tile in measured.tiles
        if measured.clusters.get((tile.column, tile.row), NO_CLUSTER)[lowest] >= least
    ]
    return deciding_rois(held, rule.score, all_decide=True)


def _with_paper(findings: Findings, measured: Measured, *, enough: bool) -> Findings:
    """Findings with what arXiv 2512.22335 computes; `enough`: there is tumor to interpret."""
    paper = paper_score(measured.tiles)
    return replace(
        findings,
        paper_score=None if paper is None else paper.highest_class.value,
        paper_score_by_count=None if paper is None else paper.largest_count.value,
        paper_score_fallback=None if paper is None else paper.fallback,
        wsi_percent=wsi_percent(measured.tiles),
        wsi_percent_of_slide=wsi_percent_of_slide(measured.tiles, findings.ihc.size_um),
        binary_by_pixels=binary_by_pixels(measured.total) if enough else None,
    )


def _keys(outputs: StepOutputs) -> tuple[tuple[str, Stain], tuple[str, Stain]]:
    """Keys of the two slides in JSON, and their stains."""
    return ("he", HE), ("ihc", outputs.identity.stain)


def _rasters(outputs: StepOutputs, measured: Measured, settings: Settings) -> Rasters:
    probability = outputs.reading("tumor", TumorReading).probability
    segmentation = outputs.reading("segmentation", SegmentationReading)
    grid = RasterGrid.of(outputs.anatomy, HE_RASTER_UM)
    return Rasters(
        he_tumor=grid.expand(probability >= settings.scoring.tumor_threshold),
        he_mpp=grid.mpp,
        ihc_classes=segmentation.labels,
        ihc_mpp=segmentation.mpp,
        ihc_read=read_tiles(outputs, measured.tiles),
        he_probability=probability,
    )
