"""Reasons for review of a case of a nuclear receptor (`docs/er-pr.md`)."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.assays.assay import StepOutputs
from appliance.assays.nuclear.guideline import Guideline, load_guideline
from appliance.assays.nuclear.measure import PROOF_NUCLEI, Measured, measure
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.nuclear.scores import positive_percent
from appliance.assays.slide_reasons import alignment_reasons, because, picture_reasons
from appliance.findings.findings import Findings
from appliance.findings.reasons import Reason, ReviewReason, in_order
from appliance.settings.nuclear import Nuclear
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings


def review(
    receptor: Receptor, outputs: StepOutputs, findings: Findings, settings: Settings
) -> tuple[ReviewReason, ...]:
    """All reasons that hold, in the order of `Reason`."""
    measured = measure(outputs, settings.nuclear)
    return in_order(
        (
            *alignment_reasons(settings.review, outputs.alignment),
            *picture_reasons(
                settings.review,
                unreadable_percent=outputs.unreadable_percent,
                pictures=outputs.pictures,
                appearance=outputs.appearance,
                marked_percent=outputs.marked_percent,
            ),
            *result_reasons(load_guideline(receptor.guideline), measured, findings.score, settings),
        )
    )


def result_reasons(
    guideline: Guideline, measured: Measured, score: str | None, settings: Settings
) -> tuple[ReviewReason, ...]:
    """Reasons that the counted nuclei give."""
    return (
        *_stain(measured, settings.nuclear),
        *_tumor(guideline, measured, settings.review),
        *(() if score is None else _percent(guideline, measured, settings.nuclear)),
    )


def _stain(measured: Measured, settings: Nuclear) -> Iterator[ReviewReason]:
    control = measured.control
    if control is not None and not control.works:
        yield because(
            Reason.CONTROL_FAILED,
            strongest=control.strongest,
            expected=settings.control_strongest,
        )
    if not measured.is_nuclear:
        yield because(Reason.STAIN_NOT_NUCLEAR, percent=measured.wide_percent)
    elif not measured.is_proven:
        yield because(Reason.STAIN_NOT_PROVEN)


def _tumor(guideline: Guideline, measured: Measured, settings: Review) -> Iterator[ReviewReason]:
    nuclei = int(measured.nuclei.sum())
    if not nuclei:
        yield because(Reason.NO_TUMOR)
        return
    if nuclei < guideline.least_nuclei:
        yield because(Reason.LITTLE_TUMOR, area_mm2=measured.tumor_area_mm2, cells=nuclei)
    if measured.unscored_percent > settings.max_unscored_tumor_percent:
        yield because(Reason.TUMOR_NOT_SCORED, percent=measured.unscored_percent)


def _percent(guideline: Guideline, measured: Measured, settings: Nuclear) -> Iterator[ReviewReason]:
    percent = positive_percent(measured.percent)
    if percent <= guideline.control_up_to and measured.stained_outside < PROOF_NUCLEI:
        yield because(
            Reason.INTERNAL_CONTROL_MISSING,
            nuclei=sum(measured.outside),
            stained=measured.stained_outside,
            percent=guideline.control_up_to,
        )
    # The first limit tells negative from positive, the second one low positive from positive.
    bands = (settings.positive_band_percent, settings.low_positive_band_percent)
    for limit, band in zip(guideline.limits, bands, strict=False):
        if abs(percent - limit) < band:
            yield because(Reason.NEAR_THRESHOLD, band=band)
            return
