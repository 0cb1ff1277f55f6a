"""Reasons for review that the two slides of a case give, whatever is scored on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.domain import HE, Stain
from appliance.findings.reasons import Reason, ReviewReason
from appliance.registration.alignment import Alignment
from appliance.registration.placing import SURE
from appliance.settings.scoring import Review
from appliance.slides.appearance import Appearance
from appliance.slides.picture import PictureMatch


def because(code: Reason, **params: Any) -> ReviewReason:
    """Reason with its parameters."""
    return ReviewReason(code=code.value, params=params)


def alignment_reasons(settings: Review, alignment: Alignment) -> tuple[ReviewReason, ...]:
    """Reasons that the alignment of the two slides gives."""
    return tuple(_alignment(settings, alignment))


def _alignment(settings: Review, alignment: Alignment) -> Iterator[ReviewReason]:
    if alignment.agreement < settings.min_agreement:
        yield because(Reason.MISMATCH, percent=100 * alignment.agreement)
    elif alignment.inside < SURE:
        yield because(Reason.MATCH_UNSURE, percent=100 * alignment.inside)
    if alignment.agreement >= settings.min_agreement and alignment.overlap < settings.min_overlap:
        yield because(Reason.TISSUE_MISSING, percent=100 * alignment.overlap)
    if alignment.error_um > settings.max_alignment_error_um:
        yield because(Reason.ALIGNMENT_ERROR, error_um=alignment.error_um)
    if alignment.mirrored:
        yield because(Reason.MIRRORED)


def picture_reasons(
    settings: Review,
    *,
    unreadable_percent: Mapping[Stain, float],
    pictures: Mapping[Stain, PictureMatch],
    appearance: Mapping[Stain, Appearance],
    marked_percent: Mapping[Stain, float],
) -> tuple[ReviewReason, ...]:
    """Reasons that the px of each slide give; see `StepOutputs`."""
    found = []
    for stain, percent in unreadable_percent.items():
        if percent > settings.max_unreadable_percent:
            found.append(because(Reason.UNREADABLE, stain=stain, percent=percent))
    for stain, picture in pictures.items():
        if picture.percent < least_picture_percent(settings, stain):
            found.append(because(Reason.PICTURE_UNSURE, stain=stain, looks_like=picture.looks_like))
    for stain, seen in appearance.items():
        if seen.unusual_percent > settings.max_unusual_tiles_percent:
            code = Reason.OUT_OF_FOCUS if seen.differs_in == "focus" else Reason.UNUSUAL
            params = {"percent": seen.unusual_percent, "differs_in": seen.differs_in}
            found.append(because(code, stain=stain, **params))
    for stain, percent in marked_percent.items():
        if percent > settings.max_marked_tumor_percent:
            found.append(because(Reason.MARKED, stain=stain, percent=percent))
    return tuple(found)


def least_picture_percent(settings: Review, stain: Stain) -> float:
    """Return the certainty, 0-100, from which a slide's picture gives no reason for review."""
    if stain == HE:
        return settings.min_picture_percent
    return settings.min_ihc_picture_percent
