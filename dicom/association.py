"""Association with a PACS: with or without TLS, always released or aborted, sent in PDUs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import P_DATA, MaximumLengthNotification

from dicom.deadline import Deadline, limit_s
from dicom.errors import (
    ClassesRejectedError,
    ConnectionLostError,
    PacsRejectedError,
    PacsUnavailableError,
)
from dicom.kinds import LABEL_MAP
from dicom.pace import Pace
from dicom.tls import TlsFiles

MAX_CONTEXTS = 128
"""Most presentation contexts of one association (PS3.8 9.3.2)."""
REJECTED_FOR_NOW = 0x02
"""Result of A-ASSOCIATE-RJ, rejected-transient (PS3.8 9.3.4): the PACS is too busy."""
OF_ITS_LIMITS = 0x03
"""Source of A-ASSOCIATE-RJ whose reasons are congestion and a local limit, whatever the result."""
MAX_PDU_BYTES = 2**16
"""Largest PDU if the PACS sets no limit; pynetdicom would send an object as one PDU."""
QUEUED_PDUS = 8
"""Most PDUs that wait for the line."""

Kind = tuple[str, str | None]
"""SOP class and transfer syntax; None: those that pynetdicom proposes by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacsAddress:
    """Address of a PACS. AE titles have at most 16 characters; `timeout_s` holds for connecting and
    for each answer, a multiple of it for a whole exchange (`limit_s`). With `tls` the PACS needs a
    certificate for `host`."""

    host: str
    port: int
    called_aet: str
    calling_aet: str = "TANDEM"
    timeout_s: float = 30.0
    tls: TlsFiles | None = None
    mib_s: float | None = None
    """Bandwidth cap in MiB/s."""

    @property
    def title(self) -> str:
        """Name of the PACS in messages."""
        return f"{self.called_aet} at {self.host}:{self.port}"

    def limit_s(self, size_bytes: int = 0) -> float:
        """Longest time of a whole exchange that sends `size_bytes`."""
        return limit_s(self.timeout_s, size_bytes, self.mib_s)


@contextmanager
def associate(
    address: PacsAddress,
    kinds: Sequence[Kind],
    handlers: Sequence[Any] = (),
    *,
    deadline: Deadline | None = None,
) -> Iterator[Any]:
    """Open an association; release it at the end, abort it after an error.

    The whole association is one exchange with one time limit; a caller that has several exchanges
    gives its `deadline` and starts it again for each.

    Raises
    ------
    PacsUnavailableError
        No connection, too busy, or TLS failed.
    PacsRejectedError
        Rejected for good; `ClassesRejectedError` if it accepts none of `kinds`.
    """
    deadline = deadline or Deadline()
    watched = (evt.EVT_CONN_OPEN, lambda event: deadline.watch(lambda: _line(event.assoc)))
    deadline.start(address.limit_s())
    try:
        try:
            association = negotiate(address, kinds, [*handlers, watched])
        except (OSError, ValueError) as err:  # the name has no address, or a title is none
            raise PacsUnavailableError(
                f"{address.title} cannot be reached: {getattr(err, 'strerror', None) or err}; "
                "check host, called_aet and calling_aet"
            ) from err
        if not association.is_established:
            raise _refusal(address, association)
        _leave_answers(association)
        _send_in_pieces(association, address)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()
    finally:
        deadline.stop()


def negotiate(address: PacsAddress, kinds: Sequence[Kind], handlers: Sequence[Any] = ()) -> Any:
    """Request an association and return it; the caller checks whether it is established."""
    ae = AE(ae_title=address.calling_aet)
    ae.connection_timeout = ae.acse_timeout = address.timeout_s
    ae.dimse_timeout = ae.network_timeout = address.timeout_s
    for abstract, syntax in kinds:
        if syntax is None:
            ae.add_requested_context(abstract)
        else:
            ae.add_requested_context(abstract, syntax)
    return ae.associate(
        address.host,
        address.port,
        ae_title=address.called_aet,
        tls_args=None if address.tls is None else (address.tls.client(), address.host),
        evt_handlers=list(handlers),
    )


