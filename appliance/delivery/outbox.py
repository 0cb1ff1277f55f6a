"""The outbox: send what is queued, prove what was sent, try again, and give up with a reason.

An object whose file is not what was written is not sent: its case is written again first. Images of
slides that the scanner wrote as DICOM are sent as they are, or asked for, by the settings.
`attempts` is counted in the ledger *before* an object goes on the wire. An object with attempts is
looked for at its destination first, so a lost answer does not send it twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from appliance.delivery.destinations.contract import Answer, Destination, Instance, Proof
from appliance.delivery.ends import ABSENT, CaseEnds
from appliance.delivery.intact import is_intact, is_void, write_again
from appliance.delivery.left_out import NO_DESTINATION, is_left_out
from appliance.delivery.outbox_rows import Rows, Trouble
from appliance.delivery.queueing import in_order
from appliance.delivery.replaced_since import REPLACED_SINCE, ReplacedSince
from appliance.delivery.scanned import ScannedFiles, is_scanned
from appliance.delivery.waiting import (
    LONGEST_UNPROVEN_S,
    LOOK_SECONDS,
    MOST_ASKED,
)
from appliance.delivery.weighed import elsewhere, weighed
from appliance.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    SlideError,
    SourceChangedError,
    StoppedError,
)
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import LEFT_OUT, NOTES, SLIDE_CHANGED, SLIDE_TRUSTED, WITHDRAWN
from appliance.ledger.tables import DeliveryRow, fact, params_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.destinations import DicomSlides, FolderDestination
from appliance.settings.settings import Settings
from dicom.status import Outcome, Verdict

log = logging.getLogger(__name__)

AWAY = "away"
"""Code of the trouble of a destination that cannot be reached; it counts no attempt."""
NOT_THERE = "not-there"
"""Code of the trouble of an object that its destination took, and has not."""
RESULT_REFUSED = "result-refused"
"""Code of the trouble of a note that rejects a result, where the new result was refused."""
_OPEN = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.UNPROVEN)
_GONE_OUT = (DeliveryState.SENT, DeliveryState.PROVEN)


class _ChangedError(Exception):
    """An object that was to be sent was withdrawn meanwhile, or a person did something with it."""


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
        step: Callable[[int], None] = lambda _size_bytes: None,
    ) -> None:
        """Deliver to `destinations`, by name, until `stop` is set; `step` is called often.

        `step` is told the bytes that are sent or read before the next call.

        Several outboxes may share a ledger if their destinations differ. One of them takes the
        `strays`: deliveries to destinations that the settings do not have any more, and cases whose
        deliveries ended just before a crash.
        """
        self._stop, self._step, self._strays = stop or threading.Event(), step, strays
        self._ledger = ledger
        self._settings = settings
        self._destinations = destinations
        self._slides_there = {each.name: each.slides_there for each in settings.destinations}
        self._read_back = {
            each.name for each in settings.destinations if isinstance(each, FolderDestination)
        }
        self._clock = clock
        self._replaced = ReplacedSince(ledger, settings)
        self._rows = Rows(ledger, settings.delivery, clock)
        self._ends = CaseEnds(ledger, settings, clock)
        self._looked: float | None = None  # when unproven cases were looked at last

    def run(self) -> None:
        """Send and prove everything that is due, then end the cases whose deliveries have ended.

        Raises
        ------
        StoppedError
            If `stop` was set between two objects of a case.
        """
        now, last = self._clock(), self._looked
        is_time = last is None or not 0.0 <= now - last < LOOK_SECONDS
        with self._ledger.transaction() as tx:
            if last is None:  # another way of proof may have been set
                tx.ask_again(self._destinations)
            due = self._due(tx, now)
        away: dict[str, Trouble] = {}
        for (case_id, name), found in in_order(due):
            if self._stop.is_set():
                return
            self._step(0)
            rows = self._of_now(found)
            if name in away:
                self._hold(rows, away[name])
            elif trouble := self._deliver(rows, name):
                away[name] = trouble
            with self._ledger.transaction() as tx:
                sharing = tx.cases_of_deliveries(rows)
            for each in {case_id, *sharing}:
                self._ends.close(each)
        if is_time:
            self._looked = now
        if not self._strays:
            return
        with self._ledger.transaction() as tx:
            through = tx.cases_whose_deliveries_ended(unproven=is_time)
        for case_id in through:
            self._ends.close(case_id)

    def _of_now(self, rows: Sequence[DeliveryRow]) -> list[DeliveryRow]:
        """Read rows again that may have waited for hours, and leave out what was withdrawn."""
        with self._ledger.transaction() as tx:
            there = [tx.session.get(DeliveryRow, row.id) for row in rows]
        return [row for row in there if row is not None and row.state in _OPEN]

    def _due(self, tx: Transaction, now: float) -> list[DeliveryRow]:
        """Return what is due at the destinations of this outbox, and what is astray if it takes it.

        Twice the longest wait: a wait is spread by a quarter.
        """
        longest_s = 2 * self._settings.delivery.last_retry_seconds
        mine, known = list(self._destinations), list(self._slides_there) if self._strays else None
        waited_s = max(longest_s, 2 * LONGEST_UNPROVEN_S)
        return [
            *tx.due_deliveries(now, longest_s, mine, known),
            *tx.due_unproven(now, waited_s, mine, known, limit=MOST_ASKED),
        ]

    def _deliver(self, rows: list[DeliveryRow], name: str) -> Trouble | None:
        """Send and prove a case's rows; return the trouble of a destination that is away."""
        destination = self._destinations.get(name)
        if destination is None:
            for row in rows:
                unknown = Trouble(code=NO_DESTINATION, params={"destination": name})
                self._rows.trouble(row, DeliveryState.REFUSED, unknown)
            return None
        try:
            files = ScannedFiles(self._ledger, self._settings, sent=self._way(name) == "send")
            only_asked_for = self._not_to_be_sent(rows)
            queued = [row for row in rows if row.state == DeliveryState.QUEUED]
            to_send = [row for row in queued if row not in only_asked_for]
            self._send(to_send, destination, files)
            open_there = (DeliveryState.SENT, DeliveryState.UNPROVEN)
            asked = [row for row in rows if row.state in open_there or row in only_asked_for]
            answers = self._asked(asked, destination, files)
            for row in asked:
                self._settle(row, answers[row.sop_instance_uid])
        except (DestinationUnavailableError, DestinationRejectedError) as err:
            # Rejected: its settings or ours are wrong. No object is to blame, and all of them go
            # when a person has put it right.
            log.warning("delivery to '%s' postponed: %s", name, type(err).__name__)
            log.debug("details", exc_info=err)  # the other side's words may name a patient
            code = AWAY if isinstance(err, DestinationUnavailableError) else "not-allowed"
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
                self._rows.postpone(row, trouble, now - row.changed_at)

    def _way(self, name: str) -> DicomSlides:
        """Return what is done about the scanner's images at a destination."""
        return self._slides_there.get(name, "trust")

    def _not_to_be_sent(self, rows: Sequence[DeliveryRow]) -> list[DeliveryRow]:
        """Return the queued images of the scanner that a destination is only asked for.

        Those that it is not asked for either, as the settings changed, are taken out; so are other
        objects that it does not get any more.
        """
        for row in rows:
            if row.state == DeliveryState.QUEUED and is_left_out(row, self._settings):
                left_out = Trouble(code=LEFT_OUT, params={"destination": row.destination})
                self._rows.trouble(row, DeliveryState.REFUSED, left_out)
        scanned = [row for row in rows if is_scanned(row) and row.state == DeliveryState.QUEUED]
        match self._way(rows[0].destination) if scanned else "send":
            case "verify":
                return scanned
            case "trust":
                for row in scanned:
                    trusted = Trouble(code=SLIDE_TRUSTED, params={})
                    self._rows.trouble(row, DeliveryState.REFUSED, trusted)
        return []

    def _send(
        self, rows: Sequence[DeliveryRow], destination: Destination, files: ScannedFiles
    ) -> None:
        tried = [row for row in rows if row.attempts > 0]
        answers = self._asked(tried, destination, files)
        by_uid = {}
        for row in rows:
            answer = answers.get(row.sop_instance_uid)
            if answer is not None and answer.proof is Proof.THERE:
                self._settle(row, answer)
            elif (
                answer is not None
                and answer.proof is Proof.ABSENT
                and row.reason == NOT_THERE
                and self._is_withdrawn(row)
            ):
                continue  # another result took its place since it was found absent
            elif row.attempts >= self._settings.delivery.most_attempts and row.reason != AWAY:
                self._give_up(row)
            elif answer is not None and answer.proof is Proof.FAILED:  # perhaps it is there
                row.attempts += 1
                failed = Trouble(code="cannot-say", params={"answer": answer.text})
                self._rows.postpone(row, failed, self._rows.after_failure(row))
            elif self._replaced.holds(row):
                replaced = Trouble(code=REPLACED_SINCE, params={"destination": row.destination})
                self._rows.trouble(row, DeliveryState.REFUSED, replaced)
            elif row.kind == NOTES and self._is_alone(row):
                alone = Trouble(code=RESULT_REFUSED, params={"destination": row.destination})
                self._rows.trouble(row, DeliveryState.REFUSED, alone)
            elif self._is_found(row, files) if is_scanned(row) else self._is_intact(row):
                by_uid[row.sop_instance_uid] = row
        if by_uid:
            self._put_on_the_wire(by_uid, destination, files)

    def _asked(
        self, rows: Sequence[DeliveryRow], destination: Destination, files: ScannedFiles
    ) -> Mapping[str, Answer]:
        instances = [files.instance(row) for row in rows]
        # A folder's files are read back. The largest sets the time: one that hangs is told.
        read = instances if rows and rows[0].destination in self._read_back else []
        self._step(max((instance.size_bytes for instance in read), default=0))
        answers = destination.prove(instances) if instances else {}
        by_uid = {row.sop_instance_uid: row for row in rows}
        return {
            uid: elsewhere(by_uid[uid], answer, verified=self._is_verified(by_uid[uid]))
            for uid, answer in answers.items()
        }

    def _is_verified(self, row: DeliveryRow) -> bool:
        """Return whether an image of the scanner is only asked for."""
        return is_scanned(row) and self._way(row.destination) == "verify"

    def _put_on_the_wire(
        self, by_uid: Mapping[str, DeliveryRow], destination: Destination, files: ScannedFiles
    ) -> None:
        on_the_wire: list[DeliveryRow] = []

        def before(instance: Instance) -> None:
            self._step(instance.size_bytes)
            if self._stop.is_set():
                raise StoppedError("the daemon was stopped")
            row = by_uid[instance.ref.sop_instance_uid]
            try:
                files.begin(row)
            except (SlideError, SourceChangedError) as err:  # told at the next turn
                raise _ChangedError from err
            row.attempts += 1
            if not self._rows.save(row):
                raise _ChangedError
            on_the_wire.append(row)

        def after(instance: Instance, outcome: Outcome) -> None:
            on_the_wire.clear()
            row = by_uid[instance.ref.sop_instance_uid]
            if not files.end() and outcome.verdict in (Verdict.STORED, Verdict.WARNED):
                mixed = Trouble(code="slide-mixed", params={"destination": row.destination})
                self._rows.trouble(row, DeliveryState.REFUSED, mixed)
            else:
                self._note(row, outcome)

        try:
            destination.send([files.instance(row) for row in by_uid.values()], before, after)
        except DestinationUnavailableError:
            # The destination reported itself unavailable: no attempt is counted. One is left, so
            # that the object is looked for first: perhaps it is there, and an answer was lost.
            for row in on_the_wire:
                row.attempts = max(1, row.attempts - 1)
            raise
        finally:
            files.abandon()

    def _give_up(self, row: DeliveryRow) -> None:
        last = fact("delivery", row.reason, params_of(row))
        params = {"attempts": row.attempts, "last": last}
        self._rows.trouble(row, DeliveryState.REFUSED, Trouble(code="given-up", params=params))

    def _is_found(self, row: DeliveryRow, files: ScannedFiles) -> bool:
        """Return whether the file of a scanner's image may be sent."""
        code = files.find(row)
        if code == SLIDE_CHANGED:
            self._rows.trouble(row, DeliveryState.REFUSED, Trouble(code=code, params={}))
        elif code:
            row.attempts += 1
            self._rows.postpone(row, Trouble(code=code, params={}), self._rows.after_failure(row))
        return not code

    def _is_intact(self, row: DeliveryRow) -> bool:
        """Return whether an object may be sent; one that is damaged is written again first."""
        if is_intact(row, self._settings):
            return True
        log.error("%s: its file is not what was written", row.subject)
        with self._ledger.transaction() as tx:
            again = write_again(tx, row, self._settings, self._clock())
        if again:
            self._rows.postpone(row, Trouble(code="object-damaged", params={}), 0.0)
        else:
            replaced = Trouble(code="object-replaced", params={})
            self._rows.trouble(row, DeliveryState.REFUSED, replaced)
        return False

    def _note(self, row: DeliveryRow, outcome: Outcome) -> None:
        params = {
            "destination": row.destination,
            "status": outcome.status,
            "answer": outcome.text,
        }
        match outcome.verdict:
            case Verdict.STORED | Verdict.WARNED:
                if outcome.verdict is Verdict.WARNED:
                    log.warning("%s: sent, with a warning (0x%04X)", row.subject, outcome.status)
                said = {"answer": outcome.text, "status": outcome.status}
                self._rows.advance(row, DeliveryState.SENT, "answered", said)
            case Verdict.NEVER:
                log.error("%s refused (0x%04X)", row.subject, outcome.status)
                refused = Trouble(code="refused", params=params)
                self._rows.trouble(row, DeliveryState.REFUSED, refused)
            case Verdict.LATER:
                log.warning("%s: attempt %d failed", row.subject, row.attempts)
                not_now = Trouble(code="not-now", params=params)
                self._rows.postpone(row, not_now, self._rows.after_failure(row))

    def _settle(self, row: DeliveryRow, answer: Answer) -> None:
        if answer.proof is not Proof.ABSENT and row.state == DeliveryState.QUEUED:
            there = answer.proof is Proof.THERE
            self._rows.advance(
                row, DeliveryState.SENT, "there-already" if there else "only-asked-for"
            )
        verified = self._is_verified(row)
        if answer.proof is Proof.ABSENT and not verified and self._is_withdrawn(row):
            return
        with self._ledger.transaction() as tx:
            answer = weighed(tx, row, answer)
        match answer.proof:
            case Proof.THERE:
                self._rows.advance(row, DeliveryState.PROVEN, "answered", {"answer": answer.text})
            case Proof.ABSENT if verified:
                self._tell_absent(row, answer)
            case Proof.ABSENT:
                # Perhaps it only indexes late: it is looked for again before it is sent again.
                absent = Trouble(code=NOT_THERE, params={"answer": answer.text})
                self._rows.trouble(row, DeliveryState.QUEUED, absent)
                self._rows.postpone(row, absent, self._rows.after_failure(row))
            case _:
                unknown = Trouble(code="cannot-say", params={"answer": answer.text})
                if row.state == DeliveryState.SENT:
                    self._rows.trouble(row, DeliveryState.UNPROVEN, unknown)
                self._rows.postpone(row, unknown, self._clock() - row.changed_at)

    def _is_withdrawn(self, row: DeliveryRow) -> bool:
        """Withdraw an absent object if no case has its result any more; return whether none has.

        It is one transaction: a case that is written just now has it again before or after.
        """
        with self._ledger.transaction() as tx:
            if not is_void(tx, row, self._settings):
                return False
            tried = {"destination": row.destination, "attempts": row.attempts}
            set_reason(row, WITHDRAWN, tried)
            why = {"trouble": fact("delivery", WITHDRAWN, tried)}
            changed = self._rows.put(tx, row, DeliveryState.REFUSED, "trouble", why)
        if changed:
            row.state = DeliveryState.REFUSED.value
        return True

    def _is_alone(self, row: DeliveryRow) -> bool:
        """Return whether a note would reject a result where the one in its place was refused."""
        with self._ledger.transaction() as tx:
            return tx.refused_beside(row)

    def _tell_absent(self, row: DeliveryRow, answer: Answer) -> None:
        """Let a scanner's image that the destination has not be asked for again, or give up."""
        params = {"destination": row.destination, "answer": answer.text}
        absent = Trouble(code=ABSENT, params=params)
        if row.state != DeliveryState.QUEUED:
            self._rows.trouble(row, DeliveryState.QUEUED, absent)
        row.attempts += 1
        self._rows.postpone(row, absent, self._rows.after_failure(row))
        if row.attempts >= self._settings.delivery.most_attempts:
            self._give_up(row)
