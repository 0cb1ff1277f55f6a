"""Answers of a destination, weighed beside what it said when the object was sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from appliance.delivery.destinations.contract import Answer, Proof
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import NOTES, STUDY_CHANGED, STUDY_SENT
from appliance.ledger.tables import DeliveryRow, EventRow, params_of
from appliance.ledger.transaction import Transaction
from dicom.status import HAS_ALREADY, HAS_NOTE, Outcome

_LOOK = (
    "look for it there, perhaps in another study or among what is hidden. It is asked for again; "
    "to have it sent again: tandem retry"
)


def elsewhere(tx: Transaction, row: DeliveryRow, answer: Answer, *, verified: bool) -> Answer:
    """Return what an answer means for a row where the object is in another study.

    The destination may have moved it: a person looks. Another edition of an object that waits does
    not stand for it where its study was corrected since it was sent last; nor does one for an image
    of the scanner that is only asked for (`verified`).
    """
    waits = row.state == DeliveryState.QUEUED and has_new_study(tx, row)
    return replace(answer, proof=Proof.ABSENT) if waits or verified else answer


def has_new_study(tx: Transaction, row: DeliveryRow) -> bool:
    """Return whether a row's study was corrected since its object was put on the wire last."""
    was = ""
    for event in tx.events(row.subject):
        if event.code == STUDY_SENT:
            was = ""
        elif event.code == STUDY_CHANGED:
            was = was or params_of(event)["was"]
    return was not in ("", row.study_uid)


def is_retried(tx: Transaction, row: DeliveryRow) -> bool:
    """Return whether a person had a row tried again, and nothing has come of it yet."""
    return row.attempts == 1 and [e.code for e in tx.events(row.subject)][-1:] == ["retry"]


def taken(tx: Transaction, row: DeliveryRow, outcome: Outcome) -> Mapping[str, Any]:
    """Return the parameters of the event of a sending that was taken.

    An archive that has a note of rejection already has this one where an earlier sending of it may
    have been taken: that is kept as ``again``.
    """
    said: dict[str, Any] = {"answer": outcome.text, "status": outcome.status}
    if row.kind == NOTES and outcome.status == HAS_NOTE and _may_be_there(tx, row):
        said["again"] = True
    return said


def _may_be_there(tx: Transaction, row: DeliveryRow) -> bool:
    """Return whether a sending before the present one may have been taken without an answer."""
    if row.attempts < 2:
        return False
    params = params_of(row)
    if row.reason != "not-now":
        ends = (DeliveryState.SENT, DeliveryState.REFUSED)
        ended = [e for e in tx.events(row.subject) if e.to_state in ends]
        if not ended or ended[-1].to_state == DeliveryState.SENT:
            return not ended  # what was taken says so itself
        params = _of_trouble(params_of(ended[-1]).get("trouble"))
        params = _of_trouble(params["last"]) if "last" in params else params
    return not params.get("status")


def _of_trouble(told: Any) -> dict[str, Any]:
    return dict(told.get("params") or {}) if isinstance(told, dict) else {}


def weighed(tx: Transaction, row: DeliveryRow, answer: Answer) -> Answer:
    """Return what an answer means for a row.

    To send an object again helps nobody where the destination has said that it has it already. An
    archive that applies a note of rejection may hide the note: it says so at the second sending,
    or takes the note again and again.
    """
    if answer.proof is Proof.THERE or row.state == DeliveryState.QUEUED:
        return answer
    said = _taken(tx, row)
    if row.kind == NOTES and said[-1:] == [HAS_NOTE] and _was_accepted(tx, row):
        return Answer(Proof.THERE, "by its answer: it has this rejection note already")
    if answer.proof is not Proof.ABSENT or not is_said_to_be_there(tx, row):
        return answer
    words = (
        "it said that it has it already, and does not find it"
        if said[-1] in HAS_ALREADY
        else f"it took this note {len(said)} times, and does not show it"
    )
    return Answer(Proof.UNKNOWN, f"{words} ({answer.text}): {_LOOK}")


def is_said_to_be_there(tx: Transaction, row: DeliveryRow) -> bool:
    """Return whether its destination says to have an object, so that none is sent again by itself.

    What it said before a person had the object sent again does not count.
    """
    said = _taken(tx, row)
    return bool(said) and (said[-1] in HAS_ALREADY or (row.kind == NOTES and len(said) > 1))


def _was_accepted(tx: Transaction, row: DeliveryRow) -> bool:
    said = [params_of(event) for event in tx.events(row.subject) if _is_taken(event)]
    return any(each.get("status") not in HAS_ALREADY or each.get("again") for each in said)


def _is_taken(event: EventRow) -> bool:
    return event.to_state == DeliveryState.SENT and event.code == "answered"


def _taken(tx: Transaction, row: DeliveryRow) -> list[int]:
    """Return the statuses with which a row's sendings since its last retry were taken.

    Sendings of an edition that kept no status are left out.
    """
    statuses: list[int] = []
    for event in tx.events(row.subject):
        if event.code == "retry":
            statuses.clear()
        elif _is_taken(event):
            params = params_of(event)
            statuses += [params["status"]] if "status" in params else []
    return statuses
