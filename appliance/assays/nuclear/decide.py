"""Decision of a case of a nuclear receptor: from the outputs of the steps to `Findings`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from appliance.assays.alignment import alignment_facts
from appliance.assays.assay import StepOutputs
from appliance.assays.nuclear.guideline import Guideline, Rule, load_guideline
from appliance.assays.nuclear.measure import Measured, measure
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.nuclear.scores import h_score, positive_percent
from appliance.assays.read_tiles import read_tiles
from appliance.domain import HE
from appliance.findings.classes import NUCLEAR_CLASSES
from appliance.findings.findings import Findings, Rasters, ReadOuts
from appliance.findings.measured import CellFacts
from appliance.geometry import TILE_UM
from appliance.readers.nuclei import NucleiReading
from appliance.readers.tumor import TumorReading
from appliance.settings.settings import Settings
from appliance.slides.raster import RasterGrid

HE_RASTER_UM = 4.5
"""Wanted resolution of the tumor map; a tile's answer needs no finer raster."""


def decide(receptor: Receptor, outputs: StepOutputs, settings: Settings) -> Findings:
    """Counts to shares, the percentage to a result by the guideline; without reasons for review.

    There is no result without tumor nuclei, for brown that does not lie in nuclei, and where too
    few nuclei of the whole slide show that it was stained.
    """
    measured = measure(outputs, settings.nuclear)
    guideline = load_guideline(receptor.guideline)
    rule: Rule | None = None
    if measured.nuclei.any() and measured.is_nuclear and measured.is_proven:
        rule = guideline.decide(positive_percent(measured.percent))
    keys = ("he", HE), ("ihc", outputs.identity.stain)
    return Findings(
        assay=receptor.assay,
        accession=outputs.identity.accession,
        block=outputs.identity.block,
        he=outputs.anatomy,
        ihc=outputs.target,
        alignment=alignment_facts(outputs.alignment),
        mapping=outputs.alignment.mapping,
        guideline=guideline.name,
        guideline_version=guideline.version,
        score=None if rule is None else rule.score,
        rule="" if rule is None else rule.text,
        estimated=True,
        percent=dict(zip(NUCLEAR_CLASSES, measured.percent, strict=True)),
        h_score=h_score(measured.percent),
        tumor_area_mm2=measured.tumor_area_mm2,
        unscored_tumor_area_mm2=measured.unscored * TILE_UM**2 / 1e6,
        comment="" if rule is None else _comment(rule, guideline, measured),
        review=(),
        opinions=tuple(reading.opinion for reading in outputs.readings.values()),
        appearance={
            key: round(outputs.appearance[stain].unusual_percent, 1)
            for key, stain in keys
            if outputs.appearance[stain].tiles
        },
        unreadable={key: round(outputs.unreadable_percent[stain], 2) for key, stain in keys},
        cells=_cells(measured),
        control=measured.control,
        read_outs=None if rule is None else _read_outs(rule),
        tiles=measured.tiles,
        annotated=measured.annotated,
        rasters=_rasters(outputs, measured, settings),
    )


def corrected(findings: Findings, score: str) -> Findings:
    """Findings with a person's result; statements of the appliance on its own one do not hold."""
    rule = load_guideline(findings.guideline).rule_of(score)
    return replace(
        findings,
        score=rule.score,
        review=(),
        estimated=False,
        rule="",
        comment=rule.comment,
        read_outs=_read_outs(rule),
    )


def _read_outs(rule: Rule) -> ReadOuts:
    return ReadOuts(binary=rule.binary, three_way=None, four_way=rule.score)


def _comment(rule: Rule, guideline: Guideline, measured: Measured) -> str:
    """Comment of the guideline, and the status of the controls where it belongs to the result."""
    said = [rule.comment] if rule.comment else []
    if positive_percent(measured.percent) <= guideline.control_up_to:
        nuclei = sum(measured.outside)
        said.append(f"internal control: {measured.stained_outside} of {nuclei} nuclei are stained")
        control = measured.control
        seen = "none found" if control is None else f"stained {control.strongest} at most"
        said.append(f"control tissue: {seen}")
    return "; ".join(said)


def _cells(measured: Measured) -> CellFacts | None:
    """Tumor nuclei in the form that findings hold; membranes are not measured."""
    counted = int(measured.nuclei.sum())
    if not counted:
        return None
    return CellFacts(
        counted=counted,
        measured=counted,
        percent=dict(zip(NUCLEAR_CLASSES, measured.percent, strict=True)),
        h_score=h_score(measured.percent),
        completeness={},
        complete_percent={},
        largest_cluster={},
    )


def _rasters(outputs: StepOutputs, measured: Measured, settings: Settings) -> Rasters:
    probability = outputs.reading("tumor", TumorReading).probability
    nuclei = outputs.reading("nuclei", NucleiReading)
    grid = RasterGrid.of(outputs.anatomy, HE_RASTER_UM)
    return Rasters(
        he_tumor=grid.expand(np.nan_to_num(probability) >= settings.scoring.tumor_threshold),
        he_mpp=grid.mpp,
        ihc_classes=nuclei.labels,
        ihc_mpp=nuclei.mpp,
        ihc_read=read_tiles(outputs, measured.tiles),
        he_probability=probability,
    )
