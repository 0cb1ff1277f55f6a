"""Stains that several assays share."""

from __future__ import annotations

from appliance.assays.assay import StainFacts
from appliance.domain import HE

HE_STAIN = StainFacts(
    code=HE,
    label="H&E",
    words=(
        *("HE", "H&E", "HNE", "HES", "HPS", "HEMATOXYLIN-EOSIN", "HAEMATOXYLIN-EOSIN"),
        *("HÄMATOXYLIN-EOSIN", "H&E STAIN", "HE-STAIN", "H AND E", "H UND E", "HÄMEO"),
        *("HEMATOXYLIN AND EOSIN", "HAEMATOXYLIN AND EOSIN", "HÄMATOXYLIN UND EOSIN"),
        *("HEMATOXYLIN AND EOSIN STAIN", "HAEMATOXYLIN AND EOSIN STAIN"),
    ),
    reading="tumor on H&E",
    pictures=("he", "pas"),
)
