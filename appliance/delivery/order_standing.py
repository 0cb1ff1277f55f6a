"""Orders of HL7 v2 messages that stand: later messages replace them or take them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

from appliance.delivery.hl7_fields import Segment, repetitions, whole
from appliance.delivery.order_change import changed
from dicom.order import Order, blocks_of, one_patient
from dicom.request import OrderedRequest

MessagePlace: TypeAlias = tuple[str, float, str, int]
"""Place of a message among all: its time, that of its file, the file's name, and the line."""
_Group: TypeAlias = tuple[tuple[str, str], str, str]


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
    """Order of a message; `order` is None where it stands no longer.

    `at` is the time of the message (MSH-7, UTC), `line` its place in the file. `rank` is the place
    of the accession's field in ``orders.hl7_accession``. `placer` and `filler` are the numbers of
    the order, `issuer` is that of the placer's; `asked` are the tests, one for each OBR, and
    `patient` is the ID, all case-folded and empty where the message does not say. `is_new`: the
    order control is NW.
    """

    at: str
    accession: str
    rank: int
    placer: str
    issuer: str
    filler: str
    asked: frozenset[AskedTest]
    patient: str
    is_new: bool
    order: Order | None
    line: int = 0

    @property
    def place(self) -> tuple[str, str, str]:
        """Number by which orders are sorted; one of the filler belongs to its accession."""
        accession = "" if self.placer else self.accession.casefold()
        return self.placer, "" if self.placer else self.filler, accession

    @property
    def numbers(self) -> list[tuple[str, str]]:
        """Numbers under which an order is known: the placer's and the filler's."""
        found = [("placer", self.placer), ("filler", self.filler)]
        return [each for each in found if each[1]] or [("", "")]

    @property
    def requests(self) -> tuple[OrderedRequest, ...]:
        """Requests of the order; of one that is taken back, its number and what is asked of it."""
        if self.order is not None:
            return self.order.requests
        asked = tuple(sorted(name for test in self.asked for name in test.names))
        request = OrderedRequest(
            placer=self.placer, placer_issuer=self.issuer, filler=self.filler, asked=asked
        )
        return (request,)

    def is_about(self, other: OrderEntry) -> bool:
        """Return whether this entry is about the order of an earlier one in its own accession.

        Systems write one number for all orders of a case: they are of one order where they ask for
        the same, or where one does not say. A change that names another patient is about all.
        """
        if not self._has_number_of(other):
            return False
        return self._corrects_patient(other) or self._asks_the_same(other)

    def is_about_elsewhere(self, other: OrderEntry) -> bool:
        """Return whether this entry may be about the order of one in another accession.

        Some number the orders of each message from 1, or write one number for two cases: it may be
        if it is no new order, and the number has an issuer or the patient is the same. The filler's
        number alone tells it where the message states no accession of its own.
        """
        if self.is_new or not self._has_number_of(other) or not self._asks_the_same(other):
            return False
        if self.placer and other.placer and self.issuer and other.issuer:
            return True
        known = bool(self.placer and other.placer) or (bool(self.filler) and self.is_weaker(other))
        return known and self.patient == other.patient

    def is_weaker(self, other: OrderEntry) -> bool:
        """Return whether the other has its accession from a field that comes before."""
        return self.rank > other.rank

    def _has_number_of(self, other: OrderEntry) -> bool:
        if self.placer and other.placer:
            return self.placer == other.placer and _issuers_agree(self.issuer, other.issuer)
        if self.placer or other.placer:
            # A new order with the filler's number alone may be another one of the case.
            return not self.is_new and self.filler == other.filler != "" and self._may_share(other)
        return self.filler == other.filler

    def _may_share(self, other: OrderEntry) -> bool:
        """Return whether the blocks of two orders, as far as they name any, have one in common."""
        blocks = [{*blocks_of(each.order.specimens)} for each in (self, other) if each.order]
        return len(blocks) < 2 or not all(blocks) or bool(blocks[0] & blocks[1])

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

    def alone(self) -> OrderEntry:
        """Return a change of an order that is not known; without a test it tells no request.

        No request is for all stains because a status message leaves the test out.
        """
        if self.is_new or self.order is None or self.order.asked:
            return self
        return replace(self, order=replace(self.order, requests=()))

    def completed_by(self, other: OrderEntry) -> OrderEntry:
        """Return a change with what it does not state and the order that it changes does.

        An accession from a weaker field moves nothing: status messages leave the field out.
        """
        if self.is_new or self.order is None or other.order is None:
            return self
        here = self.accession.casefold() == other.accession.casefold()
        stays = here or self.is_weaker(other)
        # The issuer stands beside the field that is not used.
        mine = self.order if here or not stays else replace(self.order, accession_issuer="")
        accession = other.accession if stays else self.accession
        same = self._asks_the_same(other)
        return replace(
            self,
            accession=accession,
            rank=min(self.rank, other.rank) if stays else self.rank,
            placer=self.placer or other.placer,
            issuer=max(self.issuer, other.issuer, key=len),
            filler=self.filler or other.filler,
            asked=self.asked or other.asked,
            order=changed(mine, other.order, accession if stays else "", same),
        )


