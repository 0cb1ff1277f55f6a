"""Order of an HL7 v2 message, and what it says of an order of an earlier message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from appliance.delivery.hl7_fields import Segment, repetitions, whole
from appliance.delivery.order_change import changed, of_patient, with_ids_of
from dicom.order import Order, blocks_of
from dicom.patients import NamedPatient, id_of, is_same_id, patient_differences
from dicom.request import TakenBack, issuers_agree

Merged: TypeAlias = tuple[tuple[str, ...], ...]
"""Groups of patient IDs that the site declares to be one patient (``patients.merged``)."""


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

    @property
    def own_names(self) -> frozenset[str]:
        """Code and text of the test; an alternate, which is that of many stains, stands in."""
        return frozenset({self.code, self.text} - {""}) or self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEntry:
    """Order of a message; `order` is None where it stands no longer.

    `at` is the time of the message (MSH-7, UTC), `line` its place in the file. `rank` is the place
    of the accession's field in ``orders.hl7_accession``. `placer` and `filler` are the numbers of
    the order, `issuer` is that of the placer's; `asked` are the tests, one for each OBR, all
    case-folded and empty where the message does not say. `patient` has the IDs alone: a person may
    have another name since. `is_new`: the order control is NW. `lists_ids`: the message states all
    IDs of the patient, as a change of the whole order does; one about its status may state some.
    """

    at: str
    accession: str
    rank: int
    placer: str
    issuer: str
    filler: str
    asked: frozenset[AskedTest]
    patient: NamedPatient
    is_new: bool
    order: Order | None
    lists_ids: bool = False
    line: int = 0
    merged: Merged = ()

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

    def is_about(self, other: OrderEntry) -> bool:
        """Return whether this entry is about the order of an earlier one in its own accession.

        Systems write one number for all orders of a case: they are of one order where they ask for
        the same, or where one does not say. A change that names another patient is about all.
        """
        if not self._has_number_of(other):
            return False
        return self.corrects_patient(other) or self._is_same_order(other)

    def is_about_elsewhere(self, other: OrderEntry) -> bool:
        """Return whether this entry may be about the order of one in another accession.

        Some number the orders of each message from 1, or write one number for two cases: it may be
        if it is no new order, and the patient is the same. The number of an issuer moves with its
        tests whoever the patient is. The filler's number alone tells it where the message states no
        accession of its own.
        """
        if self.is_new or not self._has_number_of(other) or not self._asks_the_same(other):
            return False
        moves = self.order is not None and bool(self.asked) and not self.is_weaker(other)
        # A filler's number that is the accession is corrected with it.
        is_case = all(each.filler == each.accession.casefold() for each in (self, other))
        if self._has_other_filler(other) and not (moves and is_case):
            return False
        issued = bool(self.placer and other.placer and self.issuer and other.issuer)
        is_open = not self.patient.patient_id
        if is_open or not self.is_of_patient(other):
            # A message about an order that is taken back may leave the patient out.
            return issued and (moves or is_open)
        return bool(self.placer and other.placer) or (bool(self.filler) and self.is_weaker(other))

    def is_of_patient(self, other: OrderEntry) -> bool:
        """Return whether two entries are of one patient."""
        if self.order is None or other.order is None:
            return not patient_differences(self.patient, other.patient, self.merged)
        mine, its = self.order.patient(), other.order.patient()
        # A person may have another name since; those of two issuers are two.
        same = mine.is_known and is_same_id(id_of(mine), id_of(its))
        return same or are_one(mine, its, self.merged)

    def is_weaker(self, other: OrderEntry) -> bool:
        """Return whether the other has its accession from a field that comes before."""
        return self.rank > other.rank

    def _has_number_of(self, other: OrderEntry) -> bool:
        if self.placer and other.placer:
            return self.placer == other.placer and issuers_agree(self.issuer, other.issuer)
        if self.placer or other.placer:
            # A new order with the filler's number alone may be another one of the case.
            return not self.is_new and self.filler == other.filler != "" and self._may_share(other)
        return self.filler == other.filler

    def _has_other_filler(self, other: OrderEntry) -> bool:
        return "" not in (self.filler, other.filler) and self.filler != other.filler

    def _is_same_order(self, other: OrderEntry) -> bool:
        return not self._has_other_filler(other) and self._asks_the_same(other)

    def _may_share(self, other: OrderEntry) -> bool:
        """Return whether the blocks of two orders, as far as they name any, have one in common."""
        blocks = [{*blocks_of(each.order.specimens)} for each in (self, other) if each.order]
        return len(blocks) < 2 or not all(blocks) or bool(blocks[0] & blocks[1])

    def corrects_patient(self, other: OrderEntry) -> bool:
        """Return whether this change of an order names another patient."""
        if not self.placer or self.is_new or self.order is None or other.order is None:
            return False
        # A system may list the IDs of one patient in another order, or some of them alone.
        whose = self.order.patient(), other.order.patient()
        return not self._has_id_of(other) and not are_one(*whose, self.merged)

    def _has_id_of(self, other: OrderEntry) -> bool:
        """Return whether the first IDs of the patients are one number, of whatever issuer."""
        return id_of(self.patient)[0] == id_of(other.patient)[0]

    def corrects_patient_alone(self, other: OrderEntry) -> bool:
        """Return whether this change is of another order, and names another patient of this one."""
        here = self.accession.casefold() == other.accession.casefold()
        return here and self.corrects_patient(other) and not self._is_same_order(other)

    def may_change(self, other: OrderEntry) -> bool:
        """Return whether this change may be of the only other order of its placer's number.

        It has another filler's number, or another test; with both it is of another order. So is one
        with another filler's number that states no test.
        """
        is_same_test = bool(self.asked) and self._asks_the_same(other)
        return self._may_share(other) and (is_same_test or not self._has_other_filler(other))

    def with_patient_of(self, change: OrderEntry) -> OrderEntry:
        """Return this order with the patient of a change, who has a study of their own."""
        if self.order is None or change.order is None:
            return self
        return replace(self, patient=change.patient, order=of_patient(self.order, change.order))

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

        An accession from a weaker field moves nothing: status messages leave the field out. The
        order of another patient's case tells nothing.
        """
        if self.is_new or self.order is None or other.order is None:
            return self
        here = self.accession.casefold() == other.accession.casefold()
        if not here and not self.is_of_patient(other):
            return self.alone()
        stays = here or self.is_weaker(other)
        # The issuer stands beside the field that is not used.
        mine = self.order if here or not stays else replace(self.order, accession_issuer="")
        accession = other.accession if stays else self.accession
        same, patient = self._asks_the_same(other), self.patient
        lists_ids = self.lists_ids and self.patient.is_known
        if not lists_ids and self.is_of_patient(other):
            mine = with_ids_of(mine, other.order, self.merged)
            ids = mine.patient_id, mine.issuer, mine.other_ids
            patient = NamedPatient(patient_id=ids[0], issuer=ids[1], other_ids=ids[2])
        return replace(
            self,
            accession=accession,
            patient=patient,
            rank=min(self.rank, other.rank) if stays else self.rank,
            placer=self.placer or other.placer,
            issuer=max(self.issuer, other.issuer, key=len),
            filler=self.filler or other.filler,
            asked=self.asked or other.asked,
            order=changed(mine, other.order, accession if stays else "", same, self.merged),
        )

    def ended_by(self, by: OrderEntry, moved_to: Iterable[str]) -> Iterator[TakenBack]:
        """Yield what of this order another entry takes back, or moves to another accession.

        A message about another patient takes nothing of a kept order. In the accession of the order
        the number of the patient is enough: systems name its issuer in several ways.
        """
        accession = self.accession.casefold()
        moves = by.order is not None and accession in moved_to
        is_named = accession == by.accession.casefold() and by._has_id_of(self)
        if moves or not (is_named or by.is_of_patient(self)):
            return
        is_whole = by.order is not None or not by.asked
        tests = [t for t in self.asked if is_whole or any(t.is_same(each) for each in by.asked)]
        yield from self.taken_back(tests)

    def taken_back(self, tests: Iterable[AskedTest]) -> Iterator[TakenBack]:
        """Yield the requests of some tests as they are taken back; one without a name for all."""
        for names in [test.own_names for test in tests] or [frozenset[str]()]:
            yield TakenBack(
                patient=self.patient,
                placer=self.placer,
                placer_issuer=self.issuer,
                filler=self.filler,
                names=names,
            )


@lru_cache(maxsize=256)
def are_one(one: NamedPatient, other: NamedPatient, merged: Merged) -> bool:
    """Return whether two are one patient; many orders of a number have the same one."""
    return not patient_differences(one, other, merged)
