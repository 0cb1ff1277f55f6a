"""States of cases by those of their deliveries; the end of a case whose deliveries have ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from appliance.delivery.index import sound_contents
from appliance.delivery.intact import take_back
from appliance.delivery.left_out import still_wanted
from appliance.errors import StoppedError, TransientError
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import DeliveryRow, set_reason
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

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


class CaseEnds:
    """Ends cases whose deliveries have ended."""

    def __init__(self, ledger: Ledger, settings: Settings, clock: Callable[[], float]) -> None:
        """Log the trouble of a case once."""
        self._ledger, self._settings, self._clock = ledger, settings, clock
        self._told: set[int] = set()  # cases whose trouble is in the log already

    def close(self, case_id: int) -> None:
        """Advance a case by the states of its deliveries."""
        try:
            self._follow(case_id)
            self._told.discard(case_id)
        except (StoppedError, TransientError):  # the ledger's: no case is to blame
            raise
        except Exception as err:  # the delivery loop goes on
            if case_id not in self._told:
                log.error("case-%d cannot be ended: %s", case_id, type(err).__name__)
                log.debug("details", exc_info=err)
                if isinstance(err, (OSError, ValueError, LookupError)):
                    self._tell(case_id, type(err).__name__)
            self._told.add(case_id)

    def _tell(self, case_id: int, error: str) -> None:
        with self._ledger.transaction() as tx:
            case = tx.case(case_id)
            if case is not None:
                set_reason(case, "objects-unreadable", {"error": error})
                tx.session.add(case)

    def _follow(self, case_id: int) -> None:
        now = self._clock()
        with self._ledger.transaction() as tx:
            case = tx.case(case_id)
            if case is None or case.state not in (CaseState.WRITTEN, CaseState.UNPROVEN):
                return
            contents = sound_contents(case.objects_key, self._settings)
            if contents is None:
                take_back(tx, case, "objects.json", now)
                return
            listed = (*contents["objects"], *contents.get("scanned", ()))
            current = {entry["sop_instance_uid"] for entry in listed}
            rows = still_wanted(tx, tx.deliveries(case_id), self._settings, now)
            state, reason = case_state([row for row in rows if row.sop_instance_uid in current])
            set_reason(case, reason)
            tx.session.add(case)
            if case.state != state:
                tx.advance(case, state, now=now, reason=reason)
