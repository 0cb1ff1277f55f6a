"""ER immunohistochemistry of breast cancer."""

from __future__ import annotations

from appliance.assays.nuclear.assay import make_assay
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.registry import register_assay
from appliance.domain import ER
from dicom import codes

ER_ASSAY = register_assay(
    make_assay(
        Receptor(
            assay="er",
            title="ER",
            stain=ER,
            label="ER IHC",
            words=(
                *("ER", "ERA", "ESR1", "ER-ALPHA", "ESTROGEN", "OESTROGEN", "ESTROGEN-RECEPTOR"),
                *("OESTROGEN-RECEPTOR", "ÖSTROGEN", "ÖSTROGENREZEPTOR", "OESTROGENREZEPTOR"),
                *("ER-SP1", "ER-6F11", "ER-1D5", "ER-IHC"),
            ),
            guideline="er-asco-cap-2020",
            presence=codes.ER_PRESENCE,
            positive_cells=codes.ER_CELLS,
        )
    )
)
