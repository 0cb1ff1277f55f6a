"""Change of an order that states a part of it alone, as messages about its status do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dicom.order import LONGEST_OTHER_ID, Order, OrderedSpecimen, block_in, blocks_of, one_patient
from dicom.patients import joined_ids, without_given_up
from dicom.request import OrderedRequest

T = TypeVar("T", Order, OrderedRequest)
_OF_STUDY = ("uid", "study_id", "referring_physician")
"""Facts that an order has with its accession and its patient."""
_OF_PATIENT = (
    "patient_id",
    "issuer",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "other_ids",
    "typed_ids",
    "states_some_ids",
)


def changed(
    order: Order,
    before: Order,
    accession: str,
    same_tests: bool,
    merged: Sequence[Sequence[str]] = (),
) -> Order:
    """Return an order with what the one before it states alone.

    `accession` is that of both; empty where the order moved to another one, whose study and
    specimens are others, as is the study of another patient. `same_tests`: both are about the same
    tests, and so about the same specimens. `merged` are groups of IDs that are one patient.
    """
    known: dict[str, Any] = {}
    if accession:
        known["accession_issuer"] = order.accession_issuer or before.accession_issuer
        known["specimens"] = tuple(_with_block(each, accession) for each in order.specimens) or (
            before.specimens if same_tests else ()
        )
        left = [name for name in _OF_STUDY if getattr(before, name) and not getattr(order, name)]
        if left and one_patient((order, before), merged):
            known |= {name: getattr(before, name) for name in left}
    known["asked"] = order.asked or before.asked
    blocks = blocks_of(known.get("specimens", order.specimens))
    requests = (_with(each, blocks=blocks) for each in _requests(order, before) if each.names_order)
    return _with(order, **known, requests=tuple(dict.fromkeys(requests)))


def with_ids_of(order: Order, before: Order, merged: Sequence[Sequence[str]] = ()) -> Order:
    """Return an order with the IDs that the one before it has of the patient, and with its own.

    A message may state one of them alone: the others are the patient's all the same. One in whose
    place it states another one of the same issuer and type was wrong.
    """
    typed = tuple(dict.fromkeys((*before.typed_ids, *order.typed_ids)))
    former = without_given_up(before.patient(), order.patient(), merged, typed)
    patient_id, issuer, others = joined_ids([former, order.patient()])
    return _with(
        order,
        patient_id=patient_id,
        issuer=issuer,
        other_ids=tuple(each for each in others if len(each) <= LONGEST_OTHER_ID),
        typed_ids=typed,
        # All that the one before it lists are there, unless one was given up.
        states_some_ids=before.states_some_ids or former != before.patient(),
    )


def of_patient(order: Order, by: Order) -> Order:
    """Return an order with the patient of another one, and with that one's study."""
    return _with(order, **{name: getattr(by, name) for name in (*_OF_PATIENT, *_OF_STUDY)})


def _with(thing: T, **values: Any) -> T:
    """Return a thing with some values; itself where it has them, as most orders do."""
    new = {name: value for name, value in values.items() if getattr(thing, name) != value}
    return replace(thing, **new) if new else thing


def _with_block(specimen: OrderedSpecimen, accession: str) -> OrderedSpecimen:
    if specimen.block:
        return specimen
    found = (block_in(each, accession) for each in (specimen.specimen_id, specimen.container_id))
    return replace(specimen, block=next(filter(None, found), ""))


def _requests(order: Order, before: Order) -> Iterator[OrderedRequest]:
    """Yield the requests of a change; without a test they are those of the order before it."""
    if not order.asked and before.requests:
        for each in before.requests:
            yield _numbered(each, next((m for m in order.requests if _is_one(m, each)), each))
        return
    for mine in order.requests:
        asked = mine.asked or before.asked
        pairs = (each for each in before.requests if _is_one(mine, each))
        before_it = next((each for each in pairs if {*each.asked} & {*asked}), mine)
        procedure = mine.procedure or before_it.procedure
        numbered = mine if before_it is mine else _numbered(before_it, mine)
        yield _with(numbered, asked=asked, procedure=procedure, blocks=mine.blocks)


def _is_one(one: OrderedRequest, other: OrderedRequest) -> bool:
    if one.placer and other.placer:
        return one.placer == other.placer
    return bool(one.filler) and one.filler == other.filler


def _numbered(request: OrderedRequest, by: OrderedRequest) -> OrderedRequest:
    """Return a request with the numbers that another one of the same order states."""
    known: dict[str, Any] = {"procedure_id": by.procedure_id or request.procedure_id}
    for number in ("placer", "filler"):
        issuer = f"{number}_issuer"
        if new := getattr(by, number):
            same = new == getattr(request, number)
            known[number] = new
            known[issuer] = getattr(by, issuer) or (getattr(request, issuer) if same else "")
    return _with(request, **known)
