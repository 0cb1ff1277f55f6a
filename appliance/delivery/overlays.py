"""Overlays that viewers lay over the slides: segmentations and heat maps of the findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from appliance.delivery.context import ObjectContext
from appliance.delivery.scored_labels import Within, scored_labels, tile_mask
from appliance.domain import Stain
from appliance.findings.findings import MARGIN, RESEARCH_USE, SCORED
from appliance.findings.label_map import LabelMap
from appliance.geometry import TILE_UM
from appliance.slides.raster import RasterGrid
from dicom import codes
from dicom.fraction import write_fraction
from dicom.frames import BAND_PX
from dicom.heatmap import HeatLevel, build_heatmap
from dicom.segmentation import (
    Form,
    Layer,
    SegmentFacts,
    pyramid_factors,
    write_segmentation,
)

TUMOR_CIELAB = (55, 60, 40)
PROBABILITY_CIELAB = ((30, 20, -50), (60, 0, 0), (85, 0, 70))
"""Blue, gray, yellow: even steps of lightness, distinguishable by color-blind readers."""
BLOCK_PX, COARSER = 16, 8
"""Edge of an intensity block in px of the label map (18 µm), and the factor from the first level to
the second, whose px are about the size of a tile."""
ATTENTION_OFFSET = 60
"""Offset of series numbers of attention from those of the slide's segmentations."""
MIB = 1 << 20


def write_overlays(folder: Path, context: ObjectContext) -> list[tuple[str, Path]]:
    """Write the overlays into `folder`; return (kind, file) in the order of sending.

    Raises
    ------
    dicom.errors.ObjectError
        If no valid object can be made from a raster.
    """
    labels = context.findings.rasters.ihc_classes
    made = [("SEG", path) for path in _tumor(folder, context)]
    if labels is not None:
        made += [("SEG", path) for path in _stain(folder, context, labels)]
    if context.settings.fractional:
        made.append(("SEG", _fraction(folder, context)))
    if context.settings.heatmaps:
        made += [("PM", path) for path in _probability(folder, context)]
        if labels is not None:
            made += [("PM", path) for path in _intensity(folder, context, labels)]
        for number, reader in enumerate(context.findings.rasters.attention):
            made += [("PM", path) for path in _attention(folder, context, reader, number)]
    return made


def _tumor(folder: Path, context: ObjectContext) -> list[Path]:
    rasters = context.findings.rasters
    layer = Layer(labels=rasters.he_tumor, segments=[_tumor_segment(1, "Tumor", context)])
    return _segmentation(
        folder / "seg-he",
        context,
        stain=context.anatomy,
        layers=[layer],
        mpp=rasters.he_mpp,
        series_description="Tumor on H&E (research use only)",
        content_description=f"Tumor. {RESEARCH_USE}",
    )


def _stain(folder: Path, context: ObjectContext, labels: LabelMap) -> list[Path]:
    """Write the classes of the scored tiles, these tiles, and the classes of the annotated tiles.

    Px of annotated tiles have segments of their own, in pale colors: those of the classes hold the
    px that made the score, so that their areas give its shares.
    """
    rasters, title = context.findings.rasters, context.assay.title
    layers = {
        "": Layer(
            labels=scored_labels(context.findings.rasters, labels),
            segments=_class_segments(context),
        ),
        "-tumor": Layer(
            labels=tile_mask(context.findings.rasters, labels, SCORED),
            segments=[_tumor_segment(1, "Tumor, scored (from H&E)", context, codes.SEGMENT_SCORED)],
        ),
    }
    annotated = tile_mask(context.findings.rasters, labels, MARGIN)
    if annotated.tiles.any():
        layers["-annotated"] = Layer(
            labels=Within(labels, annotated), segments=_class_segments(context, scored=False)
        )
    # Overlapping segments need one series each where the form does not allow overlap.
    series = {f"seg-ihc{name}": [layer] for name, layer in layers.items()}
    if Form(context.settings.segmentation) is Form.SPARSE:
        series = {"seg-ihc": _numbered(layers.values())}
    also = ", also of tiles not scored" if "-annotated" in layers else ""
    return [
        path
        for name, part in series.items()
        for path in _segmentation(
            folder / name,
            context,
            stain=context.target,
            layers=part,
            mpp=rasters.ihc_mpp,
            series_description=f"{title} stain on IHC (research use only)",
            content_description=f"{title} classes{also}. {RESEARCH_USE}",
        )
    ]


def _class_segments(context: ObjectContext, *, scored: bool = True) -> list[SegmentFacts]:
    """Segments of the assay's classes, numbered from 1; pale where they are not `scored`."""
    return [
        SegmentFacts(
            number=number,
            label=f"{context.assay.title} {named.name}" + ("" if scored else ", not scored"),
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            type=codes.NEOPLASM,
            algorithm=context.algorithm("segmentation"),
            cielab=named.cielab if scored else _pale(named.cielab),
            modifiers=(
                codes.segment_class(named.name),
                *(() if scored else (codes.SEGMENT_NOT_SCORED,)),
            ),
        )
        for number, named in enumerate(context.assay.classes, start=1)
    ]


def _pale(cielab: tuple[int, int, int]) -> tuple[int, int, int]:
    lightness, a, b = cielab
    return (lightness + 100) // 2, round(a / 3), round(b / 3)


def _numbered(layers: Iterable[Layer]) -> list[Layer]:
    """Layers whose segments are numbered across all of them."""
    found: list[Layer] = []
    number = 0
    for layer in layers:
        segments = [replace(s, number=number + s.number) for s in layer.segments]
        found.append(replace(layer, segments=segments))
        number += len(segments)
    return found


