"""What viewers lay over the slides, from the findings' rasters: Segmentations and heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from appliance.domain import HE, HER2, Stain
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import MARGIN, RESEARCH_USE, SCORED, Findings
from appliance.findings.label_map import LabelMap
from appliance.geometry import TILE_UM
from appliance.settings.objects import ObjectSettings
from appliance.slides.raster import RasterGrid, TileMask
from dicom import codes
from dicom.fraction import write_fraction
from dicom.frames import BAND_PX
from dicom.heatmap import HeatLevel, build_heatmap
from dicom.segmentation import (
    AlgorithmFacts,
    Form,
    Layer,
    SegmentFacts,
    pyramid_factors,
    write_segmentation,
)

CLASS_CIELAB = ((70, -10, -30), (85, 0, 60), (65, 30, 60), (40, 40, 30))
"""Recommended display colours of 0, 1+, 2+, 3+ (L*, a*, b*): blue, yellow, orange, red-brown."""
TUMOR_CIELAB = (55, 60, 40)
PROBABILITY_CIELAB = ((30, 20, -50), (60, 0, 0), (85, 0, 70))
"""Blue, grey, yellow: even steps of lightness, and told apart by the colour blind."""
BLOCK_PX, COARSER = 16, 8
"""Edge of an intensity's block in px of the label map (18 µm), and how much coarser its second
level is: then about a tile."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectContext:
    """What all overlays of a case have in common; `sources` are the slides' headers."""

    findings: Findings
    sources: Mapping[Stain, Sequence[Dataset]]
    algorithms: Mapping[str, AlgorithmFacts]
    settings: ObjectSettings
    created: datetime
    seed: str
    software: str


def write_overlays(folder: Path, context: ObjectContext) -> list[tuple[str, Path]]:
    """Write them into `folder`; (kind, file) in the order of sending.

    Raises
    ------
    dicom.errors.ObjectError
        If a raster makes no valid object.
    """
    made = [("SEG", path) for path in (*_tumor(folder, context), *_stain(folder, context))]
    if context.settings.fractional:
        made.append(("SEG", _fraction(folder, context)))
    if context.settings.heatmaps:
        made += [
            ("PM", path) for path in (*_probability(folder, context), *_intensity(folder, context))
        ]
    return made


def _tumor(folder: Path, context: ObjectContext) -> list[Path]:
    rasters = context.findings.rasters
    layer = Layer(labels=rasters.he_tumor, segments=[_tumor_segment(1, "Tumor", context)])
    return _segmentation(
        folder / "seg-he",
        context,
        stain=HE,
        layers=[layer],
        mpp=rasters.he_mpp,
        series_description="Tumor on H&E (research use only)",
        content_description=f"Tumor. {RESEARCH_USE}",
    )


def _stain(folder: Path, context: ObjectContext) -> list[Path]:
    rasters = context.findings.rasters
    classes = [
        SegmentFacts(
            number=number,
            label=f"HER2 {name}",
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            type=codes.NEOPLASM,
            algorithm=context.algorithms["segmentation"],
            cielab=cielab,
        )
        for number, (name, cielab) in enumerate(
            zip(CLASS_NAMES, CLASS_CIELAB, strict=True), start=1
        )
    ]
    rows, columns = rasters.ihc_classes.shape
    mask = TileMask(
        RasterGrid(rows=rows, columns=columns, mpp=rasters.ihc_mpp), rasters.ihc_read == SCORED
    )
    margin = ", a margin that is not scored included" if (rasters.ihc_read == MARGIN).any() else ""
    together = Form(context.settings.segmentation) is Form.SPARSE
    tumor = _tumor_segment(len(classes) + 1 if together else 1, "Tumor, scored (from H&E)", context)
    layers = [
        Layer(labels=rasters.ihc_classes, segments=classes),
        Layer(labels=mask, segments=[tumor]),
    ]
    # Segments that overlap need a series each where the form does not let them.
    series = {"seg-ihc": layers}
    if not together:
        series = {"seg-ihc": layers[:1], "seg-ihc-tumor": layers[1:]}
    return [
        path
        for name, part in series.items()
        for path in _segmentation(
            folder / name,
            context,
            stain=HER2,
            layers=part,
            mpp=rasters.ihc_mpp,
            series_description="HER2 stain on IHC (research use only)",
            content_description=f"HER2 classes{margin}. {RESEARCH_USE}",
        )
    ]


