"""The report of ``tandem status``; it loads no assay, reader or destination where it need not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from appliance.errors import SettingsError
from appliance.ledger import overview
from appliance.ledger.blocks import case_of_slide, pairing_of
from appliance.ledger.daily import backup_trouble
from appliance.ledger.heartbeat import life
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SLIDES_UNDER_WAY, SlideState
from appliance.ledger.lost import check_not_lost
from appliance.ledger.progress import read_progress
from appliance.ledger.queries import Queries, current
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import (
    CaseRow,
    DeliveryRow,
    EventRow,
    SlideRow,
    id_named,
    id_of,
    params_of,
)
from appliance.operations.disk import forecast, retention_trouble
from appliance.operations.seen import hold_name, result_name, shown_name
from appliance.settings.extensions import BUILT_IN_ASSAYS
from appliance.settings.settings import Settings
from appliance.text import readable
from appliance.words.events import event_text
from appliance.words.say import say
from appliance.words.template import OTHER

CHUNK = 500
"""Rows whose slides, deliveries and events are read by one query each."""


def status_of(
    settings: Settings, limit: int | None = None, subjects: Sequence[str] = ()
) -> dict[str, Any]:
    """Return all cases and slides, oldest first, ready for JSON; ages in seconds.

    With a limit: at most so many of each, those in trouble or under way first and the newest
    change first, ``more``, the number of the others, and ``more_in_trouble``, by state the number
    of those others that wait for a person. With `subjects`: those alone, whatever the
    limit, each case with the slides of its block and each slide with the cases of its block.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings, or a subject is not there.
    """
    require_ledger(settings)
    reader = LedgerReader(settings.ledger_url)
    try:
        alive = life(settings)
        appliance = {
            "appliance": {
                "alive": alive.alive,
                "sentence": alive.sentence,
                "disk": _disk(settings),
                "backup_trouble": backup_trouble(settings, time.time()),
                "retention_trouble": retention_trouble(settings),
            }
        }
        if not reader.ready:  # the daemon is creating it
            return {"cases": [], "slides": []} | appliance
        return _report(reader, settings, limit, subjects) | appliance
    finally:
        reader.close()


def _disk(settings: Settings) -> dict[str, Any]:
    found = forecast(settings)
    return {
        "free_bytes": found.free,
        "used_per_day_bytes": found.per_day,
        "days_left": found.days,
        "sentence": found.sentence,
    }


def life_of(settings: Settings) -> tuple[bool, str]:
    """Return whether the daemon lives, and the sentence that says so."""
    found = life(settings)
    return found.alive, found.sentence


def _report(
    reader: LedgerReader, settings: Settings, limit: int | None, subjects: Sequence[str]
) -> dict[str, Any]:
    now = time.time()
    with reader.reading() as tx:
        if subjects:
            cases, slides = _named(tx, subjects)
            limit = None
        elif limit is None:
            cases, slides = tx.cases(), tx.slides()
        else:
            cases = overview.newest(tx, CaseRow, limit)
            slides = overview.newest(tx, SlideRow, limit)
        report: dict[str, Any] = {
            "cases": [
                entry
                for start in range(0, len(cases), CHUNK)
                for entry in _cases(tx, cases[start : start + CHUNK], settings, now)
            ],
            "slides": [
                entry
                for start in range(0, len(slides), CHUNK)
                for entry in _slides(tx, slides[start : start + CHUNK], settings, now)
            ],
        }
        if limit is not None:
            hidden = {
                "cases": overview.numbers_beside(tx, CaseRow, cases),
                "slides": overview.numbers_beside(tx, SlideRow, slides),
            }
            report["more"] = {name: sum(states.values()) for name, states in hidden.items()}
            report["more_in_trouble"] = {
                name: {state: n for state, n in sorted(states.items()) if state in overview.TROUBLE}
                for name, states in hidden.items()
            }
    return report


def _named(tx: Queries, subjects: Sequence[str]) -> tuple[list[CaseRow], list[SlideRow]]:
    """Return the cases and slides that are named, and those of the same block, oldest first."""
    cases: dict[int, CaseRow] = {}
    slides: dict[int, SlideRow] = {}
    for subject in subjects:
        slide_id, case_id = id_named(subject, "slide"), id_named(subject, "case")
        if case_id is not None and (case := tx.case(case_id)):
            cases[case_id] = case
            slides |= {id_of(row): row for row in tx.slides_of_block(case.accession, case.block)}
        elif slide_id is not None and (slide := tx.slide(slide_id)):
            slides[slide_id] = slide
            if slide.block:
                block = tx.cases_of_block(slide.accession, slide.block)
                cases |= {id_of(row): row for row in block}
        else:
            raise SettingsError(f"no {subject!r}. Ids are such as slide-3 and case-1.")
    return [cases[i] for i in sorted(cases)], [slides[i] for i in sorted(slides)]


def _cases(
    tx: Queries, rows: Sequence[CaseRow], settings: Settings, now: float
) -> Iterator[dict[str, Any]]:
    installed = _installed({row.assay for row in rows})
    slides = overview.slides_by_block(tx, rows)
    deliveries = overview.deliveries_by_case(tx, rows)
    events = overview.events_by_subject(tx, rows)
    for row in rows:
        reason, params = row.reason, params_of(row)
        if row.assay not in installed:
            reason, params = "assay-not-installed", {"assay": row.assay}
        used = current(slides.get((row.accession, row.block), ()), pairing_of(row).stains)
        review = json.loads(row.review)
        yield {
            "id": row.subject,
            "accession": row.accession,
            "block": row.block,
            "assay": row.assay,
            "state": row.state,
            "stat": row.stat,
            "score": row.score,
            "result": result_name(row.findings_key),
            "held": hold_name(row),
            "review": [say("review", fact["code"], fact["params"]) for fact in review],
            "review_facts": review,
            "remedy": say("case", reason, params | {"subject": row.subject}),
            "reason": reason,
            "params": params,
            "age_seconds": round(now - row.created_at, 1),
            "slides": {stain: slide.subject for stain, slide in used.items()},
            "deliveries": [_delivery(delivery) for delivery in deliveries.get(id_of(row), ())],
            "steps": _steps(events.get(row.subject, ())),
            "progress": _progress(settings, row),
        }


def _installed(names: set[str]) -> set[str]:
    """Return those of some names that are names of installed assays."""
    if names <= BUILT_IN_ASSAYS:
        return names
    # The registry imports readers and all that they need, for a second.
    from appliance.assays.registry import assays

    return names & {assay.name for assay in assays()}


def _slides(
    tx: Queries, rows: Sequence[SlideRow], settings: Settings, now: float
) -> Iterator[dict[str, Any]]:
    cases = overview.cases_by_block(tx, rows)
    events = overview.events_by_subject(tx, rows)
    for row in rows:
        case = case_of_slide(row, cases.get((row.accession, row.block), ()))
        waits = row.state in SLIDES_UNDER_WAY
        reason = row.reason if waits or row.state == SlideState.QUARANTINED else ""
        params = params_of(row)
        sentence = say("case", reason, params) if waits else say("quarantine", reason)
        if row.state == SlideState.OTHER:
            sentence = say("not-for-an-assay", row.reason, params)
        yield {
            "id": row.subject,
            "file": row.file_name,
            "path": readable(row.path),
            "bytes": shown_name(row),
            "stain": row.stain,
            "state": row.state,
            "stat": row.stat,
            "reason": reason,
            "sentence": sentence,
            "detail": say("slide-detail", row.reason or OTHER, params),
            "remedy": sentence if waits else say("remedy", reason),
            "params": params,
            "sources": json.loads(row.evidence),
            "age_seconds": round(now - row.created_at, 1),
            "case": "" if case is None else case.subject,
            "steps": _steps(events.get(row.subject, ())),
            "progress": _progress(settings, row),
        }


def _progress(settings: Settings, row: SlideRow | CaseRow) -> dict[str, Any] | None:
    said = read_progress(settings, row.subject) if row.claimed_by else None
    return None if said is None else asdict(said)


def _steps(events: Iterable[EventRow]) -> list[dict[str, Any]]:
    return [
        {
            "at": event.at,
            "kind": event.kind,
            "text": event_text(event),
            "code": event.code,
            "params": params_of(event),
        }
        for event in events
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


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger of a state folder for writing.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings.
    """
    require_ledger(settings)
    return Ledger(settings.ledger_url)


def require_ledger(settings: Settings) -> None:
    """Refuse to go on without a ledger.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings.
    LedgerError
        If a ledger was there and is lost.
    """
    check_not_lost(settings.ledger_file)
    if not settings.ledger_file.is_file():
        raise SettingsError(
            f"{settings.state_dir}: no ledger here yet. Start `tandem run`, or name its settings "
            "with --config."
        )
