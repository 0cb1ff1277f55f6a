"""Objects before they are sent: a file that is not what was written is written again first."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.artifacts import file_is_as_written, sha256_as_written
from appliance.delivery.destinations.contract import Instance
from appliance.delivery.index import object_path, sound_contents
from appliance.delivery.retired import CONVERTED
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.queries import SLIDES, Queries
from appliance.ledger.tables import (
    CaseRow,
    DeliveryRow,
    EventRow,
    fact,
    id_of,
    params_of,
    set_reason,
)
from appliance.ledger.transaction import Transaction
from appliance.settings.settings import Settings
from dicom.header import read_instance_uid
from dicom.status import InstanceRef

UNCONVERTIBLE = "slide-unconvertible"
"""Code of the trouble of a converted slide that is gone and cannot be converted again."""
_SENT_FROM = (CaseState.WRITTEN, CaseState.UNPROVEN, CaseState.UNDELIVERED, CaseState.DELIVERED)


def instance_of(row: DeliveryRow, settings: Settings) -> Instance:
    """Return the instance of a delivery, with the checksum of its file as it was written.

    Raises
    ------
    ValueError
        If its path is not that of an object.
    """
    path = object_path(row.path, settings)
    return Instance(
        path=path,
        ref=InstanceRef(
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
        ),
        sha256=sha256_as_written(path),
    )


def is_intact(row: DeliveryRow, settings: Settings) -> bool:
    """Return whether the file of a delivery is what was written, and holds the delivery's object.

    A file that was written again by other libraries holds another object.
    """
    file = object_path(row.path, settings)
    return file_is_as_written(file) and read_instance_uid(file) == row.sop_instance_uid


def write_again(tx: Transaction, row: DeliveryRow, settings: Settings, now: float) -> bool:
    """Take the cases of a damaged object back to be written again.

    Returns False where the object is of no case today: others took its place.
    """
    waits = False
    for case_id in tx.cases_of_deliveries([row]):
        case = tx.case(case_id)
        if case is None:
            continue
        if case.state not in _SENT_FROM:  # analyzed or written just now
            waits = True
        elif _has(case, row, settings):
            take_back(tx, case, row.kind, now)
            waits = True
    return waits


def take_back(tx: Transaction, case: CaseRow, kind: str, now: float) -> None:
    """Take a case back to be written again; `kind` is that of the damaged object."""
    params = {"kind": kind}
    set_reason(case, "object-damaged", params)
    tx.advance(
        case, CaseState.SCORED, now=now, code="object-damaged", reason=case.reason, params=params
    )


def slides_to_convert(tx: Queries, case: CaseRow, settings: Settings) -> list[DeliveryRow]:
    """Return the deliveries for which a case was taken back to convert its slides again.

    The case's own reason may be that of an attempt that failed since.
    """
    taken_back = _taken_back(tx, case)
    if taken_back is None or params_of(taken_back).get("kind") != SLIDES:
        return []
    waiting = [
        row
        for row in tx.deliveries(id_of(case))
        if row.state == DeliveryState.QUEUED and row.path.startswith(f"{CONVERTED}/")
    ]
    return [
        row
        for row in waiting
        if row.reason == "object-damaged" or not object_path(row.path, settings).is_file()
    ]


def is_taken_back(tx: Queries, case: CaseRow) -> bool:
    """Return whether a case is written again for a damaged file alone, not for a new result."""
    return _taken_back(tx, case) is not None


def _taken_back(tx: Queries, case: CaseRow) -> EventRow | None:
    """Return the event that took a case back, where that was the last one before its writing.

    A retry of a writing that failed makes no new result.
    """
    events = [each for each in tx.events(case.subject) if each.to_state == CaseState.SCORED]
    scored = [each for each in events if each.code != "retry"][-1:]
    return scored[0] if scored and scored[0].code == "object-damaged" else None


def refuse_slides(tx: Transaction, rows: Sequence[DeliveryRow], now: float) -> None:
    """Refuse converted slides that are gone and cannot be converted again."""
    for row in rows:
        set_reason(row, UNCONVERTIBLE)
        row.changed_at = now
        params = {"trouble": fact("delivery", row.reason)}
        tx.advance(
            row, DeliveryState.REFUSED, now=now, code="trouble", reason=row.reason, params=params
        )


def is_void(tx: Queries, row: DeliveryRow, settings: Settings) -> bool:
    """Return whether no case has a result today that an object is of.

    It is of a former patient, of a slide that left, or of a result that another one replaced. One
    whose case is analyzed or written just now is queued again if the case has it then.
    """
    cases = [tx.case(number) for number in tx.cases_of_deliveries([row])]
    listed: set[str] = set()
    for case in cases:
        if case is not None and case.state in _SENT_FROM:
            contents = sound_contents(case.objects_key, settings) or {"objects": []}
            entries = (*contents["objects"], *contents.get("scanned", ()))
            listed |= {entry["sop_instance_uid"] for entry in entries}
    return row.sop_instance_uid not in listed


def _has(case: CaseRow, row: DeliveryRow, settings: Settings) -> bool:
    contents = sound_contents(case.objects_key, settings)
    return contents is None or any(
        entry["sop_instance_uid"] == row.sop_instance_uid for entry in contents["objects"]
    )
