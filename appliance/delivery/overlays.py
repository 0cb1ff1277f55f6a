"""What viewers lay over the slides, from the findings' rasters: Segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset

from appliance.analysis.findings import CLASS_NAMES, MARGIN, RESEARCH_USE, SCORED, Findings
from appliance.analysis.raster import RasterGrid, TileMask
from appliance.domain import Stain
from appliance.geometry import TILE_UM
from appliance.settings import ObjectSettings
from dicom import codes
from dicom.segmentation import (
    AlgorithmFacts,
    Layer,
    SegmentFacts,
    pyramid_factors,
    write_segmentation,
)

CLASS_CIELAB = ((70, -10, -30), (85, 0, 60), (65, 30, 60), (40, 40, 30))
"""Recommended display colours of 0, 1+, 2+, 3+ (L*, a*, b*): blue, yellow, orange, red-brown."""
TUMOR_CIELAB = (55, 60, 40)
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What all overlays of a case have in common; `sources` are the slides' headers."""

    findings: Findings
    sources: Mapping[Stain, Sequence[Dataset]]
    algorithms: Mapping[str, AlgorithmFacts]
    settings: ObjectSettings
    created: datetime
    seed: str
    software: str


def write_overlays(folder: Path, making: Making) -> list[tuple[str, Path]]:
    """Write them into `folder`; (kind, file) in the order of sending.

    Raises
    ------
    dicom.errors.ObjectError
        If a raster makes no valid object.
    """
    return [("SEG", path) for path in (*_tumor(folder, making), *_stain(folder, making))]


def _tumor(folder: Path, making: Making) -> list[Path]:
    rasters = making.findings.rasters
    layer = Layer(labels=rasters.he_tumor, segments=[_tumor_segment(1, "Tumor", making)])
    return _segmentation(
        folder / "seg-he",
        making,
        stain=Stain.HE,
        layers=[layer],
        mpp=rasters.he_mpp,
        series_description="Tumor on H&E (research use only)",
        content_description=f"Tumor. {RESEARCH_USE}",
    )


def _stain(folder: Path, making: Making) -> list[Path]:
    rasters = making.findings.rasters
    classes = [
        SegmentFacts(
            number=number,
            label=f"HER2 {name}",
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            type=codes.NEOPLASM,
            algorithm=making.algorithms["segmentation"],
            cielab=cielab,
        )
        for number, (name, cielab) in enumerate(
            zip(CLASS_NAMES, CLASS_CIELAB, strict=True), start=1
        )
    ]
    rows, columns = rasters.ihc_classes.shape
    grid = RasterGrid(rows=rows, columns=columns, mpp=rasters.ihc_mpp)
    tumor = _tumor_segment(len(classes) + 1, "Tumor, scored (from H&E)", making)
    margin = ", a margin that is not scored included" if (rasters.ihc_read == MARGIN).any() else ""
    return _segmentation(
        folder / "seg-ihc",
        making,
        stain=Stain.HER2,
        layers=[
            Layer(labels=rasters.ihc_classes, segments=classes),
            Layer(labels=TileMask(grid, rasters.ihc_read == SCORED), segments=[tumor]),
        ],
        mpp=rasters.ihc_mpp,
        series_description="HER2 stain on IHC (research use only)",
        content_description=f"HER2 classes{margin}. {RESEARCH_USE}",
    )


def _tumor_segment(number: int, label: str, making: Making) -> SegmentFacts:
    return SegmentFacts(
        number=number,
        label=label,
        category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        type=codes.NEOPLASM,
        algorithm=making.algorithms["tumor"],
        cielab=TUMOR_CIELAB,
    )


def _segmentation(
    stem: Path, making: Making, *, stain: Stain, mpp: float, **facts: Any
) -> list[Path]:
    return write_segmentation(
        stem,
        source_images=making.sources[stain],
        mpp=mpp,
        factors=pyramid_factors(mpp, finest_um=making.settings.finest_um, coarsest_um=TILE_UM),
        max_bytes=int(making.settings.max_mib * MIB),
        uid_seed=f"{making.seed}|{stem.name}",
        created=making.created,
        software=making.software,
        **facts,
    )
