"""Deliveries that the settings of today do not want any more."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, true
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from appliance.delivery.destinations.contract import wants
from appliance.delivery.index import patient_in, says_signed, signers_of, sound_contents
from appliance.delivery.scanned import is_scanned
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.queries import LEFT_OUT, NOT_WANTED, OBJECT_REPLACED, WITHDRAWN, Queries
from appliance.ledger.tables import CaseDeliveryRow, CaseRow, DeliveryRow, fact, id_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.destinations import DestinationSection, ResultDestination
from appliance.settings.settings import Settings
from dicom.patients import NamedPatient, patient_differences

REPLACED = (WITHDRAWN, *NOT_WANTED, OBJECT_REPLACED)
"""Reasons of refused deliveries that no person has to do anything about."""
_TAKEN = (DeliveryState.SENT, DeliveryState.UNPROVEN, DeliveryState.PROVEN)
NO_DESTINATION = "no-destination"
"""Code of the trouble of an object whose destination the settings do not have any more."""


def is_left_out(row: DeliveryRow, settings: Settings) -> bool:
    """Return whether the destination of a row gets objects of its kind no more.

    Images of the scanner follow `dicom_slides`. A destination that is gone may have been renamed:
    what was to go there is left out by a person's retry alone.
    """
    section = next((each for each in settings.destinations if each.name == row.destination), None)
    return section is not None and not is_scanned(row) and not wants(section, row.kind)


def lacks_signature(tx: Queries, row: DeliveryRow, settings: Settings) -> bool:
    """Return whether no case of a row is signed, and its destination gets signed results alone, or
    took one of the case."""
    section = next((each for each in settings.destinations if each.name == row.destination), None)
    if section is None:
        return False
    cases = [case for i in tx.cases_of_deliveries([row]) if (case := tx.case(i)) is not None]
    if not section.signed_only and not any(
        took_signed(tx.deliveries(id_of(case)), section, case.objects_key, settings)
        for case in cases
    ):
        return False
    return not any(signers_of(case.objects_key, settings) for case in cases)


def took_signed(
    rows: Sequence[DeliveryRow],
    destination: DestinationSection,
    objects_key: str,
    settings: Settings,
) -> bool:
    """Return whether a laboratory's system has a signed result; `rows` are those of one case.

    The last one that it took decides; `rows` are in the order of queueing. One that waits, or whose
    answer was lost, does not count: where it never arrives, the system would get no result at all.
    Nor does that of another patient than the case's objects of today (`objects_key`) name.
    """
    if not isinstance(destination, ResultDestination):
        return False
    today = patient_in(sound_contents(objects_key, settings)) if objects_key else None
    for row in reversed(rows):
        if row.destination != destination.name or row.state not in _TAKEN:
            continue
        folder = row.path.rpartition("/")[0]
        contents = sound_contents(folder, settings) if folder.startswith("objects/") else None
        if contents is None:
            continue
        theirs, merged = patient_in(contents), settings.patients.merged
        # Of slides that are DICOM no study is known here: it counts as the same patient.
        is_other = today and theirs and _is_of_another_id(theirs, today, merged)
        return says_signed(contents) and not is_other
    return False


def _is_of_another_id(
    theirs: NamedPatient, today: NamedPatient, merged: Sequence[Sequence[str]]
) -> bool:
    """Return whether two results are of two patients: names alone may have been corrected."""
    found = patient_differences(theirs, today, merged)
    both = theirs.is_known and today.is_known
    return "patient ID" in found if both else bool(found)


def stays_out(tx: Queries, row: DeliveryRow, settings: Settings) -> bool:
    """Return whether a row was left out, and the settings of today do not want it either."""
    section = next((each for each in settings.destinations if each.name == row.destination), None)
    if row.reason not in NOT_WANTED or section is None:
        return row.reason in NOT_WANTED
    if is_scanned(row):
        return section.slides_there == "trust"
    return is_left_out(row, settings) or lacks_signature(tx, row, settings)


def still_wanted(
    tx: Transaction, rows: Sequence[DeliveryRow], settings: Settings, now: float
) -> list[DeliveryRow]:
    """Return the rows by which their case goes on; refused ones are left out first where the
    settings want them no more."""
    for row in rows:
        taken_out = row.reason in (*NOT_WANTED, WITHDRAWN)
        if row.state == DeliveryState.REFUSED and not taken_out and is_left_out(row, settings):
            leave_out(tx, row, now)
    return [row for row in rows if row.reason not in NOT_WANTED]


def leave_out(tx: Transaction, row: DeliveryRow, now: float) -> None:
    """Give a refused row the reason that its case is delivered without it."""
    params = {"destination": row.destination}
    set_reason(row, LEFT_OUT, params)
    tx.session.add(row)
    why = {"trouble": fact("delivery", LEFT_OUT, params)}
    tx.note(row.subject, "trouble", now, reason=LEFT_OUT, params=why)


def is_over(row: DeliveryRow, objects_key: str, settings: Settings) -> bool:
    """Return whether a row of a case with these objects is refused and is not sent again.

    That holds for what was taken out, and for what the case has no more. The list of its objects is
    read where the reason alone does not tell.
    """
    if row.state != DeliveryState.REFUSED or row.reason in REPLACED:
        return row.state == DeliveryState.REFUSED
    contents = sound_contents(objects_key, settings)
    listed = () if contents is None else (*contents["objects"], *contents.get("scanned", ()))
    return contents is not None and all(
        entry["sop_instance_uid"] != row.sop_instance_uid for entry in listed
    )


def waiting_for_a_person(case_id: int | None = None) -> SelectOfScalar[int]:
    """Return a query for the ids of refused deliveries that make a case *undelivered*, or one case.

    It is *written* while another object of it waits, for a destination that is away, too. Results
    that the case has no more lie in another folder than those of today.
    """
    reason, path = col(DeliveryRow.reason), col(DeliveryRow.path)
    of_today = or_(~path.startswith("objects/"), path.startswith(col(CaseRow.objects_key)))
    of_case = true() if case_id is None else CaseDeliveryRow.case_id == case_id
    return (
        select(CaseDeliveryRow.delivery_id)
        .join(CaseRow, col(CaseRow.id) == CaseDeliveryRow.case_id)
        .join(DeliveryRow, col(DeliveryRow.id) == CaseDeliveryRow.delivery_id)
        .where(
            col(CaseRow.state).in_((CaseState.WRITTEN, CaseState.UNDELIVERED)),
            DeliveryRow.state == DeliveryState.REFUSED,
            reason.not_in(REPLACED),
            of_today,
            of_case,
        )
    )
