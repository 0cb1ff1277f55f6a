"""Orders of HL7 v2 messages that stand: later messages replace them or take them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from appliance.delivery.hl7_fields import Segment, repetitions, whole
from dicom.order import Order, one_patient

MessagePlace: TypeAlias = tuple[str, float, str, int]
"""Place of a message among all: its time, that of its file, the file's name, and the line."""
_Group: TypeAlias = tuple[tuple[str, str, str], str, str]


class AskedTest(NamedTuple):
    """Test of OBR-4, case-folded: its code and text, the code's system, and all codes and texts."""

    code: str
    text: str
    system: str
    names: frozenset[str]

    @classmethod
    def of(cls, request: Segment) -> AskedTest:
        """Return the test of an OBR; its names are none where OBR-4 is empty."""
        where = repetitions(request, 4)[:1]
        parts = [whole(each, number).casefold() for each in where for number in range(1, 6)]
        code, text, system, *others = parts or [""] * 5
        return cls(code, text, system, frozenset({code, text, *others} - {""}))

    def is_same(self, other: AskedTest) -> bool:
        """Return whether two tests may be one: they have a code or a text in common.

        Two codes of one system decide. An alternate code or text of both does not: a billing code
        is that of many stains.
        """
        if self.code and other.code and self.system == other.system:
            return self.code == other.code
        mine, its = ({each.code, each.text} - {""} for each in (self, other))
        if not mine or not its:
            return bool(self.names & other.names)
        return bool(mine & other.names or its & self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEntry:
    """Order of a message; `order` is None where the message takes it back.

    `at` is the time of the message (MSH-7), `line` its place in the file. `placer` and `filler` are
    the numbers of the order, `issuer` is that of the placer's; `asked` are the tests, one for each
    OBR, and `patient` is the ID, all case-folded and empty where the message does not say.
    `is_new`: the order control is NW.
    """

    at: str
    accession: str
    placer: str
    issuer: str
    filler: str
    asked: frozenset[AskedTest]
    patient: str
    is_new: bool
    order: Order | None
    line: int = 0

    @property
    def number(self) -> tuple[str, str, str]:
        """Number under which an order is known; one of the filler belongs to its accession."""
        accession = "" if self.placer else self.accession.casefold()
        return self.placer, "" if self.placer else self.filler, accession

    def is_about(self, other: OrderEntry) -> bool:
        """Return whether this entry is about the order of an earlier one of the same number.

        Systems write one number for all orders of a case: they are of one order where they ask for
        the same, or where one does not say. A change that names another patient is about all. Some
        number the orders of each message from 1, or write one number for two cases: in another
        accession it is the order if it is no new order, and the number has an issuer or the
        patient is the same.
        """
        if self.issuer and other.issuer and self.issuer != other.issuer:
            return False
        if self.accession.casefold() == other.accession.casefold():
            return self._corrects_patient(other) or self._asks_the_same(other)
        if not self._asks_the_same(other):
            return False
        issued = bool(self.issuer and other.issuer)
        return not self.is_new and (issued or self.patient == other.patient)

    def _corrects_patient(self, other: OrderEntry) -> bool:
        if not self.placer or self.is_new or self.order is None or other.order is None:
            return False
        # A system may list the IDs of one patient in another order, or some of them alone.
        return self.patient != other.patient and not one_patient((self.order, other.order))

    def _asks_the_same(self, other: OrderEntry) -> bool:
        """Return whether it is about the tests of another: of all, or to take it back, of one."""
        shared = [any(test.is_same(mine) for mine in self.asked) for test in other.asked]
        if not self.asked or not shared:
            return True
        return any(shared) if self.order is None else all(shared)


def standing(entries: Iterable[tuple[MessagePlace, OrderEntry]]) -> list[OrderEntry]:
    """Return the orders that stand, of entries from the first message to the last.

    Orders of one message stand side by side, but one that is taken back is gone.
    """
    first: dict[tuple[str, str, str], int] = {}
    found: dict[int, tuple[MessagePlace, OrderEntry]] = {}
    # Thousands of orders may have one number: an entry looks only at those that it may be about.
    groups: dict[_Group, list[int]] = defaultdict(list)
    for place, (message, entry) in enumerate(entries):
        first.setdefault(entry.number, place)
        for group in _looked_at(entry):
            groups[group] = [known for known in groups.get(group, ()) if known in found]
            for known in groups[group]:
                its, other = found[known]
                if (entry.order is None or its != message) and entry.is_about(other):
                    del found[known]
        if entry.order is not None:
            found[place] = message, entry
            for group in _groups(entry):
                groups[group].append(place)
    return sorted((entry for _, entry in found.values()), key=lambda entry: first[entry.number])


def by_accession(entries: Iterable[OrderEntry]) -> Mapping[str, tuple[Order, ...]]:
    """Return the orders of entries by accession, case-folded."""
    orders: dict[str, list[Order]] = defaultdict(list)
    for entry in entries:
        if entry.order is not None:
            orders[entry.accession.casefold()].append(entry.order)
    return {accession: tuple(dict.fromkeys(each)) for accession, each in orders.items()}


def _groups(entry: OrderEntry) -> Iterator[_Group]:
    """Groups of an order among those of its number: its accession, its issuer, its patient."""
    yield entry.number, "accession", entry.accession.casefold()
    if entry.issuer:
        yield entry.number, "issuer", entry.issuer
    yield entry.number, "patient", entry.patient


def _looked_at(entry: OrderEntry) -> list[_Group]:
    """Return the groups of the orders that an entry may be about (`OrderEntry.is_about`)."""
    return [group for group in _groups(entry) if group[1] == "accession" or not entry.is_new]
