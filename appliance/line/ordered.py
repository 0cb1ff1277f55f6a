"""Orders at identify: the laboratory's word on a slide's patient and on the stains it asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.delivery.order_stains import asked_stains
from appliance.delivery.orders import ask_orders
from appliance.domain import UNIDENTIFIED
from appliance.intake.patients import Patient
from appliance.settings.settings import Settings
from dicom.order import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Statements of the orders of a slide's accession.

    `patients` is one for each order that contradicts the others; one where they agree, none where
    there is no order. `note` is for the slide's timeline; `problems` are those of files of orders,
    each told of one slide (`delivery.orders.told_by`).
    """

    patients: tuple[Patient, ...] = ()
    note: str = ""
    problems: tuple[str, ...] = ()


NOTHING_ORDERED = Ordered()


def ordered_for(
    accession: str,
    settings: Settings,
    vocabulary: Mapping[str, Sequence[str]],
    block: str = "",
) -> Ordered:
    """Ask the laboratory's orders of an accession; `vocabulary` has the words of each stain.

    The stains are those of the slide's `block`, of all blocks where it is not given.

    Raises
    ------
    WorklistUnavailableError
        If a source of orders cannot be asked, and none of its answers is kept.
    """
    if accession == UNIDENTIFIED:
        return NOTHING_ORDERED
    answer = ask_orders(accession, settings)
    found = answer.conflict or ((answer.order,) if answer.order is not None else ())
    return Ordered(
        patients=tuple(_patient(order, vocabulary, block) for order in found),
        note=answer.note if found else "",
        problems=answer.problems,
    )


def _patient(order: Order, vocabulary: Mapping[str, Sequence[str]], block: str = "") -> Patient:
    born = order.patient_birth_date
    here, elsewhere = order.asked_of(block)
    return Patient(
        patient_id=order.patient_id,
        issuer=order.issuer,
        name=order.patient_name,
        birth_date="" if born is None else born.strftime("%Y%m%d"),
        sex=order.patient_sex,
        other_ids=order.other_ids,
        study_uid=order.uid,
        accession_issuer=order.accession_issuer,
        # What is asked of other blocks is something else here, as is a text of no known stain: an
        # order that asks nothing of a block is still an order.
        stains=(*asked_stains(here, vocabulary), *(f"elsewhere: {text}" for text in elsewhere)),
        source=order.source,
    )
