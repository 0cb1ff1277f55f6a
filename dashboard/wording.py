"""Words of the pages for states, stains and objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.assays.registry import stains
from appliance.domain import Stain
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.progress import StepProgress

Tone = Literal["waiting", "running", "good", "trouble", "quiet"]
"""Color of a state; the word beside it has the same meaning."""


@dataclass(frozen=True, slots=True)
class Wording:
    """Words for a state: `label` in a table, `sentence` where there is room."""

    label: str
    sentence: str
    tone: Tone


SLIDE_WORDS: dict[SlideState, Wording] = {
    SlideState.ARRIVING: Wording("Arriving", "The scanner is still writing the file.", "waiting"),
    SlideState.ARRIVED: Wording(
        "Arrived", "The file is complete; it is identified next.", "running"
    ),
    SlideState.IDENTIFIED: Wording(
        "Identified", "Accession, block and stain are known.", "running"
    ),
    SlideState.INSPECTED: Wording(
        "Inspected", "Tissue was found; the slide is read next.", "running"
    ),
    SlideState.READ: Wording("Read", "All that this slide alone can tell is known.", "good"),
    SlideState.QUARANTINED: Wording(
        "Set aside", "Tandem cannot use this slide; a person has to look.", "trouble"
    ),
    SlideState.SUPERSEDED: Wording("Replaced", "A newer scan took its place.", "quiet"),
    SlideState.OTHER: Wording(
        "Not for an assay", "Another stain, a control, or a slide that a person left out.", "quiet"
    ),
}

CASE_WORDS: dict[CaseState, Wording] = {
    CaseState.WAITING: Wording(
        "Waiting for slides", "One of the two slides is not there or not read yet.", "waiting"
    ),
    CaseState.PARTNERLESS: Wording(
        "Partner missing", "The second slide did not come in time.", "trouble"
    ),
    CaseState.HELD: Wording(
        "Held", "Its slides contradict each other; a person decides.", "trouble"
    ),
    CaseState.READY: Wording(
        "Mapping", "Both slides are read; one is mapped onto the other.", "running"
    ),
    CaseState.ALIGNED: Wording(
        "Scoring", "One slide is mapped onto the other; the case is being scored.", "running"
    ),
    CaseState.SCORED: Wording(
        "Scored", "The score is known; its DICOM objects are being written.", "running"
    ),
    CaseState.WRITTEN: Wording(
        "Sending", "The objects are on their way to the archive.", "running"
    ),
    CaseState.DELIVERED: Wording(
        "Delivered", "Every object is proven to be at every destination.", "good"
    ),
    CaseState.UNPROVEN: Wording(
        "Sent, not proven", "Sent; a destination cannot say whether it has it.", "waiting"
    ),
    CaseState.UNDELIVERED: Wording(
        "Not delivered", "A destination refused an object for good.", "trouble"
    ),
    CaseState.FAILED: Wording("Failed", "A step failed; a person has to look.", "trouble"),
}

DELIVERY_WORDS: dict[DeliveryState, Wording] = {
    DeliveryState.QUEUED: Wording("Queued", "To be sent.", "waiting"),
    DeliveryState.SENT: Wording("Sent", "Accepted by the destination, not proven yet.", "running"),
    DeliveryState.PROVEN: Wording("Proven", "Found at the destination.", "good"),
    DeliveryState.UNPROVEN: Wording(
        "Sent, not proven", "Accepted, but nobody there can say whether it is kept.", "waiting"
    ),
    DeliveryState.REFUSED: Wording("Refused", "The destination refused it for good.", "trouble"),
}

TAKEN_OUT = Wording("Taken out", "It is not to be sent any more.", "quiet")
"""Words for a refused delivery that waits for nobody."""

OBJECT_WORDS: dict[str, str] = {
    "WSM": "Whole slide image",
    "SEG": "Segmentation",
    "SR": "Structured report",
    "PDF": "Report page",
    "SC": "Report page as picture",
    "PM": "Heat map",
    "ANN": "Annotations",
    "KO": "Rejection of the replaced result",
}

STEP_WORDS: dict[str, str] = {
    "identify": "Slides to be identified",
    "inspect": "Slides to be inspected",
    "read": "Slides to be read",
    "align": "Cases to be mapped",
    "analyze": "Cases to be scored",
    "write": "Cases to be written as DICOM",
}
"""Slides or cases that wait for a step of the line."""

TASK_WORDS: dict[str, str] = {
    "tumor": "Tumor on H&E",
    "intensity": "Stain intensity on IHC",
    "segmentation": "Stain segmentation on IHC",
    "plain": "Plain color reading of IHC, without a network",
    "nuclei": "Stain of nuclei on IHC, without a network",
    "low_resolution": "Second reader: the whole IHC slide at low resolution",
    "multiple_instance": "Second reader: the tiles of the whole IHC slide, weighed",
}
"""Purpose of a reader, by its name; that of a network is the value of `models.spec.Task`."""


def stain_word(stain: str) -> str:
    """Return the stain as the lab says it, its code where no word is known, or a dash."""
    known = stains().get(Stain(stain))
    return stain or "–" if known is None else known.label


def progress_words(progress: StepProgress) -> str:
    """Return progress as ``stain on IHC 45 %, 30 tiles/s, 2 min left``."""
    words = f"{progress.what} {progress.percent:.0f} %"
    left = progress.seconds_left
    if left is None or progress.done == progress.total:
        return words
    wait = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
    return f"{words}, {progress.per_second:.0f} tiles/s, {wait} left"


def about(seconds: float) -> str:
    """Return a time to come in words that claim no more than a rate tells."""
    minutes = seconds / 60
    if minutes < 1.5:
        return "about a minute"
    if minutes < 10:
        return f"about {minutes:.0f} min"
    if minutes < 57.5:
        return f"about {5 * round(minutes / 5)} min"
    hours = minutes / 60
    if hours < 24:
        return f"about {round(2 * hours) / 2:g} h"
    return f"about {hours / 24:.0f} d"
