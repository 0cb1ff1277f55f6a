"""Attempts of deliveries: what is kept of one, and how long it is to the next."""

from __future__ import annotations

import zlib

from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.tables import DeliveryRow
from appliance.settings.delivery import Delivery

LONGEST_UNPROVEN_S = 7 * 86400.0
"""Longest wait of an object of which its destination cannot say whether it is kept."""
MOST_ASKED = 200
"""Such objects that are asked for in one turn: new objects do not wait for more of them."""
LOOK_SECONDS = 600.0
"""Period of the look for unproven cases whose deliveries ended just before a crash."""


def wait_s(row: DeliveryRow, wanted_s: float, times: Delivery) -> float:
    """Return a wait within the settings' limits, spread by a quarter.

    A destination that never can say is asked ever more rarely: after a quarter of the time that an
    object has been unproven for. One that is away for once is asked again as for any other object.
    """
    # Spread objects that failed together; by UID, so that the spread is the same each time.
    spread = zlib.crc32(f"{row.sop_instance_uid} {row.attempts}".encode()) / 2**32
    longest = times.last_retry_seconds
    if row.state == DeliveryState.UNPROVEN and row.reason == "cannot-say":
        longest = max(longest, min(wanted_s / 4, LONGEST_UNPROVEN_S))
    return min(max(wanted_s, times.first_retry_seconds), longest) * (0.75 + 0.5 * spread)


def after_failure_s(row: DeliveryRow, times: Delivery) -> float:
    """Return the wait after a failed attempt; it doubles with each."""
    doublings = min(max(row.attempts - 1, 0), 30)
    return times.first_retry_seconds * 2.0**doublings


def is_as_it_was(there: DeliveryRow, row: DeliveryRow) -> bool:
    """Return whether a row in the ledger has the state and the object that it was read with."""
    return all(
        getattr(there, name) == getattr(row, name)
        for name in ("state", "path", "study_uid", "series_uid")
    )


def note_attempt(there: DeliveryRow, row: DeliveryRow) -> None:
    """Put into the ledger's row what an attempt changes, and nothing else."""
    there.attempts, there.not_before = row.attempts, row.not_before
    there.reason, there.params, there.changed_at = row.reason, row.params, row.changed_at
