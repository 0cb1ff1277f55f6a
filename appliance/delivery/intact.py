"""Objects before they are sent: a file that is not what was written is written again first."""

from __future__ import annotations

from appliance.artifacts import file_is_as_written, sha256_as_written
from appliance.delivery.destinations.contract import Instance
from appliance.delivery.index import object_path, sound_contents
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import CaseRow, DeliveryRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.settings import Settings
from dicom.header import read_instance_uid
from dicom.status import InstanceRef

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


def _has(case: CaseRow, row: DeliveryRow, settings: Settings) -> bool:
    contents = sound_contents(case.objects_key, settings)
    return contents is None or any(
        entry["sop_instance_uid"] == row.sop_instance_uid for entry in contents["objects"]
    )