def standing(entries: Iterable[tuple[MessagePlace, OrderEntry]]) -> list[OrderEntry]:
    """Return the orders that stand, of entries from the first message to the last.

    Orders of one message stand side by side, but one that is taken back is gone.
    """
    first: dict[tuple[str, str, str], int] = {}
    found = _Found()
    for message, entry in entries:
        first.setdefault(entry.place, len(first))
        about = found.about(entry)
        replaced = [
            known for known in about if entry.order is None or found.entries[known][0] != message
        ]
        # A change that asks for nothing is about what its own message asks for, too.
        changed_ones = replaced if entry.asked else about
        made = [entry.completed_by(found.entries[known][1]) for known in changed_ones]
        for known in replaced:
            del found.entries[known]
        several = dict.fromkeys(made) if len(made) > 1 else made or [entry.alone()]
        for each in several if entry.order is not None else ():
            first.setdefault(each.place, first[entry.place])
            found.add(message, each)
    return sorted((each for _, each in found.entries.values()), key=lambda each: first[each.place])


class _Found:
    """Orders that stand so far, by the groups in which an entry looks for its own.

    Thousands of orders may have one number: an entry looks only at those that it may be about.
    """

    def __init__(self) -> None:
        self.entries: dict[int, tuple[MessagePlace, OrderEntry]] = {}
        self._groups: dict[_Group, list[int]] = defaultdict(list)
        self._count = 0

    def add(self, message: MessagePlace, entry: OrderEntry) -> None:
        """Let an order stand."""
        self.entries[self._count] = message, entry
        for group in (*_in_accession(entry), *_elsewhere(entry)):
            self._groups[group].append(self._count)
        self._count += 1

    def about(self, entry: OrderEntry) -> list[int]:
        """Return the orders that an entry is about: one of its own accession before all others."""
        here = self._known(_in_accession(entry))
        mine = [known for known in here if entry.is_about(self.entries[known][1])]
        if mine or entry.is_new:
            return self._sure(entry, mine)
        others = [
            known
            for known in self._known(_elsewhere(entry))
            if entry.is_about_elsewhere(self.entries[known][1])
        ]
        of_patient = [k for k in others if self.entries[k][1].patient == entry.patient]
        others = of_patient or others
        found = [self.entries[known][1] for known in others]
        cases = {each.accession.casefold() for each in found}
        # The number is that of several cases: an issued one that stands alone is about all.
        told = all(entry.is_weaker(each) and entry.issuer for each in found)
        return others if told or len(cases) == 1 else []

    def _sure(self, entry: OrderEntry, found: list[int]) -> list[int]:
        """Return orders but for those by the filler's number alone, where it is that of several.

        Laboratories write the number of the case there. What names no test and ends none is about
        all of them.
        """
        by_filler = [
            known for known in found if bool(entry.placer) != bool(self.entries[known][1].placer)
        ]
        placers = {self.entries[known][1].placer for known in by_filler}
        decides = entry.order is None or bool(entry.asked)
        several = (decides and len(placers) > 1) or 0 < len(entry.asked) < len(by_filler)
        return [known for known in found if known not in by_filler] if several else found

    def _known(self, groups: Iterable[_Group]) -> list[int]:
        for group in groups:
            self._groups[group] = [k for k in self._groups.get(group, ()) if k in self.entries]
        return list(dict.fromkeys(known for group in groups for known in self._groups[group]))


def by_accession(entries: Iterable[OrderEntry]) -> Mapping[str, tuple[Order, ...]]:
    """Return the orders of entries by accession, case-folded."""
    orders: dict[str, list[Order]] = defaultdict(list)
    for entry in entries:
        if entry.order is not None:
            orders[entry.accession.casefold()].append(entry.order)
    return {accession: tuple(dict.fromkeys(each)) for accession, each in orders.items()}


def taken_back(
    entries: Iterable[OrderEntry], stand: Sequence[OrderEntry]
) -> Mapping[str, tuple[OrderedRequest, ...]]:
    """Return the requests of orders that do not `stand` any more, by accession, case-folded.

    They were canceled, or have another accession now. The first message of an order that is taken
    back may be gone: then the numbers are those of the last one.
    """
    standing_now: dict[str, list[OrderedRequest]] = defaultdict(list)
    for entry in stand:
        standing_now[entry.accession.casefold()] += entry.requests
    left = set(map(id, stand))
    gone: dict[str, list[OrderedRequest]] = defaultdict(list)
    for entry in entries:
        if id(entry) not in left:
            accession = entry.accession.casefold()
            gone[accession] += (
                each
                for each in entry.requests
                if not any(each.is_about(other) for other in standing_now.get(accession, ()))
            )
    return {accession: tuple(dict.fromkeys(each)) for accession, each in gone.items() if each}


def _in_accession(entry: OrderEntry) -> list[_Group]:
    """Groups of the orders of an entry's number and accession."""
    return [(number, "accession", entry.accession.casefold()) for number in entry.numbers]


def _elsewhere(entry: OrderEntry) -> list[_Group]:
    """Groups of the orders of an entry's number that are of its patient, or of its issuer."""
    return [
        *((number, "patient", entry.patient) for number in entry.numbers),
        *((("placer", entry.placer), "issuer", each) for each in _parts(entry.issuer) if each),
    ]


def _parts(issuer: str) -> list[str]:
    """Name and ID of an issuer."""
    return issuer.split("&")[:2]


def _issuers_agree(one: str, other: str) -> bool:
    """Return whether issuers may be one: a name or an ID is common, or one does not say."""
    if not one or not other:
        return True
    pairs = zip_longest(_parts(one), _parts(other), fillvalue="")
    known = [(mine, its) for mine, its in pairs if mine and its]
    return bool(known) and all(mine == its for mine, its in known)
