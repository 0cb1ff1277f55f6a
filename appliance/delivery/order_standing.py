"""Orders of HL7 v2 messages that stand: later messages replace them or take them back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from appliance.delivery.order_entry import Merged, OrderEntry
from dicom.order import Order
from dicom.patients import numbers_of
from dicom.request import TakenBack, parts_of_issuer

MessagePlace: TypeAlias = tuple[str, float, str, int]
"""Place of a message among all: its time, that of its file, the file's name, and the line."""
_Group: TypeAlias = tuple[tuple[str, str], str, str]
_Ended: TypeAlias = tuple[str, TakenBack]
"""Order that was taken back, with its accession, case-folded."""


def standing(
    entries: Iterable[tuple[MessagePlace, OrderEntry]], merged: Merged = ()
) -> tuple[list[OrderEntry], list[_Ended]]:
    """Return the orders that stand, of entries from the first message to the last, and what ended.

    Orders of one message stand side by side, but one that is taken back is gone. The first message
    of an order that is taken back may be gone: then the numbers are those of the last one.
    """
    ended: list[_Ended] = []
    first: dict[tuple[str, str, str], int] = {}
    entries = list(entries)
    found = _Found(entries)
    for message, told in entries:
        entry = replace(told, merged=merged) if merged else told
        first.setdefault(entry.place, len(first))
        about = found.corrected(entry, message)
        replaced = [
            known for known in about if entry.order is None or found.entries[known][0] != message
        ]
        # A change that asks for nothing is about what its own message asks for, too.
        changed_ones = replaced if entry.asked else about
        made = [entry.completed_by(found.entries[known][1]) for known in changed_ones]
        moved_to = {each.accession.casefold() for each in made}
        for known in replaced:
            other = found.remove(known)
            back = other.ended_by(entry, moved_to)
            ended += ((other.accession.casefold(), each) for each in back)
        if entry.order is None:
            back = entry.taken_back(sorted(entry.asked))
            ended += ((entry.accession.casefold(), each) for each in back)
        several = dict.fromkeys(made) if len(made) > 1 else made or [entry.alone()]
        for each in several if entry.order is not None else ():
            first.setdefault(each.place, first[entry.place])
            found.add(message, each)
    stand = [each for _, each in found.entries.values()]
    return sorted(stand, key=lambda each: first[each.place]), ended


