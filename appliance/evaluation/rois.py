"""Regions of interest of a judged case (Table 3 of arXiv 2512.22335)."""

from __future__ import annotations

from typing import Any

import numpy as np

from appliance.evaluation.case import JudgedCase
from models.spec import CLASSES, TUMOR_SHARE, Task

ROI_TILES = 12
"""Edge of a region in tiles: 1.7 mm, 144 tiles, as in Table 3."""
ROI_LEAST = 8
"""Least number of tissue tiles of a region that is listed."""


def rois(case: JudgedCase) -> list[dict[str, Any]]:
    """Real and predicted numbers of tiles per region of interest.

    Regions are squares of the H&E grid; an IHC tile belongs to the region of its partner. Tiles of
    glass are in no number; the paper's numbers are of all 144 tiles.
    """
    he_roi, ihc_roi = case.he_place // ROI_TILES, case.ihc_partner // ROI_TILES
    tumor = {"real": case.he_share >= TUMOR_SHARE, "predicted": case.he_said["model"][:, 1] >= 0.5}
    stain = {
        "real": case.ihc_counts[:, 1:].argmax(axis=1),
        "predicted": case.ihc_said["model"].argmax(axis=1),
    }
    rows: list[dict[str, Any]] = []
    for x, y in np.unique(he_roi, axis=0).tolist():
        he = (he_roi == (x, y)).all(axis=1)
        if he.sum() < ROI_LEAST:
            continue
        ihc = (ihc_roi == (x, y)).all(axis=1)
        row: dict[str, Any] = {"roi": f"{case.patient}-R{len(rows) + 1}"}
        for side in ("real", "predicted"):
            row[side] = {
                "tumor": int(tumor[side][he].sum()),
                "normal": int((~tumor[side][he]).sum()),
            }
            numbers = np.bincount(stain[side][ihc], minlength=4)
            row[side] |= dict(zip(CLASSES[Task.INTENSITY], numbers.tolist(), strict=True))
        rows.append(row)
    return rows
