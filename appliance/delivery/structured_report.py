"""Structured report of a case, from `Findings` and the codes of its assay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from appliance.assays.assay import ReportContent
from appliance.delivery.context import ObjectContext, algorithm_facts
from appliance.delivery.page_tables import MAX_ROIS
from appliance.delivery.sources import as_written
from appliance.domain import UNIDENTIFIED
from appliance.findings.findings import Findings
from appliance.findings.opinion import NOT_CALIBRATED, OF_ANATOMY, Opinion
from dicom import codes
from dicom.report import build_report
from dicom.report_facts import (
    CorrectionFacts,
    OpinionFacts,
    ReportFacts,
    RoiFacts,
    VerifierFacts,
)
from dicom.segmentation import AlgorithmFacts

INTERIM_EXISTED = (
    "An interim opinion on the anatomy slide alone existed before this score. It is superseded and "
    "no part of this result."
)


def structured_report(
    context: ObjectContext,
    segmentations: Sequence[Dataset],
    heatmaps: Sequence[Dataset],
    predecessors: Sequence[Dataset],
) -> Dataset:
    """Report of a case; `segmentations`, `heatmaps` and `predecessors` are headers.

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
            accession=_accession(context),
            block=findings.block,
            title=context.assay.title,
            said=findings.score,
            score_name=content.score_name,
            score=content.score,
            category=findings.category or "",
            measurements=content.measurements,
            evaluations=content.evaluations,
            read_mpp=context.mpp(context.target),
            texts=[*content.texts, *_superseded(findings)],
            algorithms=list(context.algorithms.values()),
            rois=_rois(context, content),
            opinions=[_opinion(opinion, context) for opinion in findings.opinions],
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
            request=context.request,
            installation=context.installation,
            as_before=context.as_before,
            numbered_as_before=context.writing is None,
            described_as_before=context.filled is None,
            specimens_as_before=context.specimens_as_before,
        ),
        he_images=context.sources[context.anatomy],
        ihc_images=context.sources[context.target],
        segmentations=segmentations,
        heatmaps=heatmaps,
        created=context.created,
        uid_seed=f"{context.seed}|report",
        software=context.software,
        predecessors=predecessors,
    )


def _accession(context: ObjectContext) -> str:
    """Return the accession of the case in the writing of the target slide's header."""
    accession, target = context.findings.accession, context.target
    if accession == UNIDENTIFIED:
        return ""
    return as_written(accession, {target: context.sources[target]}, context.writing)


def _rois(context: ObjectContext, content: ReportContent) -> list[RoiFacts]:
    """Regions that decided, with their measurements as this edition or a former one names them."""
    return [
        RoiFacts(
            outline_um=np.array(roi.outline_um),
            measurements=[
                (context.intensity if name == codes.STAIN_INTENSITY else name, value, unit)
                for name, value, unit in content.roi_measurements(number)
            ],
        )
        for number, roi in enumerate(context.findings.rois[:MAX_ROIS])
    ]


def _superseded(findings: Findings) -> list[tuple[Code, str]]:
    """Return the statement that an interim opinion existed; nothing of what it said is here."""
    return [] if findings.interim is None else [(codes.INTERIM, INTERIM_EXISTED)]


def _opinion(opinion: Opinion, context: ObjectContext) -> OpinionFacts:
    return OpinionFacts(
        reader=opinion.reader,
        about=opinion.about,
        shares=tuple(zip(opinion.classes, opinion.probabilities, strict=True)),
        certainty=opinion.certainty,
        algorithm=_algorithm_of(opinion),
        of_anatomy=opinion.about in OF_ANATOMY,
    )


def _algorithm_of(opinion: Opinion) -> AlgorithmFacts:
    """Network of a reader; the reader itself where it has none."""
    if opinion.weights is not None:
        return algorithm_facts(opinion.weights)
    return AlgorithmFacts(
        name=f"Tandem reader: {opinion.reader}",
        version=str(opinion.version),
        weights_sha256="none",
        site_calibration=NOT_CALIBRATED,
    )
