"""Stains that several assays share."""

from __future__ import annotations

from appliance.assays.assay import StainFacts
from appliance.domain import HE

HE_STAIN = StainFacts(
    code=HE,
    label="H&E",
    words=("HE", "H&E", "H+E", "HNE", "H-E"),
    reading="tumor on H&E",
    pictures=("he", "pas"),
)