def _fraction(folder: Path, context: ObjectContext) -> Path:
    """Tumor probability on H&E, a px per tile."""
    grid = RasterGrid.of(context.findings.he, TILE_UM)
    path = folder / "seg-he-probability.dcm"
    write_fraction(
        path,
        source_images=context.sources[HE],
        probability=grid.sampled(context.findings.rasters.he_probability),
        mpp=grid.mpp,
        segment=_tumor_segment(1, "Tumor probability", context),
        series_description="Tumor probability on H&E (research use only)",
        content_description=f"Tumor probability. {RESEARCH_USE}",
        uid_seed=f"{context.seed}|{path.stem}",
        created=context.created,
        software=context.software,
    )
    return path


def _tumor_segment(number: int, label: str, context: ObjectContext) -> SegmentFacts:
    return SegmentFacts(
        number=number,
        label=label,
        category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        type=codes.NEOPLASM,
        algorithm=context.algorithms["tumor"],
        cielab=TUMOR_CIELAB,
    )


def _segmentation(
    stem: Path, context: ObjectContext, *, stain: Stain, mpp: float, **facts: Any
) -> list[Path]:
    return write_segmentation(
        stem,
        source_images=context.sources[stain],
        mpp=mpp,
        factors=pyramid_factors(mpp, finest_um=context.settings.finest_um, coarsest_um=TILE_UM),
        form=Form(context.settings.segmentation),
        max_bytes=int(context.settings.max_mib * MIB),
        uid_seed=f"{context.seed}|{stem.name}",
        created=context.created,
        software=context.software,
        **facts,
    )


def _probability(folder: Path, context: ObjectContext) -> list[Path]:
    """Tumor probability on H&E, a px per tile."""
    grid = RasterGrid.of(context.findings.he, TILE_UM)
    values = grid.sampled(context.findings.rasters.he_probability)
    return _heatmap(
        folder / "pm-he",
        context,
        stain=HE,
        levels=[HeatLevel(values=values, mpp=grid.mpp)],
        highest=1.0,
        quantity=codes.PROBABILITY,
        label="Tumor",
        cielab=PROBABILITY_CIELAB,
        series_description="Tumor probability on H&E (research use only)",
        content_description="Tumor probability of a tile. For research use only.",
    )


def _intensity(folder: Path, context: ObjectContext) -> list[Path]:
    """Stain intensity on IHC: mean class, 0 to 3, of the tumor px of a block."""
    rasters = context.findings.rasters
    total, stained = block_sums(rasters.ihc_classes, BLOCK_PX)
    levels = []
    for factor in (1, COARSER):
        sums, counts = (_added(part, factor) for part in (total, stained))
        values = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        levels.append(
            HeatLevel(values=values.astype(np.float32), mpp=rasters.ihc_mpp * BLOCK_PX * factor)
        )
    return _heatmap(
        folder / "pm-ihc",
        context,
        stain=HER2,
        levels=levels,
        highest=3.0,
        quantity=codes.STAIN_INTENSITY,
        label="HER2 intensity",
        cielab=CLASS_CIELAB,
        series_description="HER2 intensity on IHC (research use only)",
        content_description="Mean class (0-3) of tumor px. For research use only.",
    )


def block_sums(labels: LabelMap, edge: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Of each block of `edge` x `edge` px: the sum of the classes 0-3 of its px with a label (1-4),
    and how many these are. Blocks at the far edges count what they have. Read band by band."""
    rows, columns = labels.shape
    shape = (-(-rows // edge), -(-columns // edge))
    total, counts = np.zeros(shape, dtype=np.uint32), np.zeros(shape, dtype=np.uint32)
    height = BAND_PX // edge * edge
    for top in range(0, rows, height):
        band = labels[top : top + height, 0:columns]
        if not band.any():
            continue
        place = slice(top // edge, -(-(top + len(band)) // edge))
        counts[place] = _added(band > 0, edge)
        total[place] = _added(band, edge) - counts[place]
    return total, counts


def _added(values: NDArray[Any], edge: int) -> NDArray[np.uint32]:
    """Sums over blocks of `edge` x `edge`; rows first, which is fast."""
    rows = [values[y : y + edge].sum(axis=0, dtype=np.uint32) for y in range(0, len(values), edge)]
    return np.add.reduceat(np.stack(rows), np.arange(0, values.shape[1], edge), axis=1)


def _heatmap(
    stem: Path, context: ObjectContext, *, stain: Stain, cielab: Any, **facts: Any
) -> list[Path]:
    paths = []
    for number, dataset in enumerate(
        build_heatmap(
            source_images=context.sources[stain],
            cielab=cielab if context.settings.heatmap_palette else (),
            uid_seed=f"{context.seed}|{stem.name}",
            created=context.created,
            software=context.software,
            **facts,
        ),
        start=1,
    ):
        paths.append(stem.with_name(f"{stem.name}-{number}.dcm"))
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths
