"""Orders of one HL7 v2 message: OML^O21 and its kin, and ORM^O01.

Fields are named as in HL7 v2.5.1, chapters 3 (PID), 4 (ORC, OBR) and 7 (SPM, SAC). The `hl7`
package splits the messages; its own functions for escapes and for files log what they read, so
they are not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import hl7

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
from appliance.delivery.order_entry import AskedTest, OrderEntry
from appliance.delivery.order_files import REPLACEMENT, day_of_birth
from dicom.order import (
    Order,
    OrderedSpecimen,
    block_in,
    blocks_of,
    fitting,
    fitting_name,
)
from dicom.patients import ACCOUNT_TYPES, NamedPatient
from dicom.request import OrderedRequest
from dicom.study import LO_LENGTH, SH_LENGTH
from dicom.uids import is_uid

ORDERS = ("OML", "ORM", "OMG", "OMI")
"""Types of messages that hold orders (MSH-9); others are left alone."""
ENDED = ("CA", "CR", "OC", "DC", "DR", "OD", "RP", "RU", "RQ", "UA", "DE")
"""Order controls (ORC-1, HL7 table 0119) of an order that stands no longer.

It is taken back, replaced by others, or was not accepted.
"""
CHANGES = ("XO", "XX", "RO")
"""Order controls of messages that state an order anew; others tell its status."""
PRIOR = "PR"
"""Order control of results from before, which OML^O21 repeats beside an order: it asks nothing."""
_BROKEN = (hl7.HL7Exception, ValueError, IndexError, KeyError, AssertionError, TypeError)
"""Errors of the parser for texts that are no messages."""
_NAME_GROUPS = {"I": 1, "P": 2}
_ZONED = re.compile(r"(\d{8,14})(?:\.\d*)?([+-]\d{4})")
"""Time of a message that states its zone."""


class MessageError(Exception):
    """A message that cannot be used; the text does not hold its values (PHI)."""


def entries_of(text: str, fields: Sequence[str]) -> list[OrderEntry]:
    """Orders of a message; none where it is no order.

    Raises
    ------
    MessageError, ObjectError
        If it cannot be used.
    """
    try:
        message = list(hl7.parse(text))
        header = message[0]
        kind = part(header, 9)
        if kind and kind not in ORDERS:
            return []
        at = _moment(part(header, 7))
        people = _split(message[1:], ("PID",))
        found = [entry for person in people for entry in _orders_of(person, fields, at)]
    except _BROKEN as err:
        raise MessageError("it is no HL7 message that can be read") from err
    if not kind:
        raise MessageError("it is no HL7 message that can be read: MSH-9 is empty")
    if not found:
        raise MessageError("it holds no order (ORC or OBR) with a patient (PID)")
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
        groups = [
            [*order, *(each for each in group if name_of(each) in ("SPM", "SAC"))]
            for group in _split(person, ("SPM",))
            for order in _split(group, (begins,))
        ]
    else:
        groups = _split(person, (begins,))
    # What follows the first order is that order's or another's.
    head = person[: names.index(begins)]
    for order in groups:
        if first_part(order, "ORC", 1) != PRIOR:
            yield _entry(head, order, fields, at)


def _entry(
    head: Sequence[Segment], order: Sequence[Segment], fields: Sequence[str], at: str
) -> OrderEntry:
    rank, accession, issuer = _accession(order, fields)
    if not accession:
        raise MessageError("none of the fields of orders.hl7_accession is filled")
    named = [segment for segment in order if name_of(segment) in ("ORC", "OBR")]
    placer, filler = (
        next((n for each in named if (n := number_of(each, field))[0]), ("", ""))
        for field in (2, 3)
    )
    tests = [AskedTest.of(each) for each in named if name_of(each) == "OBR"]
    control = first_part(order, "ORC", 1)
    lists_ids, is_new = control in CHANGES and bool(tests), control in ("", "NW")
    made = None if control in ENDED else _order(head, order, accession, issuer)
    if made is not None:
        made = replace(made, states_some_ids=not (lists_ids or is_new))
    return OrderEntry(
        at=at,
        accession=accession,
        rank=rank,
        placer=placer[0].casefold(),
        issuer=placer[1].casefold(),
        filler=filler[0].casefold(),
        asked=frozenset(test for test in tests if test.names),
        patient=_patient(head[0]),
        is_new=is_new,
        lists_ids=lists_ids,
        order=made,
    )


def _accession(order: Sequence[Segment], fields: Sequence[str]) -> tuple[int, str, str]:
    """Place of the first field that is filled, the accession in it, and its issuer."""
    for rank, field in enumerate(fields):
        name, _, number = field.partition("-")
        for segment in order:
            if name_of(segment) == name and (found := part(segment, int(number))):
                where = repetitions(segment, int(number))[0]
                # CX has the issuer in another place than EI.
                issuer = whole(where, 4) if name == "SPM" else entity_issuer(where)
                return _rank(fields, rank), found, fitting(issuer, 3 * LO_LENGTH)
    return len(fields), "", ""


def _rank(fields: Sequence[str], rank: int) -> int:
    """Place of a field; ORC-2 and OBR-2 are one number, and ORC-3 and OBR-3 are."""
    segment, _, number = fields[rank].partition("-")
    if segment not in ("ORC", "OBR") or number not in ("2", "3"):
        return rank
    return min(fields.index(each) for each in (f"ORC-{number}", f"OBR-{number}") if each in fields)


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


def _order(head: Sequence[Segment], order: Sequence[Segment], accession: str, issuer: str) -> Order:
    pid = head[0]
    numbers = _numbers(pid)
    if not numbers:
        raise MessageError("PID-3 names no patient")
    name = _patient_name(pid)
    if REPLACEMENT in name + numbers[0][0]:
        raise MessageError("the patient has letters that cannot be read")
    uids = [
        part(segment, 1 if name_of(segment) == "ZDS" else 3)
        for segment in (*order, *head)
        if name_of(segment) in ("ZDS", "IPC")
    ]
    sex = part(pid, 8).upper()
    specimens = tuple(dict.fromkeys(_specimens(order, accession)))
    return Order(
        source="hl7",
        uid=next((uid for uid in uids if is_uid(uid)), ""),
        study_id=fitting(first_part(order, "OBR", 19), SH_LENGTH),
        referring_physician=fitting_name(_physician(head, order)),
        patient_id=numbers[0][0],
        issuer=numbers[0][1],
        patient_name=name,
        patient_birth_date=day_of_birth(part(pid, 7)[:8], "%Y%m%d", date.today()),
        patient_sex=sex if sex in ("F", "M", "O") else "",
        other_ids=_other_ids(numbers[1:]),
        typed_ids=tuple(f"{text}^^^{who}^{kind}" for kind, text, who in _typed(pid) if kind),
        accession_issuer=issuer,
        specimens=specimens,
        asked=tuple(dict.fromkeys(text for text in _asked(order) if text)),
        requests=tuple(dict.fromkeys(_requests(order, blocks_of(specimens)))),
    )


def _patient(pid: Segment) -> NamedPatient:
    """Patient by the IDs alone."""
    (number, issuer), *others = _numbers(pid) or [("", "")]
    return NamedPatient(patient_id=number, issuer=issuer, other_ids=_other_ids(others))


def _other_ids(numbers: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{number}^^^{who}" if who else number for number, who in numbers)


def _numbers(pid: Segment) -> list[tuple[str, str]]:
    """Patient IDs with their issuers (PID-3); that of the hospital first, those of visits last."""
    ranked = sorted(
        _typed(pid), key=lambda each: (each[0] in ACCOUNT_TYPES, each[0] not in ("PI", "MR", "PT"))
    )
    return list(dict.fromkeys((number, issuer) for _, number, issuer in ranked))


def _typed(pid: Segment) -> list[tuple[str, str, str]]:
    """Type, number and issuer of each ID."""
    return [
        (piece(each, 5).upper(), piece(each, 1), whole(each, 4))
        for each in repetitions(pid, 3)
        if piece(each, 1)
    ]


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


def _physician(head: Sequence[Segment], order: Sequence[Segment]) -> str:
    """Referring doctor (PV1-8), else who ordered (ORC-12, OBR-16): XCN, after an ID."""
    for segments, name, field in ((head, "PV1", 8), (order, "ORC", 12), (order, "OBR", 16)):
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


def _moment(text: str) -> str:
    """Time of a message (MSH-7) in UTC; one that states no zone is of the machine's."""
    found = _ZONED.fullmatch(text)
    stamp, zone = (found[1], found[2]) if found else (text.partition("+")[0], "")
    digits = re.sub(r"\D", "", stamp)[:14].ljust(14, "0")
    with suppress(ValueError, OverflowError, OSError):
        at = datetime.strptime(digits + zone, "%Y%m%d%H%M%S" + ("%z" if zone else ""))
        return f"{at.astimezone(UTC):%Y%m%d%H%M%S}"
    return digits
