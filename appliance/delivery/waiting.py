"""Waits of deliveries: until the next attempt, or until it is asked again whether one is kept."""

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
    object has been unproven for.
    """
    # Spread objects that failed together; by UID, so that the spread is the same each time.
    spread = zlib.crc32(f"{row.sop_instance_uid} {row.attempts}".encode()) / 2**32
    longest = times.last_retry_seconds
    if row.state == DeliveryState.UNPROVEN:
        longest = max(longest, min(wanted_s / 4, LONGEST_UNPROVEN_S))
    return min(max(wanted_s, times.first_retry_seconds), longest) * (0.75 + 0.5 * spread)


def after_failure_s(row: DeliveryRow, times: Delivery) -> float:
    """Return the wait after a failed attempt; it doubles with each."""
    doublings = min(max(row.attempts - 1, 0), 30)
    return times.first_retry_seconds * 2.0**doublings
