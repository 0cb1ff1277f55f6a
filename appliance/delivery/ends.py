"""States of cases by those of their deliveries."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import DeliveryRow

ABSENT = "slide-absent"
"""Code of the trouble of a scanner's image that a destination has not; words of kind ``delivery``,
and of kind ``case`` for a case that is sent but for that."""


def case_state(deliveries: Sequence[DeliveryRow]) -> tuple[CaseState, str]:
    """Return the state of a case and its reason, by the states of its deliveries."""
    states = {row.state for row in deliveries}
    if states & {DeliveryState.QUEUED, DeliveryState.SENT}:
        absent = any(row.reason == ABSENT for row in deliveries)
        return CaseState.WRITTEN, ABSENT if absent else ""
    if DeliveryState.REFUSED in states:
        return CaseState.UNDELIVERED, "refused"
    if DeliveryState.UNPROVEN in states:
        return CaseState.UNPROVEN, "unproven"
    return CaseState.DELIVERED, ""