class _Found:
    """Orders that stand so far, by the groups in which an entry looks for its own.

    Thousands of orders may have one number: an entry looks only at those that it may be about.
    """

    def __init__(self, told: Iterable[tuple[MessagePlace, OrderEntry]]) -> None:
        self.entries: dict[int, tuple[MessagePlace, OrderEntry]] = {}
        self._groups: dict[_Group, dict[int, None]] = defaultdict(dict)
        # How many orders of a placer's number, and of a filler's number of it, a message has.
        self._told = Counter(
            (message, *numbers)
            for message, each in told
            for numbers in ((each.placer,), (each.placer, each.filler))
        )
        self._cases: dict[_Group, Counter[str]] = defaultdict(Counter)
        self._count = 0

    def add(self, message: MessagePlace, entry: OrderEntry) -> None:
        """Let an order stand."""
        self.entries[self._count] = message, entry
        for group in (*_in_accession(entry), *_of_patient(entry), *_of_issuer(entry)):
            self._groups[group][self._count] = None
        for group in _of_issuer(entry):
            self._cases[group][entry.accession.casefold()] += 1
        self._count += 1

    def remove(self, known: int) -> OrderEntry:
        """Let an order stand no longer, and return it."""
        _, entry = self.entries.pop(known)
        for group in _of_issuer(entry):
            cases, accession = self._cases[group], entry.accession.casefold()
            cases[accession] -= 1
            if not cases[accession]:
                del cases[accession]
        return entry

    def corrected(self, entry: OrderEntry, message: MessagePlace) -> list[int]:
        """Return the orders that an entry is about, once it corrected the patient of the others.

        These keep their message, so that another order of the entry's may change them.
        """
        about = self.about(entry)
        others = [k for k in about if entry.corrects_patient_alone(self.entries[k][1])]
        if others and len(others) == len(about):
            changed_one = self._changed_by(entry, others, message)
            others = [known for known in others if known != changed_one]
        for known in others:
            place, other = self.entries[known]
            if place != message:
                self._correct(known, other.with_patient_of(entry))
        left = set(others)
        return [known for known in about if known not in left]

    def _changed_by(
        self, entry: OrderEntry, others: list[int], message: MessagePlace
    ) -> int | None:
        """Return which of the orders with another test or number a correction changes, if any.

        It is the one with its filler's number, unless that is the case's, or the only one of its
        placer's number. A message with several such orders tells these beside each other.
        """
        same = [known for known in others if entry.filler == self.entries[known][1].filler != ""]
        is_case = entry.filler == entry.accession.casefold()
        if len(same) == 1 and not is_case and self._told[message, entry.placer, entry.filler] == 1:
            return same[0]
        here = self._known(_in_accession(entry))
        of_placer = [known for known in here if entry.placer == self.entries[known][1].placer]
        if len(of_placer) != 1 or of_placer != others or self._told[message, entry.placer] != 1:
            return None
        return of_placer[0] if entry.may_change(self.entries[of_placer[0]][1]) else None

    def _correct(self, known: int, entry: OrderEntry) -> None:
        """Put an order with another patient in the place of the same one."""
        message, former = self.entries[known]
        self.entries[known] = message, entry
        for group in _of_patient(former):
            self._groups[group].pop(known, None)
        for group in _of_patient(entry):
            self._groups[group][known] = None

    def about(self, entry: OrderEntry) -> list[int]:
        """Return the orders that an entry is about: one of its own accession before all others."""
        here = self._known(_in_accession(entry))
        mine = [known for known in here if entry.is_about(self.entries[known][1])]
        if mine or entry.is_new:
            return self._sure(entry, self._of_filler(entry, mine))
        others = self._elsewhere(entry, _may_be_of_patient(entry))
        if not others and all(len(self._cases.get(each, ())) < 2 for each in _of_issuer(entry)):
            others = self._elsewhere(entry, _of_issuer(entry))
        found = [self.entries[known][1] for known in others]
        cases = {each.accession.casefold() for each in found}
        # The number is that of several cases: an issued one that stands alone is about all.
        told = all(entry.is_weaker(each) and entry.issuer for each in found)
        return self._of_filler(entry, others) if told or len(cases) == 1 else []

    def _elsewhere(self, entry: OrderEntry, groups: Iterable[_Group]) -> list[int]:
        return [
            known
            for known in self._known(groups)
            if entry.is_about_elsewhere(self.entries[known][1])
        ]

    def _of_filler(self, entry: OrderEntry, found: list[int]) -> list[int]:
        """Return the orders that have the filler's number, too, where some do."""
        if any(entry.corrects_patient(self.entries[known][1]) for known in found):
            return found
        same = [known for known in found if entry.filler == self.entries[known][1].filler != ""]
        return same or found

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
            known = self._groups.get(group, {})
            self._groups[group] = {k: None for k in known if k in self.entries}
        return list(dict.fromkeys(known for group in groups for known in self._groups[group]))


def by_accession(entries: Iterable[OrderEntry]) -> Mapping[str, tuple[Order, ...]]:
    """Return the orders of entries by accession, case-folded."""
    orders: dict[str, list[Order]] = defaultdict(list)
    for entry in entries:
        if entry.order is not None:
            orders[entry.accession.casefold()].append(entry.order)
    return {accession: tuple(dict.fromkeys(each)) for accession, each in orders.items()}


def gone(
    ended: Iterable[_Ended], stand: Sequence[OrderEntry]
) -> Mapping[str, tuple[TakenBack, ...]]:
    """Return what `ended` and is not asked for again by orders that `stand`, by accession."""
    asked_now = by_accession(stand)
    found: dict[str, dict[TakenBack, None]] = defaultdict(dict)
    for accession, back in dict.fromkeys(ended):
        orders = asked_now.get(accession, ())
        if not any(back.is_about(each) for order in orders for each in order.requests):
            found[accession][back] = None
    return {accession: tuple(each) for accession, each in found.items()}


def _in_accession(entry: OrderEntry) -> list[_Group]:
    """Groups of the orders of an entry's number and accession."""
    return [(number, "accession", entry.accession.casefold()) for number in entry.numbers]


def _of_patient(entry: OrderEntry) -> list[_Group]:
    """Groups of an order's number and its patient's first ID, and of each other ID."""
    first, *others = numbers_of(entry.patient)
    ids = [("patient", first), *(("other ID", each) for each in others)]
    return [(number, *each) for number in entry.numbers for each in ids]


def _may_be_of_patient(entry: OrderEntry) -> list[_Group]:
    """Groups of the orders that have an entry's number, and an ID of its patient.

    One of the two IDs is a first one: another may be that of thousands.
    """
    first, *others = numbers_of(entry.patient, entry.merged)
    ids = [("other ID", first), *(("patient", each) for each in (first, *others))]
    return [(number, *each) for number in entry.numbers for each in ids]


def _of_issuer(entry: OrderEntry) -> list[_Group]:
    """Groups of the orders of an entry's placer's number that are of its issuer."""
    parts = parts_of_issuer(entry.issuer) if entry.placer else ()
    return [(("placer", entry.placer), "issuer", each) for each in parts if each]
