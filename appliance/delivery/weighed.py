"""Answers of a destination, weighed beside what it said when the object was sent."""

from __future__ import annotations

from dataclasses import replace

from appliance.delivery.destinations.contract import Answer, Proof
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import NOTES
from appliance.ledger.tables import DeliveryRow, params_of
from appliance.ledger.transaction import Transaction
from dicom.status import HAS_ALREADY, HAS_NOTE

_LOOK = (
    "look for it there, perhaps in another study or among what is hidden. It is asked for again; "
    "to have it sent again: tandem retry"
)


def elsewhere(row: DeliveryRow, answer: Answer, *, verified: bool) -> Answer:
    """Return what an answer means for a row where the object is in another study.

    Of what was sent as the row says, the destination may have moved it: a person looks. Another
    edition of an object that waits, as its study was corrected, does not stand for it; nor does
    one for an image of the scanner that is only asked for (`verified`).
    """
    if answer.proof is not Proof.ELSEWHERE:
        return answer
    waits = row.state == DeliveryState.QUEUED or verified
    return replace(answer, proof=Proof.ABSENT if waits else Proof.UNKNOWN)


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
    return any(status not in HAS_ALREADY for status in _taken(tx, row, of_all_time=True))


def _taken(tx: Transaction, row: DeliveryRow, *, of_all_time: bool = False) -> list[int]:
    """Return the statuses with which a row's sendings since its last retry were taken.

    Sendings of an edition that kept no status are left out.
    """
    taken: list[int] = []
    for event in tx.events(row.subject):
        if event.code == "retry" and not of_all_time:
            taken.clear()
        elif event.to_state == DeliveryState.SENT and event.code == "answered":
            params = params_of(event)
            taken += [params["status"]] if "status" in params else []
    return taken
