"""Label map of the scored tiles alone: tiles that are annotated only must not count as scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.findings.findings import MARGIN, SCORED, Rasters
from appliance.findings.label_map import LabelMap
from appliance.slides.raster import RasterGrid, TileMask


@dataclass(frozen=True, slots=True)
class Within:
    """Label map within a mask of tiles, 0 elsewhere; computed when it is read."""

    labels: LabelMap
    mask: TileMask

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        return self.labels.shape

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.labels[place] * self.mask[place]
        return found


def tile_mask(rasters: Rasters, labels: LabelMap, value: int) -> TileMask:
    """Return the px of the label map on the tiles that have `value` in ``ihc_read``."""
    rows, columns = labels.shape
    grid = RasterGrid(rows=rows, columns=columns, mpp=rasters.ihc_mpp)
    return TileMask(grid, rasters.ihc_read == value)


def scored_labels(rasters: Rasters, labels: LabelMap) -> LabelMap:
    """Return the label map of the scored tiles alone."""
    annotated = (rasters.ihc_read == MARGIN).any()
    return Within(labels, tile_mask(rasters, labels, SCORED)) if annotated else labels
