"""Measurements of a HER2 case: outputs of the steps to tiles, shares, areas and cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.assays.assay import StepOutputs
from appliance.assays.her2.paper import tile_grade, tile_label
from appliance.findings.classes import CLASS_NAMES, percent_of_tumor
from appliance.findings.measured import AnnotatedTile, ControlFacts, StainFocus, TileFinding
from appliance.geometry import TILE_UM, TileIndex
from appliance.readers.cell_tally import CellTally, add_up
from appliance.readers.control import judge_control
from appliance.readers.intensity import IntensityReading
from appliance.readers.outside import focus_on_tiles
from appliance.readers.plain import PlainReading
from appliance.readers.segmentation import SegmentationReader, SegmentationReading
from appliance.readers.tumor import TumorReading
from appliance.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of a case.

    `tiles` have a tumor partner, `annotated` have none. `total` int64 (5,): px per class of the
    label map over `tiles`. `percent` (0-100) per class of the tumor area. `unscored` counts tumor
    tiles without a partner, or with one that the file does not give. `tumor_share` (n,): share
    (0-1) of tumor px of each scored tile.
    `tumor_percent` (0-100) of the H&E's tissue tiles that are tumor; None where none was read.
    `outside`: largest strongly stained focus outside the tumor, of those that the plain reader and
    M see. `clusters` (4,) are the cells in the largest cluster of a tile, per class or a higher
    one, by (column, row); of tiles whose cells were measured.
    """

    tiles: tuple[TileFinding, ...]
    annotated: tuple[AnnotatedTile, ...]
    total: NDArray[np.int64]
    percent: dict[str, float]
    tumor_area_mm2: float
    unscored: int
    tumor_share: NDArray[np.float64]
    tumor_percent: float | None
    cells: CellTally
    clusters: Mapping[tuple[int, int], tuple[int, ...]]
    control: ControlFacts | None
    outside: StainFocus | None

    @property
    def unscored_percent(self) -> float:
        """Share (0-100) of the tumor tiles that are not scored."""
        return 100 * self.unscored / max(1, self.unscored + len(self.tiles))


def measure(outputs: StepOutputs, settings: Settings) -> Measured:
    """Measure a case; the readings of C, L, M and the plain reader must be there."""
    tumor = outputs.reading("tumor", TumorReading)
    intensity = outputs.reading("intensity", IntensityReading)
    segmentation = outputs.reading("segmentation", SegmentationReading)
    if not np.array_equal(intensity.places, segmentation.places):
        raise ValueError("L and M did not read the same tiles")
    # A tile at the rim of the section may hold control tissue, too, which is never scored.
    judged = segmentation.judged & ~segmentation.on_control
    seen = [_seen(number, intensity, segmentation) for number in range(len(judged))]
    tiles = tuple(
        _scored(tile, outputs, tumor) for tile, scored in zip(seen, judged, strict=True) if scored
    )
    counts = segmentation.counts[judged]
    total = counts.sum(axis=0)
    # A tile's label map always covers one tile, whatever its number of px.
    area = float((counts[:, 1:].sum(1) / counts.sum(1)).sum()) * TILE_UM**2 / 1e6
    plan = outputs.plan
    return Measured(
        tiles=tiles,
        annotated=tuple(t for t, scored in zip(seen, judged, strict=True) if not scored),
        total=total,
        percent=percent_of_tumor(total),
        tumor_area_mm2=area,
        unscored=len(plan.unscored_he) + len(plan.ihc_tiles) - len(tiles),
        tumor_share=np.array([sum(tile.percent) for tile in tiles]) / 100,
        tumor_percent=_tumor_percent(tumor.probability, settings.scoring.tumor_threshold),
        cells=add_up(tally for number, tally in segmentation.cells.items() if judged[number]),
        clusters={
            (seen[number].column, seen[number].row): tally.cluster
            for number, tally in segmentation.cells.items()
        },
        control=_control(segmentation, settings),
        outside=_outside(outputs, segmentation),
    )


def _seen(
    number: int, intensity: IntensityReading, segmentation: SegmentationReading
) -> AnnotatedTile:
    counts = segmentation.counts[number]
    column, row = segmentation.places[number].tolist()
    grade = int(intensity.intensity[number])
    shares = 100.0 * counts[1:5] / counts.sum()
    return AnnotatedTile(
        column=column,
        row=row,
        intensity=grade,
        intensity_probability=float(intensity.certainty[number]),
        percent=tuple(shares.tolist()),
        grade=tile_grade(counts),
        label=tile_label(counts, grade),
    )


def _scored(tile: AnnotatedTile, outputs: StepOutputs, tumor: TumorReading) -> TileFinding:
    partner = outputs.plan.partner[TileIndex(tile.column, tile.row)]
    return TileFinding(
        **asdict(tile),
        he_column=partner.column,
        he_row=partner.row,
        tumor_probability=float(tumor.probability[partner.row, partner.column]),
    )


def _outside(outputs: StepOutputs, segmentation: SegmentationReading) -> StainFocus | None:
    """Larger of the foci that the plain reader sees on the overview and M on annotated tiles."""
    others = ~segmentation.judged & ~segmentation.on_control
    columns, rows = segmentation.places[others].T
    counts = segmentation.counts[others]
    strong = np.zeros(outputs.read.shape)
    strong[rows, columns] = counts[:, 4] / np.maximum(counts.sum(axis=1), 1)
    foci = (
        outputs.reading("plain", PlainReading).outside,
        focus_on_tiles(strong, outputs.plan.ihc_tiles, SegmentationReader.name),
    )
    return max(filter(None, foci), key=lambda focus: focus.area_mm2, default=None)


def _tumor_percent(probability: NDArray[np.float32], threshold: float) -> float | None:
    """Tumor percentage of the slide: 100 · tumor tiles of C / tissue tiles that C read.

    The paper calls it a necessary precursor of the score (arXiv 2512.22335, section 4.2). None
    where no tile was read. `probability` is that of C: (rows, columns of the H&E's tile grid), 0-1,
    NaN without tissue.
    """
    said = probability[~np.isnan(probability)]
    return 100.0 * float((said >= threshold).mean()) if said.size else None


def _control(segmentation: SegmentationReading, settings: Settings) -> ControlFacts | None:
    counts = [np.array(tile, dtype=np.int64) for tile in segmentation.control.counts]
    strongest = CLASS_NAMES.index(settings.review.control_strongest)
    return judge_control(segmentation.control.area_mm2, counts, strongest)
