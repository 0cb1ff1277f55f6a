"""What the structured report says, from `Findings`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from appliance.assays.her2.guideline import Comments, load_guideline
from appliance.delivery.overlays import ObjectContext
from appliance.delivery.page_tables import MAX_ROIS
from appliance.domain import HE, HER2
from appliance.findings.findings import CellFacts
from dicom.report import CorrectionFacts, ReportFacts, RoiFacts, build_report


def structured_report(
    context: ObjectContext, segmentations: Sequence[Dataset], predecessors: Sequence[Dataset]
) -> Dataset:
    """The SR of a case; `segmentations` and `predecessors` are headers.

    Raises
    ------
    dicom.errors.ObjectError
        If the findings make no valid report.
    """
    findings = context.findings
    guideline = load_guideline(findings.guideline)
    completeness, intense = _membranes(findings.cells)
    corrected = findings.correction
    return build_report(
        ReportFacts(
            accession=findings.accession,
            block=findings.block,
            organ=findings.organ,
            score=None if findings.score is None else findings.score.value,
            estimated=findings.estimated,
            guideline=guideline.title,
            guideline_version=guideline.version,
            rule=findings.rule,
            category="" if findings.category is None else findings.category.value,
            percent_by_class=findings.percent,
            tumor_area_mm2=findings.tumor_area_mm2,
            unscored_tumor_area_mm2=findings.unscored_tumor_area_mm2,
            h_score=findings.h_score,
            paper_score=None if findings.paper_score is None else findings.paper_score.value,
            wsi_percent=findings.wsi_percent,
            comment=findings.comment,
            low=_low_class(findings.comment, guideline.comments),
            completeness=completeness,
            # The LOINC term is one of breast cancer.
            intense_complete_percent=intense if findings.organ == "breast" else None,
            review_reasons=[reason.sentence for reason in findings.review],
            registration_error_um=findings.alignment.error_um,
            algorithms=list(context.algorithms.values()),
            rois=[
                RoiFacts(outline_um=np.array(roi.outline_um), percent_by_class=roi.percent)
                for roi in findings.rois[:MAX_ROIS]
            ],
            correction=None
            if corrected is None
            else CorrectionFacts(
                by=corrected.by,
                why=corrected.why,
                was=None if corrected.was is None else corrected.was.value,
            ),
        ),
        he_images=context.sources[HE],
        ihc_images=context.sources[HER2],
        segmentations=segmentations,
        created=context.created,
        uid_seed=f"{context.seed}|report",
        software=context.software,
        predecessors=predecessors,
    )


def _low_class(comment: str, comments: Comments | None) -> str:
    """Which class of HER2-low a guideline's comment states; empty where none."""
    if comments is None:
        return ""
    return {comments.low: "HER2-low", comments.ultralow: "HER2-ultralow"}.get(comment, "")


def _membranes(cells: CellFacts | None) -> tuple[dict[str, float], float | None]:
    """Completeness (0-1) per class, where cells of it were measured, and the share (0-100) of cells
    that are 3+ with a complete membrane."""
    if cells is None:
        return {}, None
    found = {name: share for name, share in cells.completeness.items() if share is not None}
    complete = cells.complete_percent["3+"]
    # No cell of 3+ on its tile as a whole: where there is none at all, the share is known.
    if complete is None:
        return found, None if cells.percent["3+"] else 0.0
    return found, cells.percent["3+"] * complete / 100
