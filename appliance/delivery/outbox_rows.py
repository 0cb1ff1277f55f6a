"""Rows of deliveries in the ledger: what an attempt changes in them.

A row that another thread or a command changed meanwhile keeps what is in the ledger; but what was
sent counts as sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.delivery.waiting import after_failure_s, is_as_it_was, note_attempt, wait_s
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.tables import DeliveryRow, fact, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.delivery import Delivery

_GONE_OUT = (DeliveryState.SENT, DeliveryState.PROVEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Reason for which an object is not delivered; words of kind ``delivery``."""

    code: str
    params: Mapping[str, Any]


class Rows:
    """Changes rows, each in one transaction."""

    def __init__(self, ledger: Ledger, delivery: Delivery, clock: Callable[[], float]) -> None:
        """Wait by the settings of `delivery`."""
        self._ledger, self._delivery, self._clock = ledger, delivery, clock

    def postpone(self, row: DeliveryRow, trouble: Trouble, wait: float) -> None:
        """Let a row wait for `wait` seconds, within the settings' limits."""
        set_reason(row, trouble.code, trouble.params)
        row.not_before = self._clock() + wait_s(row, wait, self._delivery)
        self.save(row)

    def after_failure(self, row: DeliveryRow) -> float:
        """Return the wait after a failed attempt, in s."""
        return after_failure_s(row, self._delivery)

    def save(self, row: DeliveryRow) -> bool:
        """Save what an attempt changes; not where another thread or a command changed the row."""
        with self._ledger.transaction() as tx:
            there = tx.session.get(DeliveryRow, row.id)
            if there is None or not is_as_it_was(there, row):
                return False
            note_attempt(there, row)
        return True

    def trouble(self, row: DeliveryRow, to: DeliveryState, trouble: Trouble) -> None:
        """Advance a row because of a trouble, which the row keeps."""
        why = fact("delivery", trouble.code, trouble.params)
        set_reason(row, trouble.code, trouble.params)
        self._change(row, to, "trouble", {"trouble": why})

    def advance(
        self,
        row: DeliveryRow,
        to: DeliveryState,
        code: str,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Advance a row without trouble."""
        set_reason(row)
        self._change(row, to, code, params or {})

    def _change(
        self, row: DeliveryRow, to: DeliveryState, code: str, params: Mapping[str, Any]
    ) -> None:
        with self._ledger.transaction() as tx:
            changed = self.put(tx, row, to, code, params)
        if changed:
            row.state = to.value

    def put(
        self,
        tx: Transaction,
        row: DeliveryRow,
        to: DeliveryState,
        code: str,
        params: Mapping[str, Any],
    ) -> bool:
        """Change the state of a row in the ledger; not where it was changed there meanwhile."""
        there = tx.session.get(DeliveryRow, row.id)
        # What is sent counts as sent, whatever was done with it meanwhile.
        if to not in _GONE_OUT and (there is None or not is_as_it_was(there, row)):
            return False
        row.not_before = 0.0
        row.changed_at = self._clock()
        merged = tx.session.merge(row)
        tx.advance(merged, to, now=row.changed_at, code=code, reason=row.reason, params=params)
        return True
