"""Tiles of the target slide that were read, as findings hold them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from appliance.assays.assay import StepOutputs
from appliance.findings.findings import MARGIN, SCORED
from appliance.findings.measured import TileFinding


def read_tiles(outputs: StepOutputs, scored: Iterable[TileFinding]) -> NDArray[np.uint8]:
    """Tiles that were read; those that hold control tissue, too, are annotated and not scored."""
    read = np.where(outputs.read == SCORED, MARGIN, outputs.read).astype(np.uint8)
    for tile in scored:
        read[tile.row, tile.column] = SCORED
    return read