def _line(association: Any) -> socket.socket | None:
    """Return the connection of an association, None where it has ended."""
    # pynetdicom takes its socket away when it closes it.
    line = association.dul.socket
    return None if line is None else line.socket


def title_of(uid: str) -> str:
    """Return a UID's name in the standard."""
    # pydicom's dictionary lacks this class.
    return "Label Map Segmentation Storage" if uid == LABEL_MAP[0] else str(UID(uid).name)


def _leave_answers(association: Any) -> None:
    """Keep pynetdicom's reactor thread from taking the answer to our request.

    Each request pauses that thread and waits for its confirmation. On a busy machine the thread
    confirms and then looks for messages once more: the answer is lost, and the request times out.
    """
    running, take = association._reactor_checkpoint, association.dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        # A caller that waits for an answer blocks; the reactor thread never blocks.
        return take(block) if block or running.is_set() else (None, None)

    association.dimse.get_msg = get_msg


def _send_in_pieces(association: Any, address: PacsAddress) -> None:
    """Hold PDUs back until the line has room.

    pynetdicom queues an object's PDUs at the disk's speed and then starts the answer's timeout. On
    a slow line a slide would fill the memory and time out while it is being sent.
    """
    line = association.dul.socket.socket
    line.settimeout(address.timeout_s)
    # Command and object are two small writes: with Nagle's algorithm each pair would wait for an
    # ACK.
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for item in association.acceptor.user_information:
        if isinstance(item, MaximumLengthNotification):
            item.maximum_length_received = min(
                item.maximum_length_received or MAX_PDU_BYTES, MAX_PDU_BYTES
            )
    dul, pace = association.dul, Pace(address.mib_s)
    send = dul.send_pdu

    def send_pdu(primitive: Any) -> None:
        if isinstance(primitive, P_DATA):
            pace.spend(sum(len(value) for _, value in primitive.presentation_data_value_list))
            while dul.is_alive() and dul.to_provider_queue.qsize() >= QUEUED_PDUS:
                time.sleep(0.001)
            if not dul.is_alive():
                raise ConnectionLostError(f"{address.title} closed the connection")
        send(primitive)

    dul.send_pdu = send_pdu


def _refusal(address: PacsAddress, association: Any) -> PacsUnavailableError | PacsRejectedError:
    """Return the error for a failed association: no connection, too busy, rejected, or no
    context."""
    answer = association.acceptor.primitive
    if association.is_rejected:
        if answer is not None and (
            answer.result == REJECTED_FOR_NOW or answer.result_source == OF_ITS_LIMITS
        ):
            return PacsUnavailableError(f"{address.title} is too busy for an association")
        return PacsRejectedError(
            f"{address.title} rejected the association: check called_aet, calling_aet and the "
            "PACS's list of known modalities"
        )
    if association.rejected_contexts:
        # The association was accepted, but none of its contexts.
        wanted = sorted({title_of(str(c.abstract_syntax)) for c in association.rejected_contexts})
        return ClassesRejectedError(
            f"{address.title} takes none of: {', '.join(wanted)}. Allow it in the PACS, then: "
            "tandem retry."
        )
    return PacsUnavailableError(
        f"{address.title} cannot be reached: {_trouble(address)}is it up, is the port open?"
    )


def _trouble(address: PacsAddress) -> str:
    """Return the reason that a plain connection gives; pynetdicom does not pass it on."""
    try:
        with socket.create_connection((address.host, address.port), address.timeout_s) as plain:
            if address.tls is not None:
                context = address.tls.client()
                with context.wrap_socket(plain, server_hostname=address.host):
                    pass
    except OSError as err:
        return f"{getattr(err, 'verify_message', '') or err.strerror or type(err).__name__}; "
    return ""
