"""Laboratory's system over MLLP: each result as a message of HL7 v2.5.1, proven by its ACK.

HL7 v2 has no question for what is there. A message whose ACK was lost is sent again byte for byte
with the same message control id (MSH-10), by which the other side knows it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from hl7 import mllp

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    Proof,
    destination,
)
from appliance.delivery.destinations.network import LostInARow, send_results, tls_files, translated
from appliance.delivery.result_hl7 import (
    Hl7Message,
    asks_what_became_of_it,
    header_field,
    message_of,
    read_template,
)
from appliance.settings.destinations import Hl7Destination
from appliance.settings.objects import ObjectKind
from appliance.settings.settings import Settings
from dicom.errors import ConnectionLostError, PacsUnavailableError
from dicom.result import Result
from dicom.status import SEE_ITS_LOG, Outcome, Verdict, sentence_of

RECEIVED = "CA"
"""Acknowledgment code of a message that was taken and not yet looked at (HL7 table 0008)."""
ACCEPTED, REFUSED, NOT_NOW = ("AA", RECEIVED), ("AE", "CE"), ("AR", "CR")
"""Acknowledgment codes (HL7 table 0008). AR is for reasons that lie outside of the message."""
_RECEIVED_ALONE = "it did not say here what became of the message"
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
_ONE_OF_TWO = (
    "it has a result of this number (OBR-3): this one, if its answer was lost, or the former one"
)
_LOOK_THERE = (
    "Look there which one it has. The former one: let it take corrections, or remove that result "
    "there; then: tandem retry. This one: leave it, or remove it there; then: tandem retry."
)
END_OF_BLOCK = b"\x1c"
"""End of a block of MLLP. The carriage return after it is passed over: some systems send none."""
MOST_ANSWER_BYTES = 2**20
"""Longest acknowledgment that is read."""
MOST_WORDS = 300
"""Longest text of an acknowledgment that is kept, in characters."""


@dataclass(frozen=True, slots=True)
class _Ack:
    """Acknowledgment: MSA-1, the code of its first error, and its texts (MSA-3, ERR-8, ERR-7)."""

    code: str
    error: str
    text: str


class _AnswerError(Exception):
    """An answer that is no acknowledgment of the message; the text does not quote it (PHI)."""


@destination(Hl7Destination)
class Hl7:
    """Laboratory's system over MLLP; one connection a message."""

    takes: ClassVar[frozenset[ObjectKind]] = frozenset({"SR"})

    def __init__(self, section: Hl7Destination) -> None:
        self.name = section.name
        self._section = section
        self._template = read_template(section)
        self._where = f"{section.host}:{section.port}"
        self._lost = LostInARow()
        self._acknowledged: dict[str, str] = {}  # SOP Instance UID → ACK

    @classmethod
    def open(cls, section: Hl7Destination, settings: Settings) -> Hl7:
        """Make the destination of a section; of `settings` nothing is used."""
        return cls(section)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Send a message for each report and wait for its ACK."""
        send_results(self.name, instances, before, after, self._send, self._lost)

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
        message = "^".join(header_field(self._template, 9).split("^")[:2])
        text = f"{self.check()}; whether it takes {message} shows with the first result"
        return [KindCheck(f"result as {message}", True, text)]

    def close(self) -> None:
        """Do nothing: no connection stays open between messages."""

    def _send(self, result: Result) -> Outcome:
        message = message_of(result, self._section, self._template)
        ack = asyncio.run(self._exchange(message))
        outcome = classify_ack(ack, replaces=result.replaces)
        if outcome.verdict in (Verdict.STORED, Verdict.WARNED):
            said = f"ACK {ack.code} of {message.control_id}"
            self._acknowledged[result.sop_instance_uid] = said
        return outcome

    async def _connect(self) -> None:
        async with self._connected():
            pass

    async def _exchange(self, message: Hl7Message) -> _Ack:
        """Send a message and return its ACK; answers to other messages are passed over.

        Where the message asks what becomes of it, word that it was received is the ACK only if none
        comes after it: some systems say the rest elsewhere, or never.

        Raises
        ------
        PacsUnavailableError
            If there is no connection; `ConnectionLostError` if it ends before the ACK.
        """
        others, asks = 0, asks_what_became_of_it(self._template)
        received: _Ack | None = None
        async with self._connected() as (reader, writer):
            try:
                # A limit for all of it: an answer that comes byte by byte has an end.
                async with asyncio.timeout(self._section.timeout_seconds):
                    writer.writeblock(message.text.encode())
                    await writer.drain()
                    while True:
                        block = await reader.readuntil(END_OF_BLOCK)
                        if (ack := _read(block, message.control_id)) is None:
                            others += 1
                        elif asks and ack.code == RECEIVED:
                            received = ack
                        else:
                            return ack
            except (OSError, EOFError, asyncio.LimitOverrunError, _AnswerError) as err:
                if received is not None:
                    text = "; ".join(filter(None, (received.text, _RECEIVED_ALONE)))
                    return replace(received, text=text)
                why = f"{_why(err)}, and acknowledged another message" if others else _why(err)
                raise ConnectionLostError(f"{self._where} gave no acknowledgment: {why}") from err

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Any, Any]]:
        section = self._section
        secure: dict[str, Any] = {}
        if section.tls:
            secure = {"ssl": tls_files(section).client(), "server_hostname": section.host}
        try:
            async with asyncio.timeout(section.timeout_seconds):
                reader, writer = await mllp.open_hl7_connection(
                    section.host, section.port, limit=MOST_ANSWER_BYTES, **secure
                )
        except (OSError, ValueError) as err:  # ValueError: no host can have the name
            why = f"{type(err).__name__}; is it up, is the port open?"
            if isinstance(err, ssl.SSLError):
                why = _why(err)
            raise PacsUnavailableError(f"{self._where} cannot be reached: {why}") from err
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


def _why(err: Exception) -> str:
    """Return why no acknowledgment came."""
    match err:
        case TimeoutError():
            return "none came in time"
        case ssl.SSLError():
            return "TLS failed. Check ca_file, certificate, key and the host's name"
        case asyncio.LimitOverrunError():
            return f"its answer is longer than {MOST_ANSWER_BYTES // 2**20} MiB"
        case _AnswerError():
            return str(err)
        case _:
            return f"it ended the connection ({type(err).__name__})"


def classify_ack(ack: _Ack, *, replaces: bool = False) -> Outcome:
    """Return the outcome of an acknowledgment (MSA-1); the code of its error (ERR-3) precedes.

    `replaces` says that another result of the same number may be there. A duplicate key does not
    tell which of them the system has: the same message may have come before, its answer been lost.
    """
    said = ", ".join(part for part in (ack.code, ack.error, ack.text) if part)
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
    if replaces and verdict is Verdict.WARNED:
        verdict, sentence, remedy = Verdict.NEVER, _ONE_OF_TWO, _LOOK_THERE
    return Outcome(verdict=verdict, text=sentence_of(verdict, sentence, said, remedy))


def _read(block: bytes, wanted: str) -> _Ack | None:
    """Read an ACK; None where it is of another message.

    Raises
    ------
    _AnswerError
        If it is no ACK.
    """
    text = block.decode("utf-8", "replace").replace("\n", "\r")
    lines = [line.strip("\x0b\x1c ") for line in text.split("\r")]
    fields = {line[:3]: line.split(line[3:4] or "|") for line in reversed(lines) if line[:3]}
    if "MSH" not in fields or "MSA" not in fields:
        raise _AnswerError("its answer is no message with MSA")
    msa, err = ([*fields.get(name, ()), *[""] * 9] for name in ("MSA", "ERR"))
    # A system that could not read the message may name none: the connection had only this one.
    unnamed = not msa[2].strip() and msa[1] in (*REFUSED, *NOT_NOW)
    if msa[2].strip() != wanted and not unnamed:
        return None
    # The code of an error is in ERR-3; before HL7 v2.5 in ERR-1 (fourth component) or in MSA-6.
    old = [*err[1].split("^"), *[""] * 4][3].split("&")[0]
    codes = (err[3].split("^")[0], old, msa[6].split("^")[0])
    said = dict.fromkeys(text.strip() for text in (msa[3], err[8], err[7]) if text.strip())
    return _Ack(
        code=msa[1],
        error=next(filter(None, codes), "")[:MOST_WORDS],
        text="; ".join(said)[:MOST_WORDS],
    )
