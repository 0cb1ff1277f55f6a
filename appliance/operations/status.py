"""The report of ``tandem status`` and the action of ``tandem retry``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from appliance.assays.registry import pairings
from appliance.delivery.index import read_index
from appliance.domain import Pairing
from appliance.errors import SettingsError
from appliance.ledger.blocks import case_of_slide, is_installed, pairing_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.progress import read_progress
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, DeliveryRow, SlideRow, id_of, params_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.settings import Settings
from appliance.text import readable
from appliance.words.events import event_text
from appliance.words.say import say
from appliance.words.template import OTHER


def status_of(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return all cases and slides, ready for JSON; ages in seconds."""
    _require_ledger(settings)
    reader = LedgerReader(settings.ledger_url)
    try:
        if not reader.ready:  # the daemon is creating it
            return {"cases": [], "slides": []}
        return _report(reader, settings)
    finally:
        reader.close()


def _report(reader: LedgerReader, settings: Settings) -> dict[str, list[dict[str, Any]]]:
    now, assays = time.time(), pairings(settings)
    with reader.reading() as tx:
        rows = tx.cases()
        cases = [_case(tx, row, assays, now) | _progress(settings, row.subject) for row in rows]
        blocks: dict[tuple[str, str], list[CaseRow]] = {}
        for row in rows:
            blocks.setdefault((row.accession, row.block), []).append(row)
        slides = []
        for slide in tx.slides():
            case = case_of_slide(slide, blocks.get((slide.accession, slide.block), ()))
            slides.append(_slide(tx, slide, case, now) | _progress(settings, slide.subject))
    return {"cases": cases, "slides": slides}


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger of a state folder for writing.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings.
    """
    _require_ledger(settings)
    return Ledger(settings.ledger_url)


def _require_ledger(settings: Settings) -> None:
    if not (settings.state_dir / "ledger.sqlite").is_file():
        raise SettingsError(
            f"{settings.state_dir}: no ledger here yet. Start `tandem run`, or name its settings "
            "with --config."
        )


def _case(tx: Queries, row: CaseRow, assays: Sequence[Pairing], now: float) -> dict[str, Any]:
    reason, params = row.reason, params_of(row)
    if not is_installed(row, assays):
        reason, params = "assay-not-installed", {"assay": row.assay}
    slides = tx.current_slides(row.accession, row.block, pairing_of(row).stains)
    deliveries = tx.deliveries(row.id or 0)
    review = json.loads(row.review)
    return {
        "id": row.subject,
        "accession": row.accession,
        "block": row.block,
        "assay": row.assay,
        "state": row.state,
        "score": row.score,
        "review": [say("review", fact["code"], fact["params"]) for fact in review],
        "review_facts": review,
        "remedy": say("case", reason, params | {"subject": row.subject}),
        "reason": reason,
        "params": params,
        "age_seconds": round(now - row.created_at, 1),
        "slides": {stain: slide.subject for stain, slide in slides.items()},
        "deliveries": [_delivery(delivery) for delivery in deliveries],
        "steps": _steps(tx, row.subject),
    }


def _progress(settings: Settings, subject: str) -> dict[str, Any]:
    said = read_progress(settings, subject)
    return {"progress": None if said is None else asdict(said)}


def _steps(tx: Queries, subject: str) -> list[dict[str, Any]]:
    return [
        {
            "at": event.at,
            "kind": event.kind,
            "text": event_text(event),
            "code": event.code,
            "params": params_of(event),
        }
        for event in tx.events(subject)
    ]


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "destination": row.destination,
        "kind": row.kind,
        "sop_instance_uid": row.sop_instance_uid,
        "state": row.state,
        "attempts": row.attempts,
        "error": say("delivery", row.reason, params_of(row)),
        "reason": row.reason,
        "params": params_of(row),
    }


def _slide(tx: Queries, row: SlideRow, case: CaseRow | None, now: float) -> dict[str, Any]:
    reason = row.reason if row.state == SlideState.QUARANTINED else ""
    params = params_of(row)
    return {
        "id": row.subject,
        "file": row.file_name,
        "path": readable(row.path),
        "stain": row.stain,
        "state": row.state,
        "reason": reason,
        "sentence": say("quarantine", reason),
        "detail": say("slide-detail", row.reason or OTHER, params),
        "remedy": say("remedy", reason),
        "params": params,
        "age_seconds": round(now - row.created_at, 1),
        "case": "" if case is None else case.subject,
        "steps": _steps(tx, row.subject),
    }


def retry_subject(settings: Settings, subject: str) -> str:
    """Put a quarantined slide, a failed or an undelivered case back into the line.

    Returns what happens next, for people.

    Raises
    ------
    SettingsError
        If there is no such subject, or nothing about it to try again.
    """
    ledger = open_ledger(settings)
    kind, _, number = subject.partition("-")
    now = time.time()
    try:
        with ledger.transaction() as tx:
            if kind == "slide" and number.isdigit() and (slide := tx.slide(int(number))):
                return _retry_slide(tx, slide, now)
            if kind == "case" and number.isdigit() and (case := tx.case(int(number))):
                return _retry_case(tx, case, settings, now)
    finally:
        ledger.close()
    raise SettingsError(f"no {subject!r}. `tandem status` lists ids such as slide-3 and case-1.")


def _retry_slide(tx: Transaction, slide: SlideRow, now: float) -> str:
    if slide.state != SlideState.QUARANTINED:
        raise SettingsError(
            f"{slide.subject} is {slide.state}: only quarantined slides are retried."
        )
    set_reason(slide)
    slide.worker_crashes, slide.not_before = 0, 0.0
    tx.advance(slide, SlideState.ARRIVED, now=now, code="retry")
    return f"{slide.subject} goes through the line again"


def _retry_case(tx: Transaction, case: CaseRow, settings: Settings, now: float) -> str:
    if case.state == CaseState.FAILED:
        case.worker_crashes, case.not_before = 0, 0.0
        set_reason(case)
        if case.findings_key:  # it failed when its objects were written
            tx.advance(case, CaseState.SCORED, now=now, code="retry")
            return f"{case.subject} is written again"
        tx.advance(case, CaseState.READY, now=now, code="retry")
        return f"{case.subject} is analysed again"
    if case.state in (CaseState.READY, CaseState.SCORED) and case.reason:
        case.not_before = 0.0
        tx.session.add(case)
        return f"{case.subject} is tried again now"
    sending = (CaseState.UNDELIVERED, CaseState.UNPROVEN, CaseState.WRITTEN)
    waiting = _waiting(tx, case, settings) if case.state in sending else []
    if case.state not in sending or not waiting:
        raise SettingsError(
            f"{case.subject} is {case.state}: only waiting, failed, written, unproven and "
            "undelivered cases are retried."
        )
    for row in waiting:
        row.not_before = 0.0
        set_reason(row)
        # Reset to 1, not 0, so that delivery queries before it resends.
        row.attempts = min(row.attempts, 1)
        if row.state == DeliveryState.REFUSED:
            tx.advance(row, DeliveryState.QUEUED, now=now, code="retry")
        tx.session.add(row)
    # Cases that share one of these objects go on with this one.
    for case_id in {case.id or 0, *tx.cases_of_deliveries(waiting)}:
        sharing = tx.case(case_id)
        if sharing is not None and sharing.state == CaseState.UNDELIVERED:
            set_reason(sharing)
            tx.advance(sharing, CaseState.WRITTEN, now=now, code="retry")
    return f"{case.subject}: {len(waiting)} deliveries are tried again now"


def _waiting(tx: Transaction, case: CaseRow, settings: Settings) -> list[DeliveryRow]:
    """Deliveries of the case's objects of today: a report that was replaced is not sent again."""
    try:
        index = read_index(case.objects_key, settings)
    except (OSError, ValueError, LookupError) as err:
        raise SettingsError(
            f"{case.subject}: the list of its objects cannot be read ({type(err).__name__}). "
            "Restore artifacts/ of the state folder."
        ) from err
    current = {item.sop_instance_uid for item in index}
    return [
        row
        for row in tx.deliveries(id_of(case))
        if row.state != DeliveryState.PROVEN and row.sop_instance_uid in current
    ]
