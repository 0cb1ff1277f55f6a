"""The outbox: send what is queued, prove what was sent, try again, and give up with a reason.

An object whose file is not what was written is not sent: its case is written again first.
`attempts` is counted in the ledger *before* an object goes on the wire. An object with attempts is
looked for at its destination first, so a lost answer does not send it twice.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.delivery.destinations.contract import Answer, Destination, Instance, Proof, wants
from appliance.delivery.index import is_signed, read_index, sound_contents
from appliance.delivery.intact import instance_of, is_intact, take_back, write_again
from appliance.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    StoppedError,
    TransientError,
)
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import CaseRow, DeliveryRow, fact, params_of, set_reason
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.settings.settings import Settings
from dicom.status import Outcome, Verdict

log = logging.getLogger(__name__)

SLIDES = "WSM"
"""Kind of the objects that are sent before all others."""
_OPEN = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.UNPROVEN)
_GONE_OUT = (DeliveryState.SENT, DeliveryState.PROVEN)


class _ChangedError(Exception):
    """An object that was to be sent was withdrawn meanwhile, or a person did something with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Reason for which an object is not delivered; words of kind ``delivery``."""

    code: str
    params: Mapping[str, Any]


def enqueue_case(tx: Transaction, case: CaseRow, settings: Settings, now: float) -> int:
    """Put the objects of a written case into the outbox of each destination that wants them.

    A destination that gets signed results alone gets none of a case that no person has signed; the
    objects of the signed result are others, and are queued when they are written. Returns how many.
    """
    if case.id is None:
        return 0
    queued = 0
    for destination in settings.destinations:
        if destination.signed_only and not is_signed(case.objects_key, settings):
            continue
        for item in read_index(case.objects_key, settings):
            if not wants(destination, item.kind):
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
    """Sends and proves the deliveries that are due."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        destinations: dict[str, Destination],
        clock: Callable[[], float] = time.time,
        *,
        strays: bool = True,
        stop: threading.Event | None = None,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        """Deliver to `destinations`, by name, until `stop` is set; `step` is called often.

        Several outboxes may share a ledger if their destinations differ. One of them takes the
        `strays`: deliveries to destinations that the settings do not have any more, and cases whose
        deliveries ended just before a crash.
        """
        self._stop, self._step, self._strays = stop or threading.Event(), step, strays
        self._ledger = ledger
        self._settings = settings
        self._destinations = destinations
        self._known = frozenset(section.name for section in settings.destinations)
        self._clock = clock
        self._told: set[int] = set()  # cases whose trouble is in the log already

    def run(self) -> None:
        """Send and prove everything that is due, then end the cases whose deliveries have ended.

        Raises
        ------
        StoppedError
            If `stop` was set between two objects of a case.
        """
        with self._ledger.transaction() as tx:
            # Twice: a wait is spread by a quarter.
            longest_wait_s = 2 * self._settings.delivery.last_retry_seconds
            due = tx.due_deliveries(self._clock(), longest_wait_s)
        away: dict[str, Trouble] = {}
        for (case_id, name), found in _in_order([row for row in due if self._is_ours(row)]):
            if self._stop.is_set():
                return
            self._step()
            rows = self._of_now(found)
            if name in away:
                self._hold(rows, away[name])
            elif trouble := self._deliver(rows, name):
                away[name] = trouble
            with self._ledger.transaction() as tx:
                sharing = tx.cases_of_deliveries(rows)
            for each in {case_id, *sharing}:
                self._close_case(each)
        if not self._strays:
            return
        with self._ledger.transaction() as tx:
            through = tx.cases_whose_deliveries_ended()
        for case_id in through:
            self._close_case(case_id)

    def _of_now(self, rows: Sequence[DeliveryRow]) -> list[DeliveryRow]:
        """Read rows again that may have waited for hours, and leave out what was withdrawn."""
        with self._ledger.transaction() as tx:
            there = [tx.session.get(DeliveryRow, row.id) for row in rows]
        return [row for row in there if row is not None and row.state in _OPEN]

    def _is_ours(self, row: DeliveryRow) -> bool:
        return row.destination in self._destinations or (
            self._strays and row.destination not in self._known
        )

    def _deliver(self, rows: list[DeliveryRow], name: str) -> Trouble | None:
        """Send and prove a case's rows; return the trouble of a destination that is away."""
        destination = self._destinations.get(name)
        if destination is None:
            for row in rows:
                unknown = Trouble(code="no-destination", params={"destination": name})
                self._trouble(row, DeliveryState.REFUSED, unknown)
            return None
        try:
            self._send([row for row in rows if row.state == DeliveryState.QUEUED], destination)
            asked = (DeliveryState.SENT, DeliveryState.UNPROVEN)
            sent = [row for row in rows if row.state in asked]
            answers = destination.prove([self._instance(row) for row in sent]) if sent else {}
            for row in sent:
                self._settle(row, answers[row.sop_instance_uid])
        except (DestinationUnavailableError, DestinationRejectedError) as err:
            # Rejected: its settings or ours are wrong. No object is to blame, and all of them go
            # when a person has put it right.
            log.warning("delivery postponed: %s", err)
            code = "away" if isinstance(err, DestinationUnavailableError) else "not-allowed"
            away = Trouble(code=code, params={"message": str(err)})
            self._hold(rows, away)
            return away
        except StoppedError:
            raise
        except _ChangedError:  # the others of the case are taken up at the next turn
            return None
        except Exception as err:  # the delivery loop goes on
            # Messages hold paths and what a library says of a patient: details only at DEBUG.
            log.error("case-%d to '%s' failed: %s", rows[0].case_id, name, type(err).__name__)
            log.debug("details", exc_info=err)
            params = {"error": type(err).__name__, "message": str(err)}
            self._hold(rows, Trouble(code="unforeseen", params=params))
        return None

    def _hold(self, rows: Sequence[DeliveryRow], trouble: Trouble) -> None:
        """Let rows wait for their destination, each as long again as it has waited."""
        now = self._clock()
        for row in rows:
            through = row.state in (DeliveryState.PROVEN, DeliveryState.REFUSED)
            # A row that has just failed by itself waits for its own next attempt.
            if not through and row.not_before <= now:
                self._postpone(row, trouble, now - row.changed_at)

    def _send(self, rows: Sequence[DeliveryRow], destination: Destination) -> None:
        tried = [row for row in rows if row.attempts > 0]
        answers = destination.prove([self._instance(row) for row in tried]) if tried else {}
        by_uid = {}
        for row in rows:
            answer = answers.get(row.sop_instance_uid)
            if answer is not None and answer.proof is Proof.THERE:
                self._advance(row, DeliveryState.SENT, "there-already")
                self._settle(row, answer)
            elif row.attempts >= self._settings.delivery.most_attempts:
                last = fact("delivery", row.reason, params_of(row))
                params = {"attempts": row.attempts, "last": last}
                self._trouble(row, DeliveryState.REFUSED, Trouble(code="given-up", params=params))
            elif self._is_intact(row):
                by_uid[row.sop_instance_uid] = row
        if not by_uid:
            return
        on_the_wire: list[DeliveryRow] = []

        def before(instance: Instance) -> None:
            self._step()
            if self._stop.is_set():
                raise StoppedError("the daemon was stopped")
            row = by_uid[instance.ref.sop_instance_uid]
            row.attempts += 1
            if not self._save(row):
                raise _ChangedError
            on_the_wire.append(row)

        def after(instance: Instance, outcome: Outcome) -> None:
            on_the_wire.clear()
            self._note(by_uid[instance.ref.sop_instance_uid], outcome)

        try:
            destination.send([self._instance(row) for row in by_uid.values()], before, after)
        except DestinationUnavailableError:
            # The destination reported itself unavailable; do not count an attempt.
            for row in on_the_wire:
                row.attempts -= 1
            raise

    def _is_intact(self, row: DeliveryRow) -> bool:
        """Return whether an object may be sent; one that is damaged is written again first."""
        if is_intact(row, self._settings):
            return True
        log.error("%s: its file is not what was written", row.subject)
        with self._ledger.transaction() as tx:
            again = write_again(tx, row, self._settings, self._clock())
        if again:
            self._postpone(row, Trouble(code="object-damaged", params={}), 0.0)
        else:
            replaced = Trouble(code="object-replaced", params={})
            self._trouble(row, DeliveryState.REFUSED, replaced)
        return False

    def _note(self, row: DeliveryRow, outcome: Outcome) -> None:
        params = {
            "destination": row.destination,
            "status": outcome.status,
            "answer": outcome.text,
        }
        match outcome.verdict:
            case Verdict.STORED | Verdict.WARNED:
                self._advance(row, DeliveryState.SENT, "answered", {"answer": outcome.text})
            case Verdict.NEVER:
                log.error("%s refused (0x%04X)", row.subject, outcome.status)
                refused = Trouble(code="refused", params=params)
                self._trouble(row, DeliveryState.REFUSED, refused)
            case Verdict.LATER:
                log.warning("%s: attempt %d failed", row.subject, row.attempts)
                not_now = Trouble(code="not-now", params=params)
                self._postpone(row, not_now, self._after_failure(row))

    def _settle(self, row: DeliveryRow, answer: Answer) -> None:
        match answer.proof:
            case Proof.THERE:
                self._advance(row, DeliveryState.PROVEN, "answered", {"answer": answer.text})
            case Proof.ABSENT:
                # Perhaps it only indexes late: it is looked for again before it is sent again.
                absent = Trouble(code="not-there", params={"answer": answer.text})
                self._trouble(row, DeliveryState.QUEUED, absent)
                self._postpone(row, absent, self._after_failure(row))
            case Proof.UNKNOWN:
                unknown = Trouble(code="cannot-say", params={"answer": answer.text})
                if row.state == DeliveryState.SENT:
                    self._trouble(row, DeliveryState.UNPROVEN, unknown)
                self._postpone(row, unknown, self._clock() - row.changed_at)

    def _postpone(self, row: DeliveryRow, trouble: Trouble, wait: float) -> None:
        times = self._settings.delivery
        # Spread objects that failed together; by UID, so that the spread is the same each time.
        spread = zlib.crc32(f"{row.sop_instance_uid} {row.attempts}".encode()) / 2**32
        wait = min(max(wait, times.first_retry_seconds), times.last_retry_seconds)
        set_reason(row, trouble.code, trouble.params)
        row.not_before = self._clock() + wait * (0.75 + 0.5 * spread)
        self._save(row)

    def _after_failure(self, row: DeliveryRow) -> float:
        """Wait in seconds after a failed attempt; it doubles with each."""
        doublings = min(max(row.attempts - 1, 0), 30)
        return self._settings.delivery.first_retry_seconds * 2.0**doublings

    def _save(self, row: DeliveryRow) -> bool:
        """Save a row; not one whose state another thread or a command has changed meanwhile."""
        with self._ledger.transaction() as tx:
            there = tx.session.get(DeliveryRow, row.id)
            if there is None or there.state != row.state:
                return False
            tx.session.merge(row)
        return True

    def _trouble(self, row: DeliveryRow, to: DeliveryState, trouble: Trouble) -> None:
        """Advance a row because of a trouble, which the row keeps."""
        why = fact("delivery", trouble.code, trouble.params)
        set_reason(row, trouble.code, trouble.params)
        self._change(row, to, "trouble", {"trouble": why})

    def _advance(
        self,
        row: DeliveryRow,
        to: DeliveryState,
        code: str,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        set_reason(row)
        self._change(row, to, code, params or {})

    def _change(
        self, row: DeliveryRow, to: DeliveryState, code: str, params: Mapping[str, Any]
    ) -> None:
        with self._ledger.transaction() as tx:
            there = tx.session.get(DeliveryRow, row.id)
            # What is sent counts as sent, whatever was done with it meanwhile.
            if to not in _GONE_OUT and (there is None or there.state != row.state):
                return
            row.not_before = 0.0
            row.changed_at = self._clock()
            merged = tx.session.merge(row)
            tx.advance(merged, to, now=row.changed_at, code=code, reason=row.reason, params=params)
        row.state = to.value

    def _close_case(self, case_id: int) -> None:
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
            current = {entry["sop_instance_uid"] for entry in contents["objects"]}
            rows = [row for row in tx.deliveries(case_id) if row.sop_instance_uid in current]
            state, reason = _case_state({DeliveryState(row.state) for row in rows})
            set_reason(case, reason)
            tx.session.add(case)
            if case.state != state:
                tx.advance(case, state, now=now, reason=reason)

    def _instance(self, row: DeliveryRow) -> Instance:
        return instance_of(row, self._settings)


def _in_order(due: list[DeliveryRow]) -> list[tuple[tuple[int, str], list[DeliveryRow]]]:
    """Group by case and destination; rows with the fewest failed attempts come first.

    Slides go before results: a viewer shows an overlay only on slides that it has.
    """
    groups: dict[tuple[int, str], list[DeliveryRow]] = {}
    for row in sorted(due, key=lambda row: (row.attempts, row.kind != SLIDES, row.id or 0)):
        groups.setdefault((row.case_id, row.destination), []).append(row)
    return sorted(groups.items(), key=lambda group: (group[1][-1].attempts, group[0]))


def _case_state(deliveries: set[DeliveryState]) -> tuple[CaseState, str]:
    """Return the state of a case and its reason, by the states of its deliveries."""
    if deliveries & {DeliveryState.QUEUED, DeliveryState.SENT}:
        return CaseState.WRITTEN, ""
    if DeliveryState.REFUSED in deliveries:
        return CaseState.UNDELIVERED, "refused"
    if DeliveryState.UNPROVEN in deliveries:
        return CaseState.UNPROVEN, "unproven"
    return CaseState.DELIVERED, ""
