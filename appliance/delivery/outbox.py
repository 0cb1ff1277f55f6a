"""The outbox: sends what is queued, proves what was sent, tries again, and gives up aloud.

`attempts` is counted in the ledger *before* an object goes on the wire. An object with attempts is
looked for at its destination first, so a lost answer does not send it twice.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Sequence

from appliance.delivery.destinations.contract import Answer, Destination, Instance, Proof
from appliance.delivery.objects import read_index
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import CaseRow, DeliveryRow
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.settings.settings import Settings
from dicom.status import InstanceRef, Outcome, Verdict

log = logging.getLogger(__name__)

SLIDES = "WSM"
REFUSED = "A destination refused an object for good; see the deliveries."
UNREADABLE = "The list of this case's objects cannot be read"
RESTORE = "so it is not known what belongs to it. Restore artifacts/ of the state folder."
UNPROVEN = "A destination cannot say whether it has an object; see the deliveries."


def enqueue_case(tx: Transaction, case: CaseRow, settings: Settings, now: float) -> int:
    """Put the objects of a written case into the outbox of each destination that wants them.

    Returns how many.
    """
    if case.id is None:
        return 0
    queued = 0
    for destination in settings.destinations:
        for item in read_index(case.objects_key, settings):
            if destination.objects is not None and item.kind not in destination.objects:
                continue
            queued += 1
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
    return queued


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
        self._told: set[int] = set()  # cases whose trouble is in the log already

    def run(self) -> None:
        """Send and prove everything that is due, then close the cases that are through."""
        with self._ledger.transaction() as tx:
            due = tx.due_deliveries(self._clock())
        away: dict[str, str] = {}
        for (case_id, name), rows in _in_order(due):
            if name in away:
                self._hold(rows, away[name])
            elif error := self._deliver(rows, name):
                away[name] = error
            self._close_case(case_id)
        with self._ledger.transaction() as tx:
            through = tx.written_cases_without_open_deliveries()
        for case_id in through:
            self._close_case(case_id)

    def _deliver(self, rows: list[DeliveryRow], name: str) -> str:
        """Why the destination is not to be had now; empty: it is."""
        destination = self._destinations.get(name)
        if destination is None:
            error = f"no destination '{name}' in the settings any more; add it, then: tandem retry"
            for row in rows:
                self._advance(row, DeliveryState.REFUSED, error)
            return ""
        try:
            self._send([row for row in rows if row.state == DeliveryState.QUEUED], destination)
            asked = (DeliveryState.SENT, DeliveryState.UNPROVEN)
            sent = [row for row in rows if row.state in asked]
            answers = destination.prove([self._parcel(row) for row in sent]) if sent else {}
            for row in sent:
                self._settle(row, answers[row.sop_instance_uid])
        except (DestinationUnavailableError, DestinationRejectedError) as err:
            # Rejected: its settings or ours are wrong. No object is to blame, and all of them go
            # when a person has put it right.
            log.warning("delivery postponed: %s", err)
            self._hold(rows, str(err))
            return str(err)
        except Exception as err:  # the delivery loop goes on
            # Messages hold paths and what a library says of a patient: details only at DEBUG.
            log.error("case-%d to '%s' failed: %s", rows[0].case_id, name, type(err).__name__)
            log.debug("details", exc_info=err)
            self._hold(rows, f"{type(err).__name__}: {err}. It is tried again.")
        return ""

    def _hold(self, rows: Sequence[DeliveryRow], error: str) -> None:
        """The destination's trouble: wait as long again as each row has waited."""
        now = self._clock()
        for row in rows:
            through = row.state in (DeliveryState.PROVEN, DeliveryState.REFUSED)
            # One that has just failed by itself waits for that.
            if not through and row.not_before <= now:
                self._postpone(row, error, now - row.changed_at)

    def _send(self, rows: Sequence[DeliveryRow], destination: Destination) -> None:
        tried = [row for row in rows if row.attempts > 0]
        answers = destination.prove([self._parcel(row) for row in tried]) if tried else {}
        by_uid = {}
        for row in rows:
            answer = answers.get(row.sop_instance_uid)
            if answer is not None and answer.proof is Proof.THERE:
                self._advance(row, DeliveryState.SENT, "", "it was there already")
                self._settle(row, answer)
            elif row.attempts >= self._settings.delivery.most_attempts:
                error = f"given up after {row.attempts} attempts: {row.error or 'no answer'}"
                self._advance(row, DeliveryState.REFUSED, error)
            else:
                by_uid[row.sop_instance_uid] = row
        if not by_uid:
            return
        on_the_wire: list[DeliveryRow] = []

        def before(instance: Instance) -> None:
            row = by_uid[instance.ref.sop_instance_uid]
            row.attempts += 1
            self._save(row)
            on_the_wire.append(row)

        def after(instance: Instance, outcome: Outcome) -> None:
            on_the_wire.clear()
            self._note(by_uid[instance.ref.sop_instance_uid], outcome)

        try:
            destination.send([self._parcel(row) for row in by_uid.values()], before, after)
        except DestinationUnavailableError:
            # It said so itself, of itself: that was no attempt at this object.
            for row in on_the_wire:
                row.attempts -= 1
            raise

    def _note(self, row: DeliveryRow, outcome: Outcome) -> None:
        match outcome.verdict:
            case Verdict.STORED:
                self._advance(row, DeliveryState.SENT, "", outcome.text)
            case Verdict.NEVER:
                log.error("%s refused (0x%04X)", row.subject, outcome.status)
                self._advance(row, DeliveryState.REFUSED, f"'{row.destination}' {outcome.text}")
            case Verdict.LATER:
                log.warning("%s: attempt %d failed", row.subject, row.attempts)
                self._postpone(row, f"'{row.destination}' {outcome.text}", self._after_failure(row))

    def _settle(self, row: DeliveryRow, answer: Answer) -> None:
        match answer.proof:
            case Proof.THERE:
                self._advance(row, DeliveryState.PROVEN, "", answer.text)
            case Proof.ABSENT:
                # Perhaps it only indexes late: it is looked for again before it is sent again.
                error = f"accepted, but not there ({answer.text})"
                self._advance(row, DeliveryState.QUEUED, error)
                self._postpone(row, error, self._after_failure(row))
            case Proof.UNKNOWN:
                if row.state == DeliveryState.SENT:
                    self._advance(row, DeliveryState.UNPROVEN, answer.text)
                self._postpone(row, answer.text, self._clock() - row.changed_at)

    def _postpone(self, row: DeliveryRow, error: str, wait: float) -> None:
        times = self._settings.delivery
        # Objects that failed together are spread by their UID, the same way each time.
        spread = zlib.crc32(f"{row.sop_instance_uid} {row.attempts}".encode()) / 2**32
        wait = min(max(wait, times.first_retry_seconds), times.last_retry_seconds)
        row.error = error
        row.not_before = self._clock() + wait * (0.75 + 0.5 * spread)
        self._save(row)

    def _after_failure(self, row: DeliveryRow) -> float:
        """Doubles with each attempt at this object."""
        doublings = min(max(row.attempts - 1, 0), 30)
        return self._settings.delivery.first_retry_seconds * 2.0**doublings

    def _save(self, row: DeliveryRow) -> None:
        with self._ledger.transaction() as tx:
            tx.session.merge(row)

    def _advance(
        self, row: DeliveryRow, to: DeliveryState, error: str, detail: str | None = None
    ) -> None:
        row.error = error
        row.not_before = 0.0
        row.changed_at = self._clock()
        with self._ledger.transaction() as tx:
            merged = tx.session.merge(row)
            tx.advance(merged, to, now=row.changed_at, detail=error if detail is None else detail)
        row.state = to.value

    def _close_case(self, case_id: int) -> None:
        """Let a case's state follow from its deliveries'."""
        try:
            self._follow(case_id)
            self._told.discard(case_id)
        except Exception as err:  # the delivery loop goes on
            if case_id not in self._told:
                log.error("case-%d cannot be ended: %s", case_id, type(err).__name__)
                log.debug("details", exc_info=err)
                if isinstance(err, (OSError, ValueError, LookupError)):
                    self._tell(case_id, f"{UNREADABLE} ({type(err).__name__}), {RESTORE}")
            self._told.add(case_id)

    def _tell(self, case_id: int, reason: str) -> None:
        with self._ledger.transaction() as tx:
            case = tx.case(case_id)
            if case is not None:
                case.reason = reason
                tx.session.add(case)

    def _follow(self, case_id: int) -> None:
        now = self._clock()
        with self._ledger.transaction() as tx:
            case = tx.case(case_id)
            if case is None or case.state not in (CaseState.WRITTEN, CaseState.UNPROVEN):
                return
            index = read_index(case.objects_key, self._settings)
            current = {item.sop_instance_uid for item in index}
            rows = [row for row in tx.deliveries(case_id) if row.sop_instance_uid in current]
            state, reason = _case_state({DeliveryState(row.state) for row in rows})
            case.reason = reason
            tx.session.add(case)
            if case.state != state:
                tx.advance(case, state, now=now)

    def _parcel(self, row: DeliveryRow) -> Instance:
        return Instance(
            path=self._settings.artifacts_dir / row.path,
            ref=InstanceRef(
                study_uid=row.study_uid,
                series_uid=row.series_uid,
                sop_instance_uid=row.sop_instance_uid,
                sop_class_uid=row.sop_class_uid,
            ),
        )


def _in_order(due: list[DeliveryRow]) -> list[tuple[tuple[int, str], list[DeliveryRow]]]:
    """By case and destination, what failed least first, so that it stands in nobody's way.

    Slides go before results: a viewer shows an overlay only on what it has.
    """
    groups: dict[tuple[int, str], list[DeliveryRow]] = {}
    for row in sorted(due, key=lambda row: (row.attempts, row.kind != SLIDES, row.id or 0)):
        groups.setdefault((row.case_id, row.destination), []).append(row)
    return sorted(groups.items(), key=lambda group: (group[1][-1].attempts, group[0]))


def _case_state(deliveries: set[DeliveryState]) -> tuple[CaseState, str]:
    if deliveries & {DeliveryState.QUEUED, DeliveryState.SENT}:
        return CaseState.WRITTEN, ""
    if DeliveryState.REFUSED in deliveries:
        return CaseState.UNDELIVERED, REFUSED
    if DeliveryState.UNPROVEN in deliveries:
        return CaseState.UNPROVEN, UNPROVEN
    return CaseState.DELIVERED, ""
