"""Reasons for review of a case of a nuclear receptor (`docs/er-pr.md`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from appliance.assays.assay import Declared, StepOutputs
from appliance.assays.nuclear.guideline import Guideline, load_guideline
from appliance.assays.nuclear.measure import PROOF_NUCLEI, Measured, measure
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.nuclear.scores import DIGITS, interval, positive_percent
from appliance.assays.slide_reasons import alignment_reasons, because, picture_reasons
from appliance.assays.stated import stated
from appliance.findings.classes import NUCLEAR_CLASSES
from appliance.findings.findings import Findings
from appliance.findings.reasons import Reason, ReviewReason, in_order
from appliance.settings.nuclear import Nuclear
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings

ORGAN = "breast"
"""Organ that the guidelines of nuclear receptors are for."""
MOST_UNSEEN_PERCENT = 10.0
"""Share of the scored tiles without visible blue nuclei above which a person looks: of a tile with
5 % positive nuclei the reader would count the positive ones alone."""
MOST_STAINED_OUTSIDE_PERCENT = 50.0
"""Share of the nuclei outside the tumor, of those as large as tumor's, above which a person looks
for tumor that C missed. Of the nuclei of normal ducts a part is stained."""


def review(
    receptor: Receptor, outputs: StepOutputs, findings: Findings, settings: Settings
) -> tuple[ReviewReason, ...]:
    """All reasons that hold, in the order of `Reason`."""
    measured = measure(outputs, settings.nuclear)
    return in_order(
        (
            *organ_reasons(receptor, outputs.declared, settings.scoring.organ),
            *alignment_reasons(settings.review, outputs.alignment),
            *picture_reasons(
                settings.review,
                unreadable_percent=outputs.unreadable_percent,
                pictures=outputs.pictures,
                appearance=outputs.appearance,
                marked_percent=outputs.marked_percent,
            ),
            *result_reasons(receptor, measured, findings.score, settings),
        )
    )


def organ_reasons(receptor: Receptor, declared: Declared, of_site: str) -> tuple[ReviewReason, ...]:
    """Reasons where the sidecars name another organ than that of the guidelines.

    Where no sidecar names one, the organ of the site's settings counts.
    """
    of_sidecar = any(str(word).strip() for word in declared.organ)
    _, reasons = stated("organ", declared.organ if of_sidecar else (of_site,), (ORGAN,), ORGAN)
    own = {"stain": receptor.stain} if of_sidecar else {"setting": True}
    return tuple(replace(each, params={**each.params, **own}) for each in reasons)


def result_reasons(
    receptor: Receptor, measured: Measured, score: str | None, settings: Settings
) -> tuple[ReviewReason, ...]:
    """Reasons that the counted nuclei give."""
    guideline = load_guideline(receptor.guideline)
    return (
        *_focus(receptor, measured, settings.review),
        *_stain(measured, settings.nuclear),
        *_tumor(receptor, guideline, measured, score, settings.review),
        *(() if score is None else _percent(guideline, measured, settings.nuclear)),
    )


def _focus(receptor: Receptor, measured: Measured, settings: Review) -> Iterator[ReviewReason]:
    percent = measured.blurred_percent
    if percent > settings.max_unusual_tiles_percent:
        yield because(Reason.OUT_OF_FOCUS, stain=receptor.stain, percent=percent, blurred=True)


def _stain(measured: Measured, settings: Nuclear) -> Iterator[ReviewReason]:
    control = measured.control
    if control is not None and not control.works:
        yield because(
            Reason.CONTROL_FAILED,
            strongest=control.strongest,
            expected=settings.control_strongest,
        )
    if not measured.is_nuclear:
        yield because(Reason.STAIN_NOT_NUCLEAR, percent=measured.wide_percent, or_pale=True)
    elif not measured.is_proven:
        yield because(Reason.STAIN_NOT_PROVEN, few=True)


def _tumor(
    receptor: Receptor,
    guideline: Guideline,
    measured: Measured,
    score: str | None,
    settings: Review,
) -> Iterator[ReviewReason]:
    nuclei = int(measured.nuclei.sum())
    if not nuclei:
        yield because(Reason.NO_TUMOR)
        return
    if measured.unseen_percent > MOST_UNSEEN_PERCENT:
        yield because(Reason.NUCLEI_UNSEEN, percent=measured.unseen_percent)
    if nuclei < guideline.least_nuclei:
        yield because(Reason.LITTLE_TUMOR, area_mm2=measured.tumor_area_mm2, cells=nuclei)
    unscored = measured.unscored_percent
    decides = score is not None and unscored > settings.max_unscored_deciding_percent
    other = _with_unscored(guideline, measured) if decides else {}
    if other or unscored > settings.max_unscored_tumor_percent:
        yield because(Reason.TUMOR_NOT_SCORED, percent=unscored, stain=receptor.stain, **other)


def _with_unscored(guideline: Guideline, measured: Measured) -> dict[str, str]:
    """Other result that the case has if all unscored tumor is of one class; empty if it has none.

    The classes are strong and negative: those between lie between in the result, too.
    """
    percent, unscored = positive_percent(measured.percent), measured.unscored_percent
    here = guideline.decide(percent).score
    for name, share in ((NUCLEAR_CLASSES[-1], 100.0), (NUCLEAR_CLASSES[0], 0.0)):
        mixed = round(((100 - unscored) * percent + unscored * share) / 100, DIGITS)
        score = guideline.decide(mixed).score
        if score != here:
            return {"all_of": name, "score": score}
    return {}


def _percent(guideline: Guideline, measured: Measured, settings: Nuclear) -> Iterator[ReviewReason]:
    percent = positive_percent(measured.percent)
    is_missing = measured.stained_outside < PROOF_NUCLEI or measured.is_hardly_proven
    if percent <= guideline.control_up_to and is_missing:
        yield because(
            Reason.INTERNAL_CONTROL_MISSING,
            nuclei=sum(measured.outside),
            stained=measured.stained_outside,
            percent=guideline.control_up_to,
        )
    without = guideline.decide(measured.least_positive_percent).score
    if without != guideline.decide(percent).score:
        yield because(
            Reason.PIGMENT,
            nuclei=measured.pigment,
            stained=int(measured.nuclei[1:].sum()),
            score=without,
        )
    elif measured.is_proven_by_pigment:
        yield because(Reason.PIGMENT, proof=True)
    nuclei = sum(measured.outside)
    stained = 100 * measured.stained_outside / max(1, nuclei)
    enough = nuclei >= guideline.least_nuclei and stained > MOST_STAINED_OUTSIDE_PERCENT
    if percent <= guideline.control_up_to and enough:
        yield because(Reason.STAIN_OUTSIDE_TUMOR, nuclei=nuclei, percent=stained, inside=percent)
    # The first limit tells negative from positive, the second one low positive from positive.
    bands = (settings.positive_band_percent, settings.low_positive_band_percent)
    # Few nuclei are a poor sample: 0 of 105 is no rare draw of 2 %.
    low, high = interval(int(measured.nuclei[1:].sum()), int(measured.nuclei.sum()))
    for limit, band in zip(guideline.limits, bands, strict=False):
        if abs(percent - limit) < band:
            yield because(Reason.NEAR_THRESHOLD, band=band)
            return
        if low < limit < high:
            yield because(Reason.NEAR_THRESHOLD, band=round(max(limit - low, high - limit), 1))
            return
