"""Audit trail: the hospital's repository is told of the ledger's events (IHE ATNA)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlmodel import col, select

from appliance.artifacts import write_whole
from appliance.delivery.destinations.network import tls_files
from appliance.delivery.index import object_path
from appliance.errors import LedgerError
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, DeliveryRow, EventRow, SlideRow
from appliance.operations.alert_causes import last_event
from appliance.settings.audit import Audit
from appliance.settings.settings import Settings
from dicom.audit import DCM, AuditMessage, AuditObject, AuditServer, ObjectKind, Outcome
from dicom.characters import UNREADABLE
from dicom.errors import PacsUnavailableError
from dicom.study import patient_of

log = logging.getLogger(__name__)

NAME = "audit.json"
"""File in the state folder: the id of the last event that was told."""
MOST_EVENTS = 500
"""Events that are read at a time."""
PROGRAM = "tandem"
_SIGNING = {"signed-in": DCM.Login, "sign-in-failed": DCM.Login, "signed-out": DCM.Logout}


class AuditTrail:
    """Tells events as they come, each once; the file says how far it came, over restarts.

    The first start begins with the events that come after it. While the repository cannot be
    reached, events wait in the ledger; nothing else waits for it.
    """

    def __init__(self, settings: Settings, audit: Audit) -> None:
        self._reader = LedgerReader(settings.ledger_url)
        self._settings = settings
        self._path = settings.state_dir / NAME
        self._source = audit.source
        tls = tls_files(audit)
        self._server = AuditServer(audit.host, audit.port, tls, audit.timeout_seconds)
        self._away = False
        self._until = _told_until(self._path)

    def started(self) -> None:
        """Tell that the program started."""
        self._whole(DCM.ApplicationStart)

    def tell(self) -> int:
        """Tell the events that are new; return how many of them concerned the repository."""
        told = 0
        try:
            if not self._reader.ready:
                return 0
            with self._reader.reading() as tx:
                last = last_event(tx)
                if self._until is None or self._until > last:  # the first time, or after a restore
                    self._keep(last)
                    return 0
                pending = list(_messages(tx, self._until, self._settings))
            for event, message in pending:
                if message is not None:
                    self._server.send(message, self._source)
                    told += 1
                    self._keep(event)
            if pending:
                self._keep(pending[-1][0])
            self._say_back()
        except (PacsUnavailableError, LedgerError) as err:
            if not self._away:
                log.warning("the audit trail waits: %s", err)
            self._away = True
        return told

    def close(self) -> None:
        """Tell that the program stops, if that can be told, and close the connections."""
        self._whole(DCM.ApplicationStop)
        self._server.close()
        self._reader.close()

    def _whole(self, kind: Any) -> None:
        message = AuditMessage(
            at=time.time(), event=DCM.ApplicationActivity, kind=kind, action="E", user=PROGRAM
        )
        with suppress(PacsUnavailableError):
            self._server.send(message, self._source)

    def _keep(self, event: int) -> None:
        """Keep how far events were told, also where the disk is full: until the next start."""
        self._until = event
        with suppress(OSError):
            write_whole(self._path, json.dumps({"event": event}).encode())

    def _say_back(self) -> None:
        if self._away:
            log.info("the audit trail goes on")
        self._away = False


@contextmanager
def telling_again_from(settings: Settings, event: int) -> Iterator[None]:
    """Let the trail go on from the last event of a backup, if the block ends without error.

    What follows that event has the same ids. The block begins when nothing more needs room.
    """
    path = settings.state_dir / NAME
    until, part = _told_until(path), path.with_suffix(".part")
    if until is None or until <= event:
        yield
        return
    try:
        write_whole(part, json.dumps({"event": event}).encode())
        yield
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _told_until(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text())["event"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _messages(
    tx: Queries, after: int, settings: Settings
) -> Iterator[tuple[int, AuditMessage | None]]:
    """Yield the ids of events after one, each with what is told of it."""
    query = select(EventRow).where(col(EventRow.id) > after).order_by(col(EventRow.id))
    for row in tx.session.exec(query.limit(MOST_EVENTS)):
        yield row.id or after, _message(tx, row, settings)


def _message(tx: Queries, row: EventRow, settings: Settings) -> AuditMessage | None:
    """Return what is told of an event; None where it concerns nobody's access."""
    if row.code in _SIGNING:
        params = json.loads(row.params)
        failed = row.code == "sign-in-failed"
        return AuditMessage(
            at=row.at,
            event=DCM.UserAuthentication,
            kind=_SIGNING[row.code],
            action="E",
            outcome=Outcome.MINOR_FAILURE if failed else Outcome.SUCCESS,
            user=row.by or str(params.get("name", "")),
            address=str(params.get("address", "")),
        )
    if row.subject.startswith("delivery-"):
        return _transfer(tx, row, settings) if row.to_state == DeliveryState.PROVEN else None
    if not row.by:
        return None
    case, slide = _case_of(tx, row), _slide_of(tx, row)
    return AuditMessage(
        at=row.at,
        event=DCM.PatientRecord,
        action="R" if row.code == "case-opened" else "U",
        user=row.by,
        objects=_patients(_numbers([*([slide] if slide else []), *_slides(tx, case)])),
    )


def _transfer(tx: Queries, row: EventRow, settings: Settings) -> AuditMessage | None:
    delivery = tx.session.get(DeliveryRow, _number(row.subject))
    if delivery is None:
        return None
    stated = _stated_patient(delivery, settings)
    case = tx.session.get(CaseRow, delivery.case_id)
    numbers = _numbers(_slides(tx, case)) if stated is None else [stated]
    study = AuditObject(kind=ObjectKind.STUDY, identifier=delivery.study_uid)
    return AuditMessage(
        at=row.at,
        event=DCM.DICOMInstancesTransferred,
        action="C",
        user=PROGRAM,
        receiver=delivery.destination,
        objects=(study, *_patients(numbers)),
    )


def _stated_patient(delivery: DeliveryRow, settings: Settings) -> str | None:
    """Return the Patient ID that an object states, None where its file cannot be read.

    The slides of its case may be another patient's by now.
    """
    try:
        path = object_path(delivery.path, settings)
        header = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(patient_of(header)["patient_id"])
    except UNREADABLE:
        return None


def _case_of(tx: Queries, row: EventRow) -> CaseRow | None:
    named = json.loads(row.params).get("case", "")
    subject = row.subject if row.subject.startswith("case-") else str(named)
    return tx.session.get(CaseRow, _number(subject)) if subject.startswith("case-") else None


def _slide_of(tx: Queries, row: EventRow) -> SlideRow | None:
    is_slide = row.subject.startswith("slide-")
    return tx.session.get(SlideRow, _number(row.subject)) if is_slide else None


def _slides(tx: Queries, case: CaseRow | None) -> list[SlideRow]:
    if case is None:
        return []
    query = select(SlideRow).where(SlideRow.accession == case.accession)
    return list(tx.session.exec(query.where(SlideRow.block == case.block)))


def _numbers(slides: list[SlideRow]) -> list[str]:
    return [str(json.loads(row.patient).get("patient_id", "")) for row in slides]


def _patients(numbers: list[str]) -> tuple[AuditObject, ...]:
    return tuple(
        AuditObject(kind=ObjectKind.PATIENT, identifier=number)
        for number in dict.fromkeys(numbers)
        if number
    )


def _number(subject: str) -> int:
    number = subject.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
