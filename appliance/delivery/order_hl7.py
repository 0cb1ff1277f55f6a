"""Orders of HL7 v2 messages: OML^O21 and its kin, and ORM^O01, as files of a folder.

Fields are named as in HL7 v2.5.1, chapters 3 (PID), 4 (ORC, OBR) and 7 (SPM, SAC). The `hl7`
package splits the messages; its own functions for escapes and for files log what they read, so
they are not used.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import hl7

from appliance.delivery.hl7_characters import CharactersError, header_of, text_of
from appliance.delivery.hl7_fields import (
    Segment,
    entity_issuer,
    first_part,
    name_of,
    number_of,
    part,
    piece,
    repetitions,
    whole,
)
from appliance.delivery.order_files import (
    MOST_PROBLEMS,
    WRITING_S,
    OrderProblem,
    OrdersRead,
    marked,
)
from appliance.delivery.order_standing import (
    AskedTest,
    MessagePlace,
    OrderEntry,
    by_accession,
    standing,
)
from appliance.errors import WorklistUnavailableError
from appliance.settings.orders import Orders
from dicom.errors import ObjectError
from dicom.order import (
    Order,
    OrderedSpecimen,
    block_in,
    blocks_of,
    fitting,
    fitting_name,
)
from dicom.request import OrderedRequest
from dicom.study import LO_LENGTH, SH_LENGTH
from dicom.uids import is_uid

ORDERS = ("OML", "ORM", "OMG", "OMI")
"""Types of messages that hold orders (MSH-9); others are left alone."""
CANCELED = ("CA", "CR", "OC", "DC", "DR", "OD")
"""Order controls (ORC-1) of an order that is taken back (HL7 table 0119)."""
MOST_MESSAGE_BYTES = 4 * 2**20
"""Largest file of messages that is read."""
_BROKEN = (hl7.HL7Exception, ValueError, IndexError, KeyError, AssertionError, TypeError)
"""Errors of the parser for texts that are no messages."""
_ENVELOPE = (b"FHS", b"BHS", b"BTS", b"FTS")
_NAME_GROUPS = {"I": 1, "P": 2}


class _MessageError(Exception):
    """A message that cannot be used; the text does not hold its values (PHI)."""


def read_hl7(folder: Path, settings: Orders, longest_s: float | None = None) -> OrdersRead:
    """Read the messages of a folder; files that did not change are not parsed again.

    A later message about an order replaces the earlier one (`order_standing`).

    Raises
    ------
    WorklistUnavailableError
        If it takes longer than `longest_s`. The next call goes on with the files that are left.
    OSError
        If the folder cannot be read.
    """
    now, begun = time.time(), time.monotonic()
    files: list[tuple[str, int, int]] = []
    problems: list[OrderProblem] = []
    for name, facts in _files(folder):
        age_s = now - facts.st_mtime
        if age_s > settings.hl7_days * 86400:
            continue
        if longest_s is not None and time.monotonic() - begun > longest_s:
            raise WorklistUnavailableError(
                "The messages of orders.hl7 are many and were not all read yet. They are read on "
                "by themselves; fewer files, or a lower orders.hl7_days, make it faster."
            )
        files.append((name, facts.st_mtime_ns, facts.st_size))
        _, wrong = _read(folder / name, *files[-1][1:], settings.hl7_accession)
        if not 0 <= age_s < WRITING_S:
            problems += wrong
    return OrdersRead(
        orders=_standing(folder, tuple(files), settings.hl7_accession),
        problems=tuple(problems[:MOST_PROBLEMS]),
    )


@lru_cache(maxsize=4)
def _standing(
    folder: Path, files: tuple[tuple[str, int, int], ...], fields: tuple[str, ...]
) -> Mapping[str, tuple[Order, ...]]:
    """Orders that stand by accession; `files` are names, times of change and sizes."""
    entries: list[tuple[MessagePlace, OrderEntry]] = [
        ((entry.at, modified_ns, name, entry.line), entry)
        for name, modified_ns, size in files
        for entry in _read(folder / name, modified_ns, size, fields)[0]
    ]
    return by_accession(standing(sorted(entries, key=lambda item: item[0])))


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Files of a folder in the order of their names; hidden ones are left out."""
    with os.scandir(folder) as listed:
        items = sorted(listed, key=lambda item: item.name)
    for item in items:
        # The laboratory may take a file away meanwhile.
        with suppress(FileNotFoundError):
            if not item.name.startswith(".") and item.is_file():
                yield item.name, item.stat()


