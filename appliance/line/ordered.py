"""Orders at identify: the laboratory's word on a slide's patient and on the stains it asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    there is no order. `notes` are for the slide's timeline.
    """

    patients: tuple[Patient, ...] = ()
    notes: tuple[str, ...] = ()


NOTHING_ORDERED = Ordered()


def ordered_for(
    slide: Path, accession: str, settings: Settings, vocabulary: Mapping[str, Sequence[str]]
) -> Ordered:
    """Ask the laboratory's orders of a slide's accession; `vocabulary` has each stain's words.

    Raises
    ------
    WorklistUnavailableError
        If a source of orders cannot be asked, and none of its answers is kept.
    """
    if accession == UNIDENTIFIED:
        return NOTHING_ORDERED
    answer = ask_orders(accession, slide, settings)
    found = answer.conflict or ((answer.order,) if answer.order is not None else ())
    notes = (*answer.told, answer.note if found else "")
    return Ordered(
        patients=tuple(_patient(order, vocabulary) for order in found),
        notes=tuple(note for note in notes if note),
    )


def _patient(order: Order, vocabulary: Mapping[str, Sequence[str]]) -> Patient:
    born = order.patient_birth_date
    return Patient(
        patient_id=order.patient_id,
        issuer=order.issuer,
        name=order.patient_name,
        birth_date="" if born is None else born.strftime("%Y%m%d"),
        sex=order.patient_sex,
        other_ids=order.other_ids,
        study_uid=order.uid,
        accession_issuer=order.accession_issuer,
        stains=tuple(asked_stains(order.asked, vocabulary)),
        source=order.source,
    )
