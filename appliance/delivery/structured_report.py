"""Structured report of a case, from `Findings` and the codes of its assay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from pydicom import Dataset

from appliance.delivery.context import ObjectContext
from appliance.delivery.page_tables import MAX_ROIS
from appliance.domain import UNIDENTIFIED
from dicom.report import CorrectionFacts, ReportFacts, RoiFacts, VerifierFacts, build_report


def structured_report(
    context: ObjectContext, segmentations: Sequence[Dataset], predecessors: Sequence[Dataset]
) -> Dataset:
    """Report of a case; `segmentations` and `predecessors` are headers.

    Raises
    ------
    dicom.errors.ObjectError
        If the findings make no valid report.
    """
    findings = context.findings
    content = context.assay.objects.report(findings)
    corrected = findings.correction
    return build_report(
        ReportFacts(
            accession="" if findings.accession == UNIDENTIFIED else findings.accession,
            block=findings.block,
            title=context.assay.title,
            said=findings.score,
            score_name=content.score_name,
            score=content.score,
            category=findings.category or "",
            measurements=content.measurements,
            evaluations=content.evaluations,
            texts=content.texts,
            algorithms=list(context.algorithms.values()),
            rois=[
                RoiFacts(
                    outline_um=np.array(roi.outline_um),
                    measurements=content.roi_measurements(number),
                )
                for number, roi in enumerate(findings.rois[:MAX_ROIS])
            ],
            correction=None
            if corrected is None
            else CorrectionFacts(by=corrected.by, why=corrected.why, was=corrected.was),
            verifiers=[
                VerifierFacts(
                    by=each.by,
                    organization=each.organization,
                    at=datetime.fromtimestamp(each.at, tz=UTC),
                )
                for each in findings.sign_offs
            ],
        ),
        he_images=context.sources[context.anatomy],
        ihc_images=context.sources[context.target],
        segmentations=segmentations,
        created=context.created,
        uid_seed=f"{context.seed}|report",
        software=context.software,
        predecessors=predecessors,
    )
