"""The outbox: sends what is queued, proves what was sent, tries again, and gives up aloud.

`attempts` is counted in the ledger *before* a send. After a crash an object with attempts is looked
for at the destination first, so a lost answer does not send it twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import groupby

from appliance.delivery.destinations import Destination, Parcel
from appliance.delivery.objects import read_index
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.lifecycle import CaseState, DeliveryState
from appliance.settings import Settings
from appliance.store import CaseRow, DeliveryRow, Ledger, NewDelivery, Transaction

log = logging.getLogger(__name__)


def enqueue_case(tx: Transaction, case: CaseRow, settings: Settings, now: float) -> int:
    """Put each object of a written case into the outbox of each destination; returns how many."""
    if case.id is None:
        return 0
    objects = read_index(case.objects_key, settings)
    for destination in settings.destinations:
        for item in objects:
            tx.enqueue(
                case.id,
                NewDelivery(
                    destination=destination.name,
                    kind=item.kind,
                    path=item.path,
                    study_uid=item.study_uid,
                    series_uid=item.series_uid,
                    sop_instance_uid=item.sop_instance_uid,
                    sop_class_uid=item.sop_class_uid,
                ),
                now,
            )
    return len(objects) * len(settings.destinations)


class Outbox:
    """Works off the deliveries that are due."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        destinations: dict[str, Destination],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._destinations = destinations
        self._clock = clock

    def run(self) -> int:
        """Send and prove everything that is due; returns how many rows were proven."""
        proven = 0
        with self._ledger.transaction() as tx:
            due = tx.due_deliveries(self._clock())

        def place(row: DeliveryRow) -> tuple[int, str]:
            return (row.case_id, row.destination)

        for (case_id, name), group in groupby(sorted(due, key=place), key=place):
            rows = sorted(group, key=lambda row: row.id or 0)
            proven += self._deliver(rows, name)
            self._close_case(case_id)
        return proven

    def _deliver(self, rows: list[DeliveryRow], name: str) -> int:
        destination = self._destinations.get(name)
        if destination is None:
            error = f"no destination '{name}' in the settings any more; add it, then: tandem retry"
            for row in rows:
                self._refuse(row, error)
            return 0
        try:
            self._send(rows, destination)
            return self._prove(rows, destination)
        except DestinationUnavailableError as err:
            self._postpone(rows, str(err))
        except DestinationRejectedError as err:
            self._refuse_one(rows, str(err))
        return 0

    def _send(self, rows: list[DeliveryRow], destination: Destination) -> None:
        queued = [row for row in rows if row.state == DeliveryState.QUEUED]
        parcels = {}
        for row in queued:
            parcel = self._parcel(row)
            if row.attempts > 0 and destination.has(parcel):
                self._sent(row, "found there already")
            else:
                parcels[parcel.sop_instance_uid] = (row, parcel)
        if not parcels:
            return
        with self._ledger.transaction() as tx:
            for row, _ in parcels.values():
                row.attempts += 1
                tx.session.merge(row)
        destination.send(
            [parcel for _, parcel in parcels.values()],
            lambda parcel: self._sent(parcels[parcel.sop_instance_uid][0], ""),
        )

    def _prove(self, rows: list[DeliveryRow], destination: Destination) -> int:
        proven = 0
        for row in rows:
            if row.state != DeliveryState.SENT:
                continue
            if destination.has(self._parcel(row)):
                self._advance(row, DeliveryState.PROVEN, "")
                proven += 1
            else:
                # It said yes and does not have it: some archives index late.
                row.error = "accepted, but not found by query yet"
                self._advance(row, DeliveryState.QUEUED, row.error, self._backoff(row))
        return proven

    def _sent(self, row: DeliveryRow, detail: str) -> None:
        row.error = ""
        self._advance(row, DeliveryState.SENT, detail)

    def _postpone(self, rows: list[DeliveryRow], error: str) -> None:
        log.warning("delivery postponed: %s", error)
        with self._ledger.transaction() as tx:
            for row in rows:
                if row.state in (DeliveryState.QUEUED, DeliveryState.SENT):
                    row.error = error
                    row.not_before = self._backoff(row)
                    tx.session.merge(row)

    def _refuse_one(self, rows: list[DeliveryRow], error: str) -> None:
        """The first object that was not accepted is the one refused; the others go on."""
        for row in rows:
            if row.state == DeliveryState.QUEUED:
                self._refuse(row, error)
                return

    def _refuse(self, row: DeliveryRow, error: str) -> None:
        log.error("delivery refused: %s", error)
        row.error = error
        self._advance(row, DeliveryState.REFUSED, error)

    def _advance(
        self, row: DeliveryRow, to: DeliveryState, detail: str, not_before: float = 0.0
    ) -> None:
        now = self._clock()
        with self._ledger.transaction() as tx:
            row.not_before = not_before
            merged = tx.session.merge(row)
            tx.advance(merged, to, now=now, detail=detail)
        row.state = to.value

    def _backoff(self, row: DeliveryRow) -> float:
        times = self._settings.delivery
        wait = times.first_retry_seconds * 2 ** min(row.attempts, 20)
        return self._clock() + float(min(wait, times.last_retry_seconds))

    def _close_case(self, case_id: int) -> None:
        """`written` → `delivered` when all is proven, → `undelivered` when one was refused."""
        now = self._clock()
        with self._ledger.transaction() as tx:
            case = tx.case(case_id)
            if case is None or case.state != CaseState.WRITTEN:
                return
            current = {
                item.sop_instance_uid for item in read_index(case.objects_key, self._settings)
            }
            states = {
                row.state for row in tx.deliveries(case_id) if row.sop_instance_uid in current
            }
            if states == {DeliveryState.PROVEN}:
                tx.advance(case, CaseState.DELIVERED, now=now)
            elif DeliveryState.REFUSED in states and not states & {
                DeliveryState.QUEUED,
                DeliveryState.SENT,
            }:
                case.reason = "A destination refused an object for good; see the deliveries."
                tx.advance(case, CaseState.UNDELIVERED, now=now)

    def _parcel(self, row: DeliveryRow) -> Parcel:
        return Parcel(
            path=self._settings.artifacts_dir / row.path,
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            sop_instance_uid=row.sop_instance_uid,
        )
