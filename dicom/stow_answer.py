"""Answers of STOW-RS: what a server says of one instance (PS3.18 10.5.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dicom.dicom_json import items_of, value_of
from dicom.http_status import classify_http
from dicom.status import HAS_ALREADY, SUCCESS, Outcome, Service, Verdict, classify

PROCESSING_FAILURE = 0x0110
MOST_DIGITS = 5
"""Digits of a DICOM status, which has 16 bits."""


def judge_stow(http: int, answer: Any, uid: str) -> Outcome:
    """Return the outcome of a STOW-RS answer for one instance (PS3.18 10.5.3, Table I.2-2).

    `answer` is the body's JSON data set, None without one.
    """
    dataset = answer[0] if isinstance(answer, list) and answer else answer
    if isinstance(dataset, dict):
        for item in items_of(dataset, "00081198"):  # FailedSOPSequence
            if value_of(item, "00081155") in (uid, ""):
                return _failure(item)
        for item in items_of(dataset, "00081199"):  # ReferencedSOPSequence
            if value_of(item, "00081155") == uid:
                return _classify(item, "00081196", SUCCESS)
        for item in items_of(dataset, "0008119A"):  # OtherFailuresSequence, without instances
            return _failure(item)
    return classify_http(http)


def _classify(item: dict[str, Any], tag: str, unsaid: int) -> Outcome:
    """Return the outcome of an item's reason; one that is no number counts as `unsaid`."""
    said = value_of(item, tag)
    known = said.isdecimal() and len(said) <= MOST_DIGITS
    return classify(int(said) if known else unsaid, service=Service.STOW)


def _failure(item: dict[str, Any]) -> Outcome:
    """Return the outcome of an item that failed; a query decides where its reason is no failure."""
    outcome = _classify(item, "00081197", PROCESSING_FAILURE)
    if outcome.verdict in (Verdict.LATER, Verdict.NEVER) or outcome.status in HAS_ALREADY:
        return outcome
    text = (
        f"names it among what failed, with a reason that is no failure (0x{outcome.status:04X}). "
        "It is looked for, and sent again where it is not there."
    )
    return replace(outcome, verdict=Verdict.WARNED, text=text)
