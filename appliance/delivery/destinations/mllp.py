"""Laboratory's system over MLLP: each result as HL7 v2.5.1 ORU^R01, proven by its ACK.

HL7 v2 has no question for what is there. A message whose ACK was lost is sent again with the same
message control id (MSH-10), by which the other side knows it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from hl7 import HL7Exception, mllp

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    Proof,
    destination,
)
from appliance.delivery.destinations.network import send_results, tls_files, translated
from appliance.delivery.result_hl7 import control_id, oru, read_template
from appliance.settings.destinations import Hl7Destination
from appliance.settings.objects import ObjectKind
from appliance.settings.settings import Settings
from dicom.errors import ConnectionLostError, PacsUnavailableError
from dicom.result import Result
from dicom.status import SEE_ITS_LOG, Outcome, Verdict, sentence_of

ACCEPTED, REFUSED, NOT_NOW = ("AA", "CA"), ("AE", "CE"), ("AR", "CR")
"""Acknowledgment codes (HL7 table 0008). AR is for reasons that lie outside of the message."""
_OF_ERRORS = {
    "100": (Verdict.NEVER, "a segment is missing or out of order"),
    "101": (Verdict.NEVER, "a field that it needs is missing"),
    "102": (Verdict.NEVER, "the type of a value is wrong"),
    "103": (Verdict.NEVER, "it does not know a code"),
    "200": (Verdict.NEVER, "it does not take this type of message"),
    "201": (Verdict.NEVER, "it does not take this event"),
    "202": (Verdict.NEVER, "it does not take this processing id"),
    "203": (Verdict.NEVER, "it does not take this version of HL7"),
    "204": (Verdict.NEVER, "it does not know the patient, the order or another key"),
    "205": (Verdict.WARNED, "it has this result already"),
    "206": (Verdict.LATER, "a record is locked there"),
    "207": (Verdict.LATER, "it failed while processing it"),
}
"""Meaning of an error's code (ERR-3, HL7 table 0357)."""


@dataclass(frozen=True, slots=True)
class _Ack:
    """Acknowledgment: MSA-1, MSA-3, and ERR-3 and ERR-8 of its first error."""

    code: str
    text: str
    error: str
    error_text: str


@destination(Hl7Destination)
class Hl7:
    """Laboratory's system over MLLP; one connection a message."""

    takes: ClassVar[frozenset[ObjectKind]] = frozenset({"SR"})

    def __init__(self, section: Hl7Destination) -> None:
        self.name = section.name
        self._section = section
        self._template = read_template(section)
        self._where = f"{section.host}:{section.port}"
        self._acknowledged: dict[str, str] = {}  # SOP Instance UID → ACK

    @classmethod
    def open(cls, section: Hl7Destination, settings: Settings) -> Hl7:
        """Make the destination of a section; of `settings` nothing is used."""
        return cls(section)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Send a message for each report and wait for its ACK."""
        send_results(self.name, instances, before, after, self._send)

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Return the ACKs of this run; a report without one is absent, and is sent again."""
        uids = [instance.ref.sop_instance_uid for instance in instances]
        if any(uid not in self._acknowledged for uid in uids):
            self.check()
        return {
            uid: Answer(Proof.THERE, f"by {self._acknowledged[uid]}")
            if uid in self._acknowledged
            else Answer(Proof.ABSENT, "no acknowledgment")
            for uid in uids
        }

    def check(self) -> str:
        """Connect; MLLP has no echo."""
        with translated(self.name):
            asyncio.run(self._connect())
        return f"{self._where} accepts connections{', TLS' if self._section.tls else ''}"

    def kinds(self) -> list[KindCheck]:
        """Connect: MLLP negotiates nothing."""
        text = f"{self.check()}; whether it takes ORU^R01 shows with the first result"
        return [KindCheck("result as ORU^R01", True, text)]

    def close(self) -> None:
        """Do nothing: no connection stays open between messages."""

    def _send(self, result: Result) -> Outcome:
        uid = result.sop_instance_uid
        ack = asyncio.run(self._exchange(oru(result, self._section, self._template), uid))
        outcome = classify_ack(ack)
        if outcome.verdict in (Verdict.STORED, Verdict.WARNED):
            self._acknowledged[uid] = f"ACK {ack.code} of {control_id(uid)}"
        return outcome

    async def _connect(self) -> None:
        async with self._connected():
            pass

    async def _exchange(self, message: str, uid: str) -> _Ack:
        """Send a message and return its ACK; answers to other messages are passed over.

        Raises
        ------
        PacsUnavailableError
            If there is no connection; `ConnectionLostError` if it ends before the ACK.
        """
        async with self._connected() as (reader, writer):
            try:
                # A limit for all of it: an answer that comes byte by byte has an end.
                async with asyncio.timeout(self._section.timeout_seconds):
                    writer.writeblock(message.encode())
                    await writer.drain()
                    while (ack := _read(await reader.readblock(), control_id(uid))) is None:
                        pass
                    return ack
            except (OSError, EOFError, ValueError, mllp.InvalidBlockError, HL7Exception) as err:
                raise ConnectionLostError(
                    f"{self._where} gave no acknowledgment in time ({type(err).__name__})"
                ) from err

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Any, Any]]:
        section = self._section
        secure: dict[str, Any] = {}
        if section.tls:
            secure = {"ssl": tls_files(section).client(), "server_hostname": section.host}
        try:
            async with asyncio.timeout(section.timeout_seconds):
                reader, writer = await mllp.open_hl7_connection(
                    section.host, section.port, encoding="utf-8", **secure
                )
        except (OSError, TimeoutError) as err:
            why = "TLS failed" if isinstance(err, ssl.SSLError) else type(err).__name__
            raise PacsUnavailableError(
                f"{self._where} cannot be reached: {why}; is it up, is the port open?"
            ) from err
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


def classify_ack(ack: _Ack) -> Outcome:
    """Return the outcome of an acknowledgment (MSA-1); the code of its error (ERR-3) precedes."""
    said = ", ".join(part for part in (ack.code, ack.error, ack.text or ack.error_text) if part)
    if ack.code in ACCEPTED:
        return Outcome(verdict=Verdict.STORED, text=said)
    verdict, sentence = Verdict.NEVER, "its answer is no acknowledgment of HL7"
    if ack.code in REFUSED:
        verdict, sentence = Verdict.NEVER, "it finds an error in the message"
    elif ack.code in NOT_NOW:
        verdict, sentence = Verdict.LATER, "it rejects the message for reasons outside of it"
    verdict, sentence = _OF_ERRORS.get(ack.error, (verdict, sentence))
    remedy = SEE_ITS_LOG if verdict is Verdict.NEVER else "It is tried again."
    if verdict is Verdict.WARNED:
        remedy = ""
    return Outcome(verdict=verdict, text=sentence_of(verdict, sentence, said, remedy))


def _read(block: bytes, wanted: str) -> _Ack | None:
    """Read an ACK; None where it is of another message.

    Raises
    ------
    ValueError
        If it is no ACK.
    """
    lines = block.decode("utf-8", "replace").replace("\n", "\r").split("\r")
    fields = {line[:3]: line.split(line[3:4] or "|") for line in reversed(lines) if line[:3]}
    if "MSH" not in fields or "MSA" not in fields:
        raise ValueError("no ACK")
    msa, err = ([*fields.get(name, ()), *[""] * 9] for name in ("MSA", "ERR"))
    if msa[2] != wanted:
        return None
    return _Ack(code=msa[1], text=msa[3], error=err[3].split("^")[0], error_text=err[8])
