"""Orders of one patient, put together: those of several sources, and later ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from appliance.delivery.order_stains import has_tests_of
from dicom.order import LONGEST_OTHER_ID, Order, OrderedSpecimen, are_others, block_key, texts_in
from dicom.patients import (
    id_of,
    joined_ids,
    known_text,
    patient_differences,
    without_given_up,
)
from dicom.request import OrderedRequest, TakenBack


def joined(orders: Sequence[Order], first: Order) -> Order:
    """Return an order with what each order of a patient knows; `first` names the study."""
    patient_id, issuer, others = joined_ids([order.patient() for order in orders])
    known: dict[str, Any] = {
        name: next((value for order in orders if (value := getattr(order, name))), default)
        for name, default in (
            *((name, "") for name in ("patient_sex", "accession_issuer", "referring_physician")),
            ("patient_birth_date", None),
        )
    }
    names = [order.patient_name for order in orders if order.patient_name]
    return replace(
        first,
        **known,
        source=orders[0].source,
        patient_id=patient_id,
        issuer=issuer,
        patient_name=next(filter(known_text, names), next(iter(names), "")),
        other_ids=tuple(each for each in others if len(each) <= LONGEST_OTHER_ID),
        typed_ids=tuple(dict.fromkeys(each for order in orders for each in order.typed_ids)),
        states_some_ids=all(order.states_some_ids for order in orders),
        specimens=tuple(dict.fromkeys(each for order in orders for each in order.specimens)),
        asked=tuple(dict.fromkeys(each for order in orders for each in order.asked)),
        requests=tuple(dict.fromkeys(each for order in orders for each in order.requests)),
    )


def brought_up(
    kept: Order,
    later: Order | None,
    canceled: Sequence[TakenBack],
    merged: Sequence[Sequence[str]],
    words: Mapping[str, Sequence[str]],
    *,
    is_written: bool,
) -> Order:
    """Return a kept order with what came `later`, and without what was taken back.

    Facts of the patient that it leaves open are added, and IDs that the later one corrects go,
    unless objects of its study are written: all of these state the same. The first ID goes only by
    a later order that states all IDs. A message about another patient takes nothing back; `merged`
    are groups of IDs that the site declares to be one patient. `words` are those of each stain.
    """
    whose = kept.patient()
    back = [
        each
        for each in canceled
        if id_of(each.patient)[0] == id_of(whose)[0]
        or not patient_differences(each.patient, whose, merged)
    ]
    requests = tuple(r for r in kept.requests if not any(each.is_about(r) for each in back))
    left = {text for each in requests for text in each.asked}
    left |= {text for each in kept.specimens for text in (each.stain, *texts_in(each.stain))}
    gone = {text for each in kept.requests for text in each.asked} - left
    if len(requests) < len(kept.requests):
        asked = tuple(text for text in kept.asked if text not in gone)
        kept = replace(kept, requests=requests, asked=asked)
    if later is None:
        return kept
    specimens = tuple(each for each in kept.specimens if not _is_replaced(each, kept, later))
    kept = replace(kept, specimens=specimens)
    typed = (*kept.typed_ids, *later.typed_ids)
    true = whose if is_written else without_given_up(whose, later.patient(), merged, typed)
    before = replace(kept, other_ids=true.other_ids)
    if not later.states_some_ids:
        before = replace(before, patient_id=true.patient_id, issuer=true.issuer)
    both = joined((before, later), kept)
    requests = _with_later(kept.requests, later.requests, words)
    if is_written:
        return replace(kept, specimens=both.specimens, asked=both.asked, requests=requests)
    return replace(both, requests=requests, states_some_ids=False)


def _with_later(
    kept: Sequence[OrderedRequest],
    later: Sequence[OrderedRequest],
    words: Mapping[str, Sequence[str]],
) -> tuple[OrderedRequest, ...]:
    """Return requests with later ones, which replace what contradicts them of a placer's order.

    A placer's number comes first, and the filler's is added when the order is taken. Other tests
    and blocks of the placer's number are other orders: systems write one number for all orders of a
    case, and drop those that are done.
    """
    left = [
        each
        for each in kept
        if not any(_is_another(each, new, words) for new in later)
        and not any(_moves(each, new) for new in later if new not in kept)
    ]
    return tuple(dict.fromkeys((*left, *later)))


def _is_another(
    kept: OrderedRequest, later: OrderedRequest, words: Mapping[str, Sequence[str]]
) -> bool:
    """Return whether a later request of the kept one's placer, tests and block is another order."""
    if kept.placer != later.placer or not kept.placer or kept.is_of_order(later):
        return False
    return not _are_apart(kept.blocks, later.blocks) and has_tests_of(later, kept, words)


def _are_apart(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether both name blocks, and each of them surely is none of the other's."""
    pairs = ((one, other), (other, one))
    return all((one, other)) and all(
        are_others(blocks, block) for blocks, others in pairs for block in others
    )


def _moves(kept: OrderedRequest, later: OrderedRequest) -> bool:
    """Return whether a later request is the kept one, and names other blocks."""
    same = kept.placer == later.placer != "" and kept.procedure == later.procedure
    return same and kept.is_of_order(later) and later.blocks not in ((), kept.blocks)


def _is_replaced(specimen: OrderedSpecimen, kept: Order, later: Order) -> bool:
    """Return whether later rows of a kept specimen contradict it, and none repeats it.

    A specimen without a stain is that of the orders of its block: those that are left must be told
    again.
    """
    rows = [each for each in later.specimens if each not in kept.specimens]
    rows = [each for each in rows if _is_row(each, specimen)]
    if specimen in later.specimens or not all(_contradicts(each, specimen) for each in rows):
        return False
    told = {each.placer for each in later.requests} - {""}
    orders = [each for each in kept.requests if specimen.block in each.blocks]
    return bool(rows) and (bool(specimen.stain) or all(each.placer in told for each in orders))


def _is_row(one: OrderedSpecimen, other: OrderedSpecimen) -> bool:
    """Return whether two specimens are of one stain, and of one block or container."""
    same = bool(one.block) and block_key(one.block) == block_key(other.block)
    same = same or one.container_id == other.container_id != ""
    return same and one.stain.casefold() == other.stain.casefold()


def _contradicts(one: OrderedSpecimen, other: OrderedSpecimen) -> bool:
    pairs = [(one.specimen_id, other.specimen_id), (one.container_id, other.container_id)]
    pairs.append((block_key(one.block), block_key(other.block)))
    return any(a != b for a, b in pairs if a and b)


def say_the_same(one: Order, other: Order) -> bool:
    """Return whether two orders differ in the order of their items alone, which no source has."""
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in fields(Order))
    return all(set(a) == set(b) if isinstance(a, tuple) else a == b for a, b in pairs)
