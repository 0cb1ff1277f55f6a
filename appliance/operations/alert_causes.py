"""Causes that people are told of: what holds now, and the STAT results since the last look.

Read from the daemon's sign of life, the last scan's report and the ledger's read-only door. No
sentence names a patient, an accession or a slide's file; texts of errors that might are left out.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy import select as columns
from sqlmodel import col, select

from appliance.delivery.ends import ABSENT
from appliance.delivery.left_out import waiting_for_a_person
from appliance.ledger.daily import backup_trouble
from appliance.ledger.heartbeat import read_sign
from appliance.ledger.lifecycle import SLIDES_UNDER_WAY, CaseState, DeliveryState
from appliance.ledger.queries import Queries
from appliance.ledger.tables import (
    CaseRow,
    DeliveryRow,
    EventRow,
    SlideRow,
    id_named,
)
from appliance.operations.disk import forecast, retention_trouble
from appliance.operations.scanner_folders import away_lines
from appliance.settings.alerts import AlertKind
from appliance.settings.installation import SALT_NAME
from appliance.settings.settings import Settings
from appliance.words.say import say

OF_THE_SITE = (
    "folder-away",
    "disk-full",
    "state-unusable",
    "ledger-unwritable",
    "weights-unusable",
    "device-unusable",
    "machine-short",
    "worklist-away",
    "cluster-away",
    "worker-start",
)
"""Reasons of slides and cases that wait for the site; each has a sentence of kind "alert"."""
WAITS_THERE, REFUSED_THERE = "destination", "refused"
OF_DESTINATIONS = (WAITS_THERE, ABSENT, REFUSED_THERE)
"""First words of keys of causes, each followed by a destination; sentences of kind "alert"."""
NEWS_SECONDS = 86400.0
"""Age from which a STAT result, or the end of a cause, is no news any more."""
MOST_EVENTS = 2000
"""Most events that one look reads; the next one goes on from there."""
_HELD = (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN)
_RESULT = {
    CaseState.DELIVERED: "",
    CaseState.UNPROVEN: ", sent and not proven",
    CaseState.UNDELIVERED: ", which a destination refused",
}
"""States in which a result is there, with what is to be said of it."""
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause: its key, which stays the same while it lasts, its kind, and the sentence.

    `newest` is when the last of what it counts came to be, where later ones are told as well.
    """

    key: str
    kind: AlertKind
    sentence: str
    newest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatNews:
    """STAT cases with a new result, those that are analyzed anew, and the last event read."""

    results: dict[int, str]
    reopened: frozenset[int]
    event: int


def causes_of_machine(settings: Settings, now: float) -> Iterator[Cause]:
    """Yield what holds by the sign of life, the folders, the disk and the backups."""
    lanes: dict[str, list[str]] = defaultdict(list)
    sign = read_sign(settings)
    for name, lane in (sign.lanes if sign is not None else {}).items():
        if lane.trouble:
            lanes[lane.trouble].append(name)
    for trouble, names in lanes.items():
        # Numbers in it may change while it lasts.
        key = f"lane {_DIGITS.sub('#', trouble)}"
        told = say("alert", "lane", {"lanes": ", ".join(names), "trouble": trouble})
        yield Cause(key=key, kind=AlertKind.SITE, sentence=told)
    if lines := away_lines(settings):
        told = say("alert", "folder", {"line": " ".join(lines)})
        yield Cause(key="folder-away", kind=AlertKind.SITE, sentence=told)
    yield from _disk(settings, now)
    if trouble := backup_trouble(settings, now):
        told = say("alert", "backup", {"trouble": trouble})
        yield Cause(key="backup", kind=AlertKind.BACKUP, sentence=told)
    if trouble := retention_trouble(settings):
        told = say("alert", "retention", {"trouble": trouble})
        yield Cause(key="retention", kind=AlertKind.DISK, sentence=told)


def _disk(settings: Settings, now: float) -> Iterator[Cause]:
    try:
        free_gib = shutil.disk_usage(settings.state_dir).free / 2**30
        found = forecast(settings, now)
    except OSError:  # the state folder is away; the ledger's cause tells
        return
    if free_gib < settings.low_disk_gib:
        told = say("alert", "disk-low", {"free_gib": f"{free_gib:.1f}"})
        yield Cause(key="disk-low", kind=AlertKind.DISK, sentence=told)
    elif found.days is not None and found.days < settings.alerts.disk_days:
        told = say("alert", "disk-fills", {"forecast": found.sentence})
        yield Cause(key="disk-fills", kind=AlertKind.DISK, sentence=told)