@lru_cache(maxsize=100_000)
def _read(
    path: Path, modified_ns: int, size: int, fields: tuple[str, ...]
) -> tuple[tuple[OrderEntry, ...], tuple[OrderProblem, ...]]:
    if size > MOST_MESSAGE_BYTES:
        text = f"the file is larger than {MOST_MESSAGE_BYTES // 2**20} MiB"
        return (), (OrderProblem(file=path.name, line=1, text=text, whole=True),)
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # the laboratory took it away meanwhile
        return (), ()
    return parse_messages(path.name, data, fields)


def parse_messages(
    name: str, data: bytes, fields: Sequence[str]
) -> tuple[tuple[OrderEntry, ...], tuple[OrderProblem, ...]]:
    """Parse the messages of a file; `fields` may hold the accession, the first filled one does."""
    entries: list[OrderEntry] = []
    problems: list[OrderProblem] = []
    text = marked(data)
    for line, message in _messages(data if text is None else text.encode()):
        try:
            if text is None and not _is_left_alone(message):
                found = _entries(text_of(message), fields)
            else:
                found = _entries(message.decode(errors="replace"), fields)
            entries += [replace(entry, line=line) for entry in found]
        except (_MessageError, CharactersError, ObjectError) as err:
            told = f"the message is not used: {err}"
            problems.append(OrderProblem(file=name, line=line, text=told))
    return tuple(entries), tuple(problems)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Messages of a file with the numbers of their first lines; frames of MLLP are left out."""
    plain = data.replace(b"\x0b", b"").replace(b"\x1c", b"")
    lines = plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    first, segments = 1, list[bytes]()
    for number, line in enumerate(lines, start=1):
        if line.startswith(b"MSH") and segments:
            yield first, b"\r".join(segments)
            segments = []
        if line.strip() and not line.startswith(_ENVELOPE):
            first = first if segments else number
            segments.append(line.rstrip())
    if segments:
        yield first, b"\r".join(segments)


def _is_left_alone(message: bytes) -> bool:
    """Return whether a message is of a type that holds no orders, whatever its characters."""
    kind = "".join(header_of(message)[9:10])[:3]
    return bool(kind) and kind not in ORDERS


def _entries(text: str, fields: Sequence[str]) -> list[OrderEntry]:
    """Orders of a message; none where it is no order.

    Raises
    ------
    _MessageError, ObjectError
        If it cannot be used.
    """
    try:
        message = list(hl7.parse(text))
        header = message[0]
        kind = part(header, 9)
        if kind and kind not in ORDERS:
            return []
        at = re.sub(r"\D", "", part(header, 7).partition("+")[0])[:14].ljust(14, "0")
        people = _split(message[1:], ("PID",))
        found = [entry for person in people for entry in _orders_of(person, fields, at)]
    except _BROKEN as err:
        raise _MessageError("it is no HL7 message that can be read") from err
    if not kind:
        raise _MessageError("it is no HL7 message that can be read: MSH-9 is empty")
    if not found:
        raise _MessageError("it holds no order (ORC or OBR) with a patient (PID)")
    return found


def _split(segments: Sequence[Segment], starts: Sequence[str]) -> list[list[Segment]]:
    """Groups of segments that begin with one of some segments; what comes before is left out."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if name_of(segment) in starts:
            groups.append([])
        if groups:
            groups[-1].append(segment)
    return groups


