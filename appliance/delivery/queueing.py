"""Choice of what of a written case is put into the outbox of each destination; order of sending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from appliance.delivery.destinations.contract import wants
from appliance.delivery.index import (
    ObjectFile,
    is_signed,
    read_index,
    read_retired,
    read_scanned,
)
from appliance.delivery.left_out import leave_out, took_signed
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import NOTES, SLIDES, WITHDRAWN
from appliance.ledger.tables import CaseRow, DeliveryRow
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.settings.destinations import DestinationSection
from appliance.settings.settings import Settings


def enqueue_case(tx: Transaction, case: CaseRow, settings: Settings, now: float) -> int:
    """Put the objects of a written case into the outbox of each destination that wants them.

    A destination that gets signed results alone gets none of a case that no person has signed; the
    objects of the signed result are others, and are queued when they are written. A laboratory's
    system, which keeps one result, gets no such result in the place of a signed one that it took of
    the same patient.
    Images of slides that the scanner wrote as DICOM are queued where they are sent or asked for,
    and a note that rejects a replaced result where that result was sent. What was withdrawn and is
    wanted no more is left out, unless nobody gets anything. Returns how many.
    """
    if case.id is None:
        return 0
    queued = 0
    objects = {item.sop_instance_uid for item in read_index(case.objects_key, settings)}
    signed = is_signed(case.objects_key, settings)
    for destination in settings.destinations:
        rows = [row for row in tx.deliveries(case.id) if row.destination == destination.name]
        if not signed and (
            destination.signed_only or took_signed(rows, destination, case.objects_key, settings)
        ):
            continue
        sent = {row.sop_instance_uid for row in rows if _may_be_there(row)}
        for item in _wanted(case, destination, sent, settings):
            queued += 1
            new = NewDelivery(destination=destination.name, **asdict(item))
            tx.enqueue(case.id, new, now)
    for row in tx.deliveries(case.id):
        if queued and row.reason == WITHDRAWN and row.sop_instance_uid in objects:
            leave_out(tx, row, now)
    return queued


def _may_be_there(row: DeliveryRow) -> bool:
    """Return whether a destination has an object, is about to get it, or got it without a proof."""
    withdrawn = row.reason == WITHDRAWN and row.attempts > 0
    return row.state != DeliveryState.REFUSED or withdrawn


def _wanted(
    case: CaseRow, destination: DestinationSection, sent: set[str], settings: Settings
) -> Iterator[ObjectFile]:
    """Yield what a destination gets, or is asked for, in the order of sending.

    `sent` are the UIDs that it has, may have, or is about to get.
    """
    knows_retired = not sent.isdisjoint(read_retired(case.objects_key, settings))
    if destination.slides_there != "trust":
        yield from read_scanned(case.objects_key, settings)
    for item in read_index(case.objects_key, settings):
        if wants(destination, item.kind) and (item.kind != NOTES or knows_retired):
            yield item


def in_order(due: list[DeliveryRow]) -> list[tuple[tuple[int, str], list[DeliveryRow]]]:
    """Group by case and destination; rows with the fewest failed attempts come first.

    Slides go before results: a viewer shows an overlay only on slides that it has.
    """
    groups: dict[tuple[int, str], list[DeliveryRow]] = {}
    # One attempt may be that of an outage: such a slide stays before its results.
    for row in sorted(due, key=lambda r: (max(1, r.attempts), r.kind != SLIDES, r.id or 0)):
        groups.setdefault((row.case_id, row.destination), []).append(row)
    return sorted(groups.items(), key=lambda group: (group[1][-1].attempts, group[0]))
