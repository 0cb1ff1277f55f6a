"""PR immunohistochemistry of breast cancer."""

from __future__ import annotations

from appliance.assays.nuclear.assay import make_assay
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.registry import register_assay
from appliance.domain import PR
from dicom import codes

PR_ASSAY = register_assay(
    make_assay(
        Receptor(
            assay="pr",
            title="PR",
            stain=PR,
            label="PR IHC",
            words=(
                *("PR", "PGR", "PROGESTERONE", "PROGESTERONE-RECEPTOR", "PROGESTERON"),
                *("PROGESTERONREZEPTOR", "PR-1E2", "PR-636", "PR-16", "PGR-636", "PR-IHC"),
            ),
            guideline="pr-asco-cap-2020",
            presence=codes.PR_PRESENCE,
            positive_cells=codes.PR_CELLS,
        )
    )
)
