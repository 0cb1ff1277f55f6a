"""Optional objects of a case: the page as PDF and as picture, the labels of the tiles."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from appliance.delivery.context import ObjectContext
from appliance.findings.findings import Findings
from appliance.geometry import TILE_UM
from dicom.annotations import build_annotations
from dicom.capture import build_capture
from dicom.encapsulated import build_encapsulated_pdf


def optional_objects(
    context: ObjectContext, page: bytes, report: Dataset
) -> list[tuple[str, Dataset]]:
    """Build the objects that the settings enable; return (kind, object) in the order of sending.

    `page` is the PDF, `report` the SR of the case.

    Raises
    ------
    dicom.errors.ObjectError
        If no valid object can be made from the page or the tiles.
    """
    from appliance.delivery.page import page_pixels  # slow to load; the daemon does not need it

    settings, sources = context.settings, context.sources
    ihc = sources[context.target][0]
    made = []
    if settings.report_pdf:
        document = build_encapsulated_pdf(
            page,
            assay=context.assay.title,
            ihc_image=ihc,
            sources=[*sources[context.target], *sources[context.anatomy], report],
            created=context.created,
            uid_seed=f"{context.seed}|pdf",
            software=context.software,
            verified=bool(context.findings.sign_offs),
        )
        made.append(("PDF", document))
    if settings.page_image:
        picture = build_capture(
            page_pixels(page),
            assay=context.assay.title,
            ihc_image=ihc,
            created=context.created,
            uid_seed=f"{context.seed}|picture",
            software=context.software,
        )
        made.append(("SC", picture))
    if settings.annotations and context.findings.tiles:
        annotations = build_annotations(
            tiles_by_label(context.findings),
            assay=context.assay.title,
            image=ihc,
            read_mpp=context.mpp(context.target),
            algorithm=context.algorithm("segmentation"),
            created=context.created,
            uid_seed=f"{context.seed}|annotations",
            software=context.software,
        )
        made.append(("ANN", annotations))
    return made


def tiles_by_label(findings: Findings) -> dict[str, NDArray[np.float64]]:
    """Boxes (N, 4) of the tiles of each label (``NFW/1+``).

    A box is left, top, right, bottom in µm of the IHC slide, clipped to the slide's extent.
    """
    boxes = defaultdict(list)
    for tile in findings.tiles:
        boxes[tile.label].append((tile.column, tile.row, tile.column + 1, tile.row + 1))
    size_um = np.array([findings.ihc.width_px, findings.ihc.height_px]) * findings.ihc.mpp
    return {
        label: np.minimum(np.array(places) * TILE_UM, np.tile(size_um, 2))
        for label, places in boxes.items()
    }