def _fraction(folder: Path, context: ObjectContext) -> Path:
    """Write tumor probability on H&E, one px per tile, as a fractional segmentation."""
    grid = RasterGrid.of(context.findings.he, TILE_UM)
    path = folder / "seg-he-probability.dcm"
    write_fraction(
        path,
        source_images=context.sources[context.anatomy],
        probability=grid.sampled(context.findings.rasters.he_probability),
        mpp=grid.mpp,
        read_mpp=context.mpp(context.anatomy),
        segment=_tumor_segment(1, "Tumor probability", context),
        series_description="Tumor probability on H&E (research use only)",
        content_description=f"Tumor probability. {RESEARCH_USE}",
        uid_seed=context.overlay_seed(context.anatomy, path.stem),
        created=context.created,
        software=context.software,
    )
    return path


def _tumor_segment(
    number: int, label: str, context: ObjectContext, *modifiers: Code
) -> SegmentFacts:
    return SegmentFacts(
        number=number,
        label=label,
        category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        type=codes.NEOPLASM,
        algorithm=context.algorithm("tumor"),
        cielab=TUMOR_CIELAB,
        modifiers=modifiers,
    )


def _segmentation(
    stem: Path, context: ObjectContext, *, stain: Stain, mpp: float, **facts: Any
) -> list[Path]:
    return write_segmentation(
        stem,
        source_images=context.sources[stain],
        mpp=mpp,
        read_mpp=context.mpp(stain),
        factors=pyramid_factors(mpp, finest_um=context.settings.finest_um, coarsest_um=TILE_UM),
        form=Form(context.settings.segmentation),
        max_bytes=int(context.settings.max_mib * MIB),
        max_frames=context.settings.max_frames,
        uid_seed=context.overlay_seed(stain, stem.name),
        created=context.created,
        software=context.software,
        **facts,
    )


def _probability(folder: Path, context: ObjectContext) -> list[Path]:
    """Write the heat map of tumor probability on H&E, one px per tile."""
    grid = RasterGrid.of(context.findings.he, TILE_UM)
    values = grid.sampled(context.findings.rasters.he_probability)
    return _heatmap(
        folder / "pm-he",
        context,
        stain=context.anatomy,
        levels=[HeatLevel(values=values, mpp=grid.mpp)],
        highest=1.0,
        quantity=codes.PROBABILITY,
        label="Tumor",
        cielab=PROBABILITY_CIELAB,
        series_description="Tumor probability on H&E (research use only)",
        content_description="Tumor probability of a tile. For research use only.",
    )


def _intensity(folder: Path, context: ObjectContext, labels: LabelMap) -> list[Path]:
    """Write the heat map of stain intensity: mean class (0-3) of a block's scored tumor px."""
    rasters, title = context.findings.rasters, context.assay.title
    total, stained = block_sums(scored_labels(context.findings.rasters, labels), BLOCK_PX)
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
        stain=context.target,
        levels=levels,
        highest=float(len(context.assay.classes) - 1),
        quantity=context.intensity,
        label=f"{title} intensity",
        cielab=tuple(named.cielab for named in context.assay.classes),
        series_description=f"{title} intensity on IHC (research use only)",
        content_description="Mean class (0-3) of tumor px. For research use only.",
    )


def _attention(folder: Path, context: ObjectContext, reader: str, number: int) -> list[Path]:
    """Write the heat map of the weight of each tile in a second reader's answer, by an even share.

    A value is the tile's weight times the number of tiles: 1 is an even share.
    """
    grid, weights = RasterGrid.of(context.findings.ihc, TILE_UM), _even_shares(context, reader)
    values = grid.sampled(weights)
    if not np.isfinite(values).any():
        return []
    return _heatmap(
        folder / f"pm-ihc-attention-{number + 1}",
        context,
        stain=context.target,
        levels=[HeatLevel(values=values, mpp=grid.mpp)],
        highest=float(np.nanmax(weights)),
        quantity=codes.ATTENTION,
        label="Attention",
        cielab=PROBABILITY_CIELAB,
        series_description="Attention of a second reader (research use only)",
        content_description=f"Attention of {reader.replace('_', ' ')}. {RESEARCH_USE}",
        series_offset=ATTENTION_OFFSET + number,
    )


def _even_shares(context: ObjectContext, reader: str) -> NDArray[np.float32]:
    weights = context.findings.rasters.attention[reader]
    shares: NDArray[np.float32] = weights * np.float32(np.isfinite(weights).sum())
    return shares


def block_sums(labels: LabelMap, edge: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Sum of classes 0-3, and count, of the labeled px (1-4) of each block of `edge` x `edge` px.

    Blocks at the right and lower edges cover the px that exist. The map is read band by band.
    """
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
    """Sums over blocks of `edge` x `edge`; rows are summed first, which is faster."""
    rows = [values[y : y + edge].sum(axis=0, dtype=np.uint32) for y in range(0, len(values), edge)]
    return np.add.reduceat(np.stack(rows), np.arange(0, values.shape[1], edge), axis=1)


def _heatmap(
    stem: Path, context: ObjectContext, *, stain: Stain, cielab: Any, **facts: Any
) -> list[Path]:
    paths = []
    for number, dataset in enumerate(
        build_heatmap(
            source_images=context.sources[stain],
            read_mpp=context.mpp(stain),
            cielab=cielab if context.settings.heatmap_palette else (),
            uid_seed=context.overlay_seed(stain, stem.name),
            created=context.created,
            software=context.software,
            **facts,
        ),
        start=1,
    ):
        paths.append(stem.with_name(f"{stem.name}-{number}.dcm"))
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths
