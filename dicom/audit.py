"""Audit messages of PS3.15 A.5 (IHE ATNA), and their transport by syslog over TLS (RFC 5425).

The receiver acknowledges nothing: what is written to the connection counts as told. A message that
was on its way when a connection broke is sent again, so that one may come twice.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Literal
from xml.etree import ElementTree

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom.errors import PacsUnavailableError
from dicom.tls import TlsFiles

DCM = codes.DCM
PRIORITY = 85
"""Facility 10 (security), severity 5 (notice): RFC 5424 6.2.1; PS3.15 A.6.1 leaves them open."""
MESSAGE_ID = "DICOM+RFC3881"
"""MSGID of an audit message (PS3.15 A.6.1)."""
_BOM = "\ufeff"


class Outcome(IntEnum):
    """Outcome of what is told (EventOutcomeIndicator)."""

    SUCCESS = 0
    MINOR_FAILURE = 4


class ObjectKind(IntEnum):
    """Kind of a participant object: its type (PS3.15 A.5.2)."""

    PATIENT = 1
    STUDY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditObject:
    """Patient by ID, or study by Study Instance UID."""

    kind: ObjectKind
    identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditMessage:
    """An event to be told; `at` in seconds since the epoch.

    `event` is of CID 400, `kind` of CID 401. `user` is a person or a program, `address` where it
    came from (empty: unknown). `receiver` is the other side of a transfer, empty without one.
    """

    at: float
    event: Code
    action: Literal["C", "R", "U", "D", "E"]
    user: str
    kind: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    address: str = ""
    receiver: str = ""
    objects: Sequence[AuditObject] = ()

    def xml(self, source: str) -> str:
        """Return the message; `source` names the installation (AuditSourceID)."""
        message = ElementTree.Element("AuditMessage")
        event = ElementTree.SubElement(
            message,
            "EventIdentification",
            EventActionCode=self.action,
            EventDateTime=datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            EventOutcomeIndicator=str(int(self.outcome)),
        )
        _coded(event, "EventID", self.event)
        if self.kind is not None:
            _coded(event, "EventTypeCode", self.kind)
        role = DCM.SourceRoleID if self.receiver else None
        _participant(message, self.user, self.address, role, asked=True)
        if self.receiver:
            _participant(message, self.receiver, "", DCM.DestinationRoleID, asked=False)
        ElementTree.SubElement(message, "AuditSourceIdentification", AuditSourceID=source)
        for each in self.objects:
            _object(message, each)
        return ElementTree.tostring(message, encoding="unicode")


def _participant(
    message: ElementTree.Element, user: str, address: str, role: Code | None, *, asked: bool
) -> None:
    facts = {"UserID": user, "UserIsRequestor": "true" if asked else "false"}
    if address:
        # 2: an IP address
        facts |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"}
    participant = ElementTree.SubElement(message, "ActiveParticipant", facts)
    if role is not None:
        _coded(participant, "RoleIDCode", role)


def _object(message: ElementTree.Element, each: AuditObject) -> None:
    # Role 1: patient, 3: report. The type of a patient's number is of RFC 3881 5.5.4.
    is_patient = each.kind is ObjectKind.PATIENT
    element = ElementTree.SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=each.identifier,
        ParticipantObjectTypeCode=str(int(each.kind)),
        ParticipantObjectTypeCodeRole="1" if is_patient else "3",
    )
    number = Code("2", "RFC-3881", "Patient Number")
    _coded(element, "ParticipantObjectIDTypeCode", number if is_patient else DCM.StudyInstanceUID)


def _coded(parent: ElementTree.Element, name: str, code: Code) -> None:
    facts = {
        "csd-code": code.value,
        "codeSystemName": code.scheme_designator,
        "originalText": code.meaning,
    }
    ElementTree.SubElement(parent, name, facts)


class AuditServer:
    """Audit record repository that is spoken to by TLS; one connection, made when it is needed."""

    def __init__(self, host: str, port: int, tls: TlsFiles, timeout_s: float) -> None:
        self._host, self._port, self._tls, self._timeout_s = host, port, tls, timeout_s
        self._socket: ssl.SSLSocket | None = None

    def send(self, message: AuditMessage, source: str) -> None:
        """Send a message.

        Raises
        ------
        PacsUnavailableError
            If the server cannot be reached, TLS fails, or the connection broke.
        """
        self._say(syslog_frame(message, source))

    def connect(self) -> None:
        """Connect where there is no connection; no message is sent.

        Raises
        ------
        PacsUnavailableError
            See `send`.
        """
        self._say(b"")

    def _say(self, data: bytes) -> None:
        try:
            if self._socket is not None and _is_closed(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._connected()
            self._socket.sendall(data)
        except (OSError, ValueError) as err:  # SSLError is an OSError
            self.close()
            where = f"{self._host}:{self._port}"
            raise PacsUnavailableError(
                f"audit server {where}: {type(err).__name__}. Is it up, does it speak syslog over "
                "TLS, and is its certificate for this host?"
            ) from err

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> ssl.SSLSocket:
        raw = socket.create_connection((self._host, self._port), self._timeout_s)
        try:
            return self._tls.client().wrap_socket(raw, server_hostname=self._host)
        except BaseException:
            raw.close()
            raise


def syslog_frame(message: AuditMessage, source: str) -> bytes:
    """Return a message as syslog (RFC 5424) with its length before it (RFC 5425 4.3)."""
    time = datetime.fromtimestamp(message.at, UTC).isoformat(timespec="milliseconds")
    host = "".join(c for c in socket.gethostname() if "!" <= c <= "~") or "-"
    head = f"<{PRIORITY}>1 {time} {host} tandem {os.getpid()} {MESSAGE_ID} - "
    data = (head + _BOM + message.xml(source)).encode()
    return b"%d %b" % (len(data), data)


def _is_closed(connection: ssl.SSLSocket) -> bool:
    """Return whether the other side has ended the connection; it never speaks otherwise."""
    before = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (ssl.SSLWantReadError, BlockingIOError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(before)
