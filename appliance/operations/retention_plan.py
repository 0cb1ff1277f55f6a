"""Plan of retention: the working data that are on the disk, whose they are, and which of them go.

What goes, and when:

- ``inspect``, ``tumor``, ``bag``, ``align``, ``stain``: overviews, readings, bags of tiles, maps.
  Made again from the slide's file where a rerun needs them.
- ``wsm``: converted slides, once they are proven. Their headers stay (`delivery/retired.py`).
- ``pictures``, ``seen``: made or found again when they are wanted.

Findings, DICOM results, orders and what was learnt of slides stay: with them a case is corrected
and proven. Who an artifact belongs to is told by the ledger: steps name what they made, deliveries
what they sent. What no record names stays.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.destinations.contract import wants
from appliance.delivery.index import sound_contents
from appliance.delivery.left_out import is_over
from appliance.delivery.retired import CONVERTED
from appliance.ledger.heartbeat import life
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.queries import SLIDES, Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import (
    CaseDeliveryRow,
    CaseRow,
    DeliveryRow,
    EventRow,
    id_named,
    id_of,
)
from appliance.operations.status import require_ledger
from appliance.settings.settings import Settings

OWNED = ("inspect", "tumor", "bag", "opinion", "align", "stain", CONVERTED)
"""Steps whose artifacts belong to slides and cases."""
CACHES = ("pictures", "seen")
"""Steps whose artifacts cost time and nothing else."""
LEAST_SECONDS = 86400.0
"""Age below which nothing goes, however short room is."""
_SETTLED = (SlideState.READ, SlideState.SUPERSEDED, SlideState.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An artifact on disk, with the subjects that it belongs to and the time of their last change.

    `stays` says why it is not removed: ``young``, ``in-work``, ``unsigned``, ``unknown``,
    ``unreadable``; empty: it goes, because of `why`, ``age`` or ``space``.
    """

    key: ArtifactKey
    size: int
    owners: tuple[str, ...]
    since: float
    stays: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Working data that go, and those that stay; `free` are bytes of the disk.

    `spare` are those of `kept` that go, oldest first, where one of `gone` cannot and room is short.
    """

    gone: tuple[Stored, ...]
    kept: tuple[Stored, ...]
    free: int
    spare: tuple[Stored, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are removed."""
        return sum(each.size for each in self.gone)


def plan_retention(settings: Settings, now: float | None = None) -> Plan:
    """Return what retention would do now; it changes nothing.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings.
    LedgerError
        If the ledger cannot be read.
    """
    require_ledger(settings)
    with closing(LedgerReader(settings.ledger_url)) as reader:
        if not reader.ready:
            return Plan(gone=(), kept=(), free=free_bytes(settings))
        with reader.reading() as tx:
            return _planned(tx, settings, time.time() if now is None else now)


def clock_ahead_s(settings: Settings, now: float) -> float:
    """Return by how much the machine's clock may be ahead, by the ledger; 0 for a sound one.

    Where no daemon runs, it is doubted as at a start: one that runs may have no event for days.

    Raises
    ------
    SettingsError, LedgerError
        As `plan_retention`.
    """
    require_ledger(settings)
    with closing(LedgerReader(settings.ledger_url)) as reader:
        if not reader.ready:
            return 0.0
        with reader.reading() as tx:
            off_s = 0.0 if life(settings).alive else tx.clock_off_s(now)
            return max(off_s, tx.clock_ahead_s(now))