def causes_of_ledger(tx: Queries, settings: Settings, now: float) -> Iterator[Cause]:
    """Yield what the ledger tells: work that waits for the site, destinations, silence."""
    for reason in held_by_site(tx):
        yield Cause(key=reason, kind=AlertKind.SITE, sentence=say("alert", reason))
    yield from _of_destinations(tx, now)
    hours = settings.alerts.nothing_arrived_hours
    if hours is None or now - _last_arrival(tx, settings, now) < 3600 * hours:
        return
    told = say("alert", "silence", {"hours": f"{hours:g}"})
    yield Cause(key="silence", kind=AlertKind.SILENCE, sentence=told)


def _last_arrival(tx: Queries, settings: Settings, now: float) -> float:
    """Return when the newest slide came; where none ever did, when the daemon first started.

    It draws the salt then; a later start would end a silence that goes on.
    """
    newest = tx.session.exec(select(SlideRow).order_by(col(SlideRow.id).desc()).limit(1)).first()
    if newest is not None:
        return newest.created_at
    with suppress(OSError):
        return (settings.state_dir / SALT_NAME).stat().st_mtime
    return now


def _of_destinations(tx: Queries, now: float) -> Iterator[Cause]:
    """Yield what each destination does not take, has not yet, and refused for good."""
    name, reason = col(DeliveryRow.destination), col(DeliveryRow.reason)
    waits = col(DeliveryRow.state).in_((DeliveryState.QUEUED, DeliveryState.SENT))
    for word, rows in (
        (WAITS_THERE, (waits, reason.not_in(("", ABSENT)))),
        (ABSENT, (waits, reason == ABSENT)),
        (REFUSED_THERE, (col(DeliveryRow.id).in_(waiting_for_a_person()),)),
    ):
        changed_at = col(DeliveryRow.changed_at)
        # What a clock that was ahead wrote would hide all that comes later.
        last = func.max(changed_at).filter(changed_at <= now)
        counted = columns(name, func.count(), last).where(*rows).group_by(name)
        for there, count, at in tx.session.connection().execute(counted):
            told = say("alert", word, {"name": there, "count": count})
            newest = at or 0.0 if word == REFUSED_THERE else 0.0
            yield Cause(key=f"{word} {there}", kind=AlertKind.SITE, sentence=told, newest=newest)


def held_by_site(tx: Queries) -> list[str]:
    """Return the reasons for which slides and cases under way wait for the site."""
    found: set[str] = set()
    for table, states in ((SlideRow, SLIDES_UNDER_WAY), (CaseRow, _HELD)):
        held = select(table.reason).where(
            col(table.state).in_(states), col(table.reason).in_(OF_THE_SITE)
        )
        found.update(tx.session.exec(held.distinct()))
    return sorted(found)


def is_of_ledger(key: str) -> bool:
    """Return whether `causes_of_ledger` yields the cause of a key."""
    return key in (*OF_THE_SITE, "silence") or key.partition(" ")[0] in OF_DESTINATIONS


def last_event(tx: Queries) -> int:
    """Return the id of the last event; 0 where there is none."""
    found = tx.session.exec(select(EventRow.id).order_by(col(EventRow.id).desc()).limit(1)).first()
    return found or 0


def stat_news(tx: Queries, after: int, now: float) -> StatNews:
    """Return what events after the one of this id say of STAT cases."""
    last = last_event(tx)
    after = min(after, last)  # a backup was restored
    until = min(last, after + MOST_EVENTS)
    events = tx.session.exec(
        select(EventRow)
        .where(
            col(EventRow.id) > after,
            col(EventRow.id) <= until,
            EventRow.kind == "state",
            col(EventRow.to_state).in_((*_RESULT, CaseState.READY)),
        )
        .order_by(col(EventRow.id))
    )
    results: dict[int, str] = {}
    reopened: set[int] = set()
    for event in events:
        case_id = id_named(event.subject, "case")
        if case_id is None:
            continue
        if event.to_state == CaseState.READY:
            results.pop(case_id, None)
            reopened.add(case_id)
        elif now - event.at < NEWS_SECONDS and (row := tx.case(case_id)) is not None and row.stat:
            facts = {"case": row.subject, "where": _RESULT[CaseState(event.to_state)]}
            results[case_id] = say("alert", "stat", facts)
    return StatNews(results=results, reopened=frozenset(reopened), event=until)
