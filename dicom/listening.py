"""Own port on which a PACS opens associations: strangers get little memory, time and room.

pynetdicom collects a PDU of any announced length, waits for its bytes without an end, and does the
handshake of TLS in the thread that accepts connections.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom.deadline import Deadline, limit_s

log = logging.getLogger(__name__)

NO_TLS = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")
"""Reasons of a handshake with something that speaks no TLS, as a scan of ports does."""
_OURS_REFUSED = "the PACS refuses Tandem's certificate: give it the authority of that one"
_OLD_TLS = "the PACS needs TLS 1.2 or later"
_WITHOUT_ONE = "Tandem needs a certificate there, and the PACS one of an authority in ca_file"
WORDS = (
    ("ALERT_CERTIFICATE_EXPIRED", "Tandem's certificate has expired: renew it"),
    ("ALERT_BAD_CERTIFICATE", _OURS_REFUSED),
    ("ALERT_CERTIFICATE", _OURS_REFUSED),
    ("ALERT_UNSUPPORTED_CERTIFICATE", _OURS_REFUSED),
    ("ALERT_UNKNOWN_CA", _OURS_REFUSED),
    ("UNSUPPORTED_PROTOCOL", _OLD_TLS),
    ("ALERT_PROTOCOL_VERSION", _OLD_TLS),
    ("NO_SHARED_CIPHER", _WITHOUT_ONE),
    ("NOT_RETURN_A_CERTIFICATE", _WITHOUT_ONE),
    ("NO_CERTIFICATE", _WITHOUT_ONE),
)
"""Words in the reason of a failed handshake, and what it says to people; the first counts."""
MOST_TOLD = 100
"""Most failed handshakes that are logged of addresses that are not the PACS's."""

MOST_PDU_BYTES = 2**20
"""Largest PDU that is received; a PACS sends a report in PDUs of 16 KiB."""
MOST_BYTES = 2**23
"""Most bytes of one connection: pynetdicom puts a message together in memory."""
PLACES = 10
"""Most connections at the same time from addresses of the PACS, and as many from all others."""


def listen(
    ae: AE,
    at: tuple[str, int],
    handlers: Sequence[Any],
    *,
    tls: ssl.SSLContext | None,
    timeout_s: float,
    is_known: Callable[[str], bool],
) -> Any:
    """Serve the associations of an application entity in threads; return the server.

    A connection has `timeout_s` until its association is established and a multiple of it for all
    (`limit_s`). Those whose address `is_known` have places of their own.

    Raises
    ------
    OSError
        If the port cannot be opened.
    """
    ae.maximum_associations = 2 * PLACES
    ae.acse_timeout = timeout_s
    server = ae.make_server(
        at,
        evt_handlers=list(handlers),
        ssl_context=tls,
        server_class=_Server,
        request_handler=_Connection,
    )
    server.timeout_s, server.is_known = timeout_s, is_known
    ae._servers.append(server)  # where its `shutdown` looks for it
    threading.Thread(target=server.serve_forever, name="commitment", daemon=True).start()
    return server


class _Server(ThreadedAssociationServer):
    """Server with places for connections."""

    daemon_threads = True
    timeout_s: float
    is_known: Callable[[str], bool]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._places = {known: threading.Semaphore(PLACES) for known in (True, False)}
        self.told: set[tuple[str, str]] = set()  # addresses and reasons of failed handshakes

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; a handshake of TLS has its own thread."""
        line, address = self.socket.accept()
        return line, address

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end, if there is a place for it."""
        places = self._places[self.is_known(client_address[0])]
        if not places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            self.finish_request(request, client_address)
        finally:
            places.release()


class _Connection(RequestHandler):
    """Connection that is shut when its time is over, or when it brings too much."""

    request: Any

    def handle(self) -> None:
        """Serve the association until it ends."""
        self._deadline, self._received = Deadline(), 0
        self._deadline.watch(lambda: self.request)
        self._deadline.start(self.server.timeout_s)
        try:
            if (tls := self.server.ssl_context) is not None:
                self.request = tls.wrap_socket(
                    self.request, server_side=True, do_handshake_on_connect=False
                )
                self.request.do_handshake()
            super().handle()
            self._association.join()
        except OSError as err:
            self._tell(err)
            log.debug("a connection of a PACS failed", exc_info=err)
        finally:
            self._deadline.stop()
            self.server.shutdown_request(self.request)

    def _tell(self, err: OSError) -> None:
        """Log why a handshake of TLS failed, once by address; one that was cut has no reason."""
        if not isinstance(err, ssl.SSLError) or isinstance(err, ssl.SSLEOFError):
            return
        reason = getattr(err, "reason", None)
        if reason is None or reason in NO_TLS:
            return
        told, address = self.server.told, self.client_address[0]
        is_full = len(told) >= MOST_TOLD and not self.server.is_known(address)
        if (address, reason) in told or is_full:
            return
        told.add((address, reason))
        log.warning(
            "TLS of a connection from %s to commitment_port failed (%s)%s. Further ones are logged "
            "at DEBUG.",
            address,
            reason,
            words_of(err),
        )

    def _create_association(self) -> Any:
        association = self._association = super()._create_association()
        association.bind(evt.EVT_ESTABLISHED, self._established)
        line = association.dul.socket
        receive = line.recv

        def limited(nr_bytes: int) -> Any:
            self._received += nr_bytes
            if nr_bytes > MOST_PDU_BYTES or self._received > MOST_BYTES:
                raise ConnectionError("a PDU that is too long")
            return receive(nr_bytes)

        line.recv = limited
        return association

    def _established(self, _event: Any) -> None:
        self._deadline.start(limit_s(self.server.timeout_s))


def words_of(err: ssl.SSLError) -> str:
    """Return what follows the reason of a failed handshake: what is wrong; empty if not known."""
    if isinstance(err, ssl.SSLCertVerificationError):
        return f": the certificate of the PACS is not accepted, {err.verify_message}"
    return next((f": {text}" for word, text in WORDS if word in str(err.reason)), "")


def addresses_of(host: str) -> set[str]:
    """Return the addresses of a host; none where its name cannot be looked up now."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()
