"""What a destination finds, weighed beside what it said when the object was sent."""

from __future__ import annotations

from typing import Any

from appliance.delivery.destinations.contract import Answer, Proof
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import NOTES
from appliance.ledger.tables import DeliveryRow, params_of
from appliance.ledger.transaction import Transaction
from dicom.status import HAS_ALREADY, HAS_NOTE

_LOOK = "look for it there, perhaps in another study or among what is hidden. It is asked for again"
_RECENT = 20
"""Last events of a delivery that are read; the answer to its sending is among the last two."""


def weighed(tx: Transaction, row: DeliveryRow, answer: Answer) -> Answer:
    """Return what an answer means for a row.

    To send an object again helps nobody where the destination has said that it has it already. An
    archive that applies a note of rejection may hide the note: it says so at the second sending,
    or takes the note again and again.
    """
    if answer.proof is Proof.THERE or row.state == DeliveryState.QUEUED:
        return answer
    status = _last_status(tx, row)
    if row.kind == NOTES and status == HAS_NOTE:
        return Answer(Proof.THERE, "by its answer: it has this rejection note already")
    if answer.proof is not Proof.ABSENT:
        return answer
    if status in HAS_ALREADY:
        said = "it said that it has it already, and does not find it"
        return Answer(Proof.UNKNOWN, f"{said} ({answer.text}): {_LOOK}")
    if row.kind == NOTES and row.attempts > 1:
        said = f"it took this note {row.attempts} times, and does not show it"
        return Answer(Proof.UNKNOWN, f"{said} ({answer.text}): {_LOOK}")
    return answer


def _last_status(tx: Transaction, row: DeliveryRow) -> Any:
    """Return the status of the answer to a row's last sending; None of an earlier edition."""
    events = reversed(tx.events(row.subject, _RECENT))
    sent = next((event for event in events if event.to_state == DeliveryState.SENT), None)
    return None if sent is None else params_of(sent).get("status")