def report_of(plan: Plan) -> dict[str, Any]:
    """Return a plan, ready for JSON: each artifact that goes, and what stays by reason."""
    stays: dict[str, dict[str, int]] = {}
    for stored in plan.kept:
        entry = stays.setdefault(stored.stays or "in-work", {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += stored.size
    return {
        "removed": [
            {
                "key": str(stored.key),
                "bytes": stored.size,
                "owners": list(stored.owners),
                "why": stored.why,
            }
            for stored in plan.gone
        ],
        "removed_bytes": plan.size,
        "stays": stays,
        "free_bytes": plan.free,
    }


def _planned(tx: Queries, settings: Settings, now: float) -> Plan:
    store = ArtifactStore(settings.artifacts_dir)
    cut = now - 86400 * settings.retention.keep_days
    free = free_bytes(settings)
    wanted = int(settings.retention.free_gib * 2**30)
    young = now - LEAST_SECONDS if free < wanted else cut
    found = sorted(_stored(tx, settings, store, young), key=lambda stored: stored.since)
    gone, kept, spare = [], [], []
    for stored in found:
        why = ""
        if not stored.stays and stored.since <= cut:
            why = "age"
        elif not stored.stays and stored.since <= young and free < wanted:
            why = "space"
        if why:
            free += stored.size
            gone.append(replace(stored, why=why))
        else:
            kept.append(replace(stored, stays=stored.stays or "young"))
            if not stored.stays and stored.since <= young:
                spare.append(replace(stored, why="space"))
    return Plan(gone=tuple(gone), kept=tuple(kept), free=free_bytes(settings), spare=tuple(spare))


def _stored(
    tx: Queries, settings: Settings, store: ArtifactStore, young: float
) -> Iterator[Stored]:
    """Yield all working data on disk; those written after `young` are not asked after."""
    steps, sent = _owners_of_steps(tx, store), _owners_of_sent(tx)
    listed: dict[str, tuple[str, ...]] | None = None
    known: dict[str, tuple[str, float]] = {}
    for step in (*OWNED, *CACHES):
        for folder in sorted((store.root / step).glob("[!.]*")):
            key = ArtifactKey(step, folder.name)
            try:
                written = folder.stat().st_mtime
            except FileNotFoundError:  # a damaged one was discarded meanwhile
                continue
            except OSError:  # a disk with a fault, or a share that is away
                yield Stored(key=key, size=0, owners=(), since=0.0, stays="unreadable")
                continue
            owners = steps.get(str(key), ())
            if step == CONVERTED:
                owners = sent.get(str(key), ())
                if not owners and written <= young:
                    listed = _owners_in_indexes(tx, settings) if listed is None else listed
                    owners = listed.get(str(key), ())
            stays, since = "", written
            if written > young:
                stays = "young"
            elif step in OWNED:
                stays, changed = standing(tx, owners, settings, known)
                since = max(written, changed)
            yield Stored(key=key, size=_size(folder), owners=owners, since=since, stays=stays)


def _owners_of_steps(tx: Queries, store: ArtifactStore) -> dict[str, tuple[str, ...]]:
    """Return the subjects whose steps made or used an artifact that is on disk, by its key."""
    there = {f"{step}/{path.name}" for step in OWNED for path in (store.root / step).glob("[!.]*")}
    query = select(EventRow.subject, EventRow.params).where(
        EventRow.kind == "step", EventRow.params != "{}"
    )
    found: dict[str, set[str]] = defaultdict(set)
    for subject, params in tx.session.exec(query):
        # Of years of steps only those of what is there are kept in memory.
        if (key := json.loads(params).get("key", "")) in there:
            found[key].add(subject)
    return {key: tuple(sorted(subjects)) for key, subjects in found.items()}


def _owners_of_sent(tx: Queries) -> dict[str, tuple[str, ...]]:
    """Return the cases of which a converted slide was queued, by the key of the slide."""
    query = (
        select(DeliveryRow.path, CaseDeliveryRow.case_id)
        .join(CaseDeliveryRow, col(CaseDeliveryRow.delivery_id) == DeliveryRow.id)
        .where(col(DeliveryRow.path).startswith(f"{CONVERTED}/"))
        .distinct()
    )
    found: dict[str, set[str]] = defaultdict(set)
    for path, case_id in tx.session.exec(query):
        found[path.rpartition("/")[0]].add(f"case-{case_id}")
    return {key: tuple(sorted(subjects)) for key, subjects in found.items()}


def _owners_in_indexes(tx: Queries, settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the cases whose index lists a converted slide that no destination takes."""
    found: dict[str, set[str]] = defaultdict(set)
    query = select(CaseRow.id, CaseRow.objects_key).where(CaseRow.objects_key != "")
    for case_id, objects_key in tx.session.exec(query):
        contents = sound_contents(objects_key, settings)
        for entry in () if contents is None else contents["objects"]:
            found[entry["path"].rpartition("/")[0]].add(f"case-{case_id}")
    return {key: tuple(sorted(subjects)) for key, subjects in found.items()}


def standing(
    tx: Queries, owners: Iterable[str], settings: Settings, known: dict[str, tuple[str, float]]
) -> tuple[str, float]:
    """Return why what belongs to all of these stays (empty: it may go), and their last change.

    `known` holds answers for subjects that were asked after before.
    """
    answers = []
    for subject in owners:
        if subject not in known:
            known[subject] = _standing_of(tx, subject, settings)
        answers.append(known[subject])
    if not answers:
        return "unknown", 0.0
    return next((stays for stays, _ in answers if stays), ""), max(at for _, at in answers)


def _standing_of(tx: Queries, subject: str, settings: Settings) -> tuple[str, float]:
    case_id, slide_id = id_named(subject, "case"), id_named(subject, "slide")
    if case_id is not None and (case := tx.case(case_id)) is not None:
        return _why_it_stays(tx, case, settings), case.changed_at
    slide = None if slide_id is None else tx.slide(slide_id)
    if slide is None:
        return "unknown", 0.0
    cases = tx.cases_of_block(slide.accession, slide.block)
    changed = max(slide.changed_at, *(case.changed_at for case in cases), 0.0)
    if slide.state not in _SETTLED or slide.claimed_by:
        return "in-work", changed
    if slide.state == SlideState.READ and not cases:
        return "in-work", changed  # its partner may come
    reasons = (_why_it_stays(tx, case, settings) for case in cases)
    return next((reason for reason in reasons if reason), ""), changed


def _why_it_stays(tx: Queries, case: CaseRow, settings: Settings) -> str:
    """Return why the working data of a case stay; empty where it is finished."""
    if case.state != CaseState.DELIVERED or case.claimed_by:
        return "in-work"
    rows = [row for row in tx.deliveries(id_of(case)) if row.state != DeliveryState.PROVEN]
    if not all(is_over(row, case.objects_key, settings) for row in rows):
        return "in-work"
    if _asks_for_signature(settings):
        contents = sound_contents(case.objects_key, settings)
        if contents is None or not (contents.get("sign_offs") or contents.get("correction")):
            return "unsigned"
    return ""


def _asks_for_signature(settings: Settings) -> bool:
    """Return whether slides may still be wanted after a signature, or the settings wait for one."""
    return settings.retention.only_signed or any(
        section.signed_only and wants(section, SLIDES) for section in settings.destinations
    )


def _size(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):  # what cannot be read keeps no other from going
        for name in names:
            with suppress(OSError):
                size += Path(place, name).stat().st_size
    return size


def free_bytes(settings: Settings) -> int:
    """Return the free bytes of the disk of the state folder."""
    return shutil.disk_usage(settings.state_dir).free
