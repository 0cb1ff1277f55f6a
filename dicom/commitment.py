"""Storage commitment (PS3.4 Annex J): the PACS takes responsibility for keeping an object.

The request is an N-ACTION. The PACS answers at any later time by N-EVENT-REPORT, on the same
association or on one that it opens to our port.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Container, Iterable, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom.association import PacsAddress, associate
from dicom.characters import UNREADABLE
from dicom.errors import PacsUnavailableError
from dicom.listening import addresses_of, listen
from dicom.pacs import check_answer
from dicom.status import SUCCESS, InstanceRef, Service, classify

REQUEST = 1
"""Action type: request storage commitment."""
NO_SUCH_OBJECT = 0x0112
"""Failure reason: no such object. Others (busy, class not supported) do not mean absence."""
UNSAID = 0x0110
"""Failure reason if a PACS gives none: processing failure."""
INVALID_ARGUMENT = 0x0115
REPORT_WAIT_S = 5.0
"""Longest wait for a report; a later report serves the next request."""
MOST_TRANSACTIONS = 200
"""Transactions of an instance that may still be reported, some two days of questions."""
MOST_QUESTIONS = 5000
"""Last transactions whose reports are answered with success, whatever they still change here."""


class Commitment:
    """Client of storage commitment; listens on `port` of `host` for the reports of the PACS.

    Not thread-safe. The port opens at the first request and stays open until `close`.
    """

    def __init__(self, address: PacsAddress, port: int, host: str = "") -> None:
        self._address = address
        self._listen_at = (host, port)
        self._server: Any = None
        # A PACS may answer from another address than its host's: strangers are served, apart.
        self._known: set[str] = set()
        self._changed = threading.Condition()
        # SOP Instance UID → its transactions since it was sent, the newest last
        self._asked: dict[str, deque[str]] = {}
        self._reasons: dict[str, int] = {}  # SOP Instance UID → failure reason, 0: committed
        self._questions: deque[str] = deque(maxlen=MOST_QUESTIONS)

    def ask(self, wanted: Sequence[InstanceRef]) -> dict[str, bool | str]:
        """Return the instances that the PACS commits itself to keep (True) or lacks (False).

        An instance that it neither keeps nor lacks has its reason in words. One without an answer
        so far is left out.

        Raises
        ------
        PacsUnavailableError, PacsRejectedError
        """
        self._listen()
        said = self._take(wanted)
        left = [ref for ref in wanted if ref.sop_instance_uid not in said]
        if not left:
            return said
        transaction = str(generate_uid())
        with self._changed:
            self._questions.append(transaction)
            for ref in left:
                asked = self._asked.setdefault(
                    ref.sop_instance_uid, deque(maxlen=MOST_TRANSACTIONS)
                )
                asked.append(transaction)
        question = Dataset()
        question.TransactionUID = transaction
        question.ReferencedSOPSequence = [_item(ref) for ref in left]
        handlers = [(evt.EVT_N_EVENT_REPORT, self._report)]
        timeout_s = self._address.timeout_s
        model = StorageCommitmentPushModel
        with associate(self._address, [(model, None)], handlers) as association:
            status, _ = association.send_n_action(
                question, REQUEST, model, StorageCommitmentPushModelInstance
            )
            check_answer(self._address, status, Service.COMMIT)
            with self._changed:
                # Idle for all of its timeout, the association would end while we release it.
                self._changed.wait_for(
                    lambda: all(ref.sop_instance_uid in self._reasons for ref in left),
                    min(REPORT_WAIT_S, max(timeout_s / 2, timeout_s - 1)),
                )
        return said | self._take(left)

    def forget(self, sop_instance_uid: str) -> None:
        """Forget what was asked about an instance that is proven, or is sent again."""
        with self._changed:
            self._asked.pop(sop_instance_uid, None)
            self._reasons.pop(sop_instance_uid, None)

    def check(self) -> None:
        """Check that the PACS negotiates storage commitment; no request, no open port.

        Raises
        ------
        PacsUnavailableError, PacsRejectedError
        """
        with associate(self._address, [(StorageCommitmentPushModel, None)]):
            pass

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _listen(self) -> None:
        self._known |= addresses_of(self._address.host)
        if self._server is not None:
            return
        ae = AE(ae_title=self._address.calling_aet)
        # The PACS opens the association, yet remains the SCP of the service (PS3.4 J.3.3).
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        tls = self._address.tls
        try:
            self._server = listen(
                ae,
                self._listen_at,
                [(evt.EVT_N_EVENT_REPORT, self._report)],
                tls=None if tls is None else tls.server(),
                timeout_s=self._address.timeout_s,
                is_known=lambda address: address in self._known,
            )
        except OSError as err:
            raise PacsUnavailableError(
                f"commitment_port {self._listen_at[1]} cannot be opened: {err.strerror}. Is "
                "another Tandem running?"
            ) from err

    def _take(self, wanted: Iterable[InstanceRef]) -> dict[str, bool | str]:
        said: dict[str, bool | str] = {}
        with self._changed:
            for ref in wanted:
                reason = self._reasons.pop(ref.sop_instance_uid, None)
                if reason in (SUCCESS, NO_SUCH_OBJECT):
                    said[ref.sop_instance_uid] = reason == SUCCESS
                elif reason is not None:
                    outcome = classify(reason, service=Service.REPORT)
                    said[ref.sop_instance_uid] = f"{self._address.called_aet} {outcome.text}"
        return said

    def _report(self, event: Any) -> tuple[int, None]:
        told = event.event_information
        transaction = str(told.get("TransactionUID", ""))
        with self._changed:
            # A PACS may be slower than the next question: what it keeps counts by any transaction,
            # what it lacks by the newest one, as it may have come since.
            ours = {uid: asked[-1] for uid, asked in self._asked.items() if transaction in asked}
            if not ours and transaction not in self._questions:
                return INVALID_ARGUMENT, None
            if event.assoc.is_acceptor:  # nobody else knows the transaction
                self._known.add(event.assoc.requestor.address)
            newest = {uid for uid, last in ours.items() if last == transaction}
            for item in told.get("ReferencedSOPSequence") or []:
                self._note(ours, item, SUCCESS)
            for item in told.get("FailedSOPSequence") or []:
                self._note(newest, item, _reason(item))
            self._changed.notify_all()
        return SUCCESS, None

    def _note(self, ours: Container[str], item: Dataset, reason: int) -> None:
        uid = str(item.get("ReferencedSOPInstanceUID", ""))
        if uid in ours:
            self._asked.pop(uid, None)  # a report may name an instance twice
            self._reasons[uid] = reason


def _reason(item: Dataset) -> int:
    """Return the reason of a failure; one that is none, or success, counts as unsaid."""
    try:
        return int(item.get("FailureReason") or UNSAID)
    except (TypeError, *UNREADABLE):
        return UNSAID


def _item(ref: InstanceRef) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = ref.sop_class_uid
    item.ReferencedSOPInstanceUID = ref.sop_instance_uid
    return item