def _orders_of(person: Sequence[Segment], fields: Sequence[str], at: str) -> Iterator[OrderEntry]:
    names = [name_of(segment) for segment in person]
    if "ORC" not in names and "OBR" not in names:
        return
    begins = "ORC" if "ORC" in names else "OBR"
    # By specimen (O33): SPM comes before the orders of the specimen. By order (O21): after.
    if "SPM" in names and names.index("SPM") < names.index(begins):
        for group in _split(person, ("SPM",)):
            glass = [each for each in group if name_of(each) in ("SPM", "SAC")]
            for order in _split(group, (begins,)):
                yield _entry(person, [*order, *glass], fields, at)
    else:
        for order in _split(person, (begins,)):
            yield _entry(person, order, fields, at)


def _entry(
    person: Sequence[Segment], order: Sequence[Segment], fields: Sequence[str], at: str
) -> OrderEntry:
    accession, issuer = _accession(order, fields)
    if not accession:
        raise _MessageError("none of the fields of orders.hl7_accession is filled")
    named = [segment for segment in order if name_of(segment) in ("ORC", "OBR")]
    placer, filler = (
        next((n for each in named if (n := number_of(each, field))[0]), ("", ""))
        for field in (2, 3)
    )
    tests = [AskedTest.of(each) for each in named if name_of(each) == "OBR"]
    control = first_part(order, "ORC", 1)
    made = None if control in CANCELED else _order(person, order, accession, issuer)
    return OrderEntry(
        at=at,
        accession=accession,
        placer=placer[0].casefold(),
        issuer=placer[1].casefold(),
        filler=filler[0].casefold(),
        asked=frozenset(test for test in tests if test.names),
        patient=next((number.casefold() for number, _ in _numbers(person[0])), ""),
        is_new=control in ("", "NW"),
        order=made,
    )


def _accession(order: Sequence[Segment], fields: Sequence[str]) -> tuple[str, str]:
    """Accession and its issuer from the first field that is filled."""
    for field in fields:
        name, _, number = field.partition("-")
        for segment in order:
            if name_of(segment) == name and (found := part(segment, int(number))):
                where = repetitions(segment, int(number))[0]
                # CX has the issuer in another place than EI.
                issuer = whole(where, 4) if name == "SPM" else entity_issuer(where)
                return found, fitting(issuer, 3 * LO_LENGTH)
    return "", ""


def _requests(order: Sequence[Segment], blocks: tuple[str, ...]) -> Iterator[OrderedRequest]:
    """Request of each OBR with a number, else that of the ORC; an OBR without one has the ORC's."""
    control = [segment for segment in order if name_of(segment) == "ORC"]
    asked_by = [segment for segment in order if name_of(segment) == "OBR"]
    procedure = first_part(order, "IPC", 2)
    for segment in asked_by or control:
        placer, filler = (
            next((n for each in (segment, *control) if (n := number_of(each, field))[0]), ("", ""))
            for field in (2, 3)
        )
        texts = tuple(dict.fromkeys(text for text in _asked([segment]) if text))
        request = OrderedRequest(
            placer=placer[0],
            placer_issuer=placer[1],
            filler=filler[0],
            filler_issuer=filler[1],
            procedure_id=fitting(first_part([segment], "OBR", 19) or procedure, SH_LENGTH),
            procedure=fitting(next(iter(texts), ""), LO_LENGTH),
            blocks=blocks,
            asked=texts,
        )
        if request.names_order:
            yield request


def _order(
    person: Sequence[Segment], order: Sequence[Segment], accession: str, issuer: str
) -> Order:
    pid = person[0]
    numbers = _numbers(pid)
    if not numbers:
        raise _MessageError("PID-3 names no patient")
    uids = [
        part(segment, 1 if name_of(segment) == "ZDS" else 3)
        for segment in (*order, *person)
        if name_of(segment) in ("ZDS", "IPC")
    ]
    sex = part(pid, 8).upper()
    specimens = tuple(dict.fromkeys(_specimens(order, accession)))
    return Order(
        source="hl7",
        uid=next((uid for uid in uids if is_uid(uid)), ""),
        study_id=fitting(first_part(order, "OBR", 19), SH_LENGTH),
        referring_physician=fitting_name(_physician(person, order)),
        patient_id=numbers[0][0],
        issuer=numbers[0][1],
        patient_name=_patient_name(pid),
        patient_birth_date=_day(part(pid, 7)),
        patient_sex=sex if sex in ("F", "M", "O") else "",
        other_ids=tuple(f"{number}^^^{who}" if who else number for number, who in numbers[1:]),
        accession_issuer=issuer,
        specimens=specimens,
        asked=tuple(dict.fromkeys(text for text in _asked(order) if text)),
        requests=tuple(dict.fromkeys(_requests(order, blocks_of(specimens)))),
    )


def _numbers(pid: Segment) -> list[tuple[str, str]]:
    """Patient IDs with their issuers (PID-3); that of the hospital first."""
    found = [
        (piece(each, 5), piece(each, 1), whole(each, 4))
        for each in repetitions(pid, 3)
        if piece(each, 1)
    ]
    ranked = sorted(found, key=lambda each: each[0] not in ("PI", "MR", "PT"))
    return list(dict.fromkeys((number, issuer) for _, number, issuer in ranked))


def _patient_name(pid: Segment) -> str:
    """Name (PID-5, XPN) as DICOM writes it, with its ideographic and phonetic groups."""
    groups = ["", "", ""]
    for name in repetitions(pid, 5):
        group = _NAME_GROUPS.get(piece(name, 8), 0)
        if not groups[group] and piece(name, 7) in ("", "L", "D"):
            groups[group] = _components(name, (1, 2, 3, 5, 4))
    return "=".join(groups).rstrip("=")


def _components(name: Any, order: Sequence[int]) -> str:
    """Components of a name; HL7 has the suffix before the prefix, DICOM after it."""
    parts = (re.sub(r"[\^=\\]", " ", piece(name, number)) for number in order)
    return "^".join(part.strip() for part in parts).rstrip("^")


def _physician(person: Sequence[Segment], order: Sequence[Segment]) -> str:
    """Referring doctor (PV1-8), else who ordered (ORC-12, OBR-16): XCN, after an ID."""
    for segments, name, field in ((person, "PV1", 8), (order, "ORC", 12), (order, "OBR", 16)):
        for segment in segments:
            if name_of(segment) == name:
                for each in repetitions(segment, field):
                    if found := _components(each, (2, 3, 4, 6, 5)):
                        return found
    return ""


def _specimens(order: Sequence[Segment], accession: str) -> Iterator[OrderedSpecimen]:
    """Specimens (SPM-2) with the container (SAC-3) that follows."""
    for group in _split(order, ("SPM",)):
        numbers = [part(group[0], 2, 1), part(group[0], 2, 2)]
        specimen = fitting(next((each for each in numbers if each), ""), LO_LENGTH)
        containers = [part(each, 3) for each in group if name_of(each) == "SAC"]
        for container in [fitting(each, LO_LENGTH) for each in containers] or [""]:
            yield OrderedSpecimen(
                container_id=container,
                specimen_id=specimen,
                block=block_in(specimen, accession) or block_in(container, accession),
            )


def _asked(order: Sequence[Segment]) -> Iterator[str]:
    """Texts of what was ordered: OBR-4 and OBR-44, the text or else the code."""
    for segment in order:
        if name_of(segment) == "OBR":
            for where in (*repetitions(segment, 4), *repetitions(segment, 44)):
                # Whole components: laboratories write "H&E" without the escape that it needs.
                yield whole(where, 2) or whole(where, 1)
                yield whole(where, 5)


def _day(text: str) -> date | None:
    with suppress(ValueError):
        return datetime.strptime(text[:8], "%Y%m%d").date()
    return None
