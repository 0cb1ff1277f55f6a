"""Retention: working data of finished cases are removed by age, and earlier where room is short.

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
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from appliance.artifacts import ASIDE, ArtifactKey, ArtifactStore
from appliance.delivery.destinations.contract import wants
from appliance.delivery.index import sound_contents
from appliance.delivery.left_out import is_over
from appliance.delivery.retired import CONVERTED, kept_headers
from appliance.errors import StoppedError, TandemError
from appliance.ledger.daily import last_time_of
from appliance.ledger.heartbeat import life
from appliance.ledger.ledger import Ledger
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
from appliance.operations.disk import read_samples, set_retained, set_tried
from appliance.operations.status import require_ledger
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

OWNED = ("inspect", "tumor", "bag", "opinion", "align", "stain", CONVERTED)
"""Steps whose artifacts belong to slides and cases."""
CACHES = ("pictures", "seen")
"""Steps whose artifacts cost time and nothing else."""
LEAST_SECONDS = 86400.0
"""Age below which nothing goes, however short room is."""
SHORT_CHECK_SECONDS = 3600.0
"""Period of the attempts to make room."""
EARLIER_ASIDE = ".retired"
"""Folder in the store in which earlier editions set aside what was about to be deleted."""
CODE = "retired"
"""Code of the event of a removal."""
MOST_KEYS = 200
"""Most artifacts that one event names."""
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
            return Plan(gone=(), kept=(), free=_free(settings))
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


def retain(settings: Settings, ledger: Ledger, now: float | None = None) -> Plan:
    """Remove what is over; return what went, and what stays. Each removal is an event.

    An artifact is renamed aside, the event is committed, and then it is deleted; `settle` ends what
    a crash left between. What cannot be moved stays, and is told with `retention_trouble`.
    """
    now = time.time() if now is None else now
    try:
        done, told = _retained(settings, ledger, now)
    except StoppedError:  # the daemon ends; the next one goes on
        raise
    except (TandemError, OSError) as err:
        why = (err.strerror if isinstance(err, OSError) else "") or str(err)
        # A path of the state folder names no patient.
        where = f" ({err.filename})" if isinstance(err, OSError) and err.filename else ""
        set_retained(settings, now, f"{why.rstrip('.')}{where}")
        raise
    set_retained(settings, now, told)
    return done


def _retained(settings: Settings, ledger: Ledger, now: float) -> tuple[Plan, str]:
    """Remove what is over; return what went and stays, and what could not be done."""
    settle(settings, ledger)
    plan = plan_retention(settings, now - ledger.ahead_s)
    gone: list[Stored] = []
    unreadable: list[Stored] = []
    unmoved = {each.key: "it cannot be read" for each in plan.kept if each.stays == "unreadable"}
    store = ArtifactStore(settings.artifacts_dir)
    batch, spare = list(plan.gone), list(plan.spare)
    planned = list(batch)
    while batch:
        # Those without headers first: headers need room, of which there may be none.
        for group in sorted(_groups(batch), key=lambda g: any(e.key.step == CONVERTED for e in g)):
            reasons = {each.key: _fixed(store.path(each.key)) for each in group}
            stuck = {key: why for key, why in reasons.items() if why}
            ready = [each for each in group if each.key not in stuck]
            stay = [each for each in ready if not kept_headers(each.key, store)]
            if ready := [each for each in ready if each not in stay]:
                removed, failed = _remove(ready, settings, ledger, now)
                gone += removed
                stuck |= failed
            unmoved |= stuck
            unreadable += [*stay, *(each for each in group if each.key in stuck)]
        # Room that was counted on and did not come is made by the next oldest.
        short = settings.retention.free_gib * 2**30 - plan.free - sum(e.size for e in gone)
        batch = []
        while spare and short > 0:
            batch.append(spare.pop(0))
            short -= batch[-1].size
        planned += batch
    undeleted = set(_asides(store).values())
    told = {each.key for each in (*gone, *unreadable)}
    others = {each.key for each in planned}
    kept = [each for each in plan.kept if each.key not in others]
    kept += [
        replace(each, stays="unreadable" if each.key in undeleted else "")
        for each in planned
        if each.key not in told
    ]
    kept += [replace(each, stays="unreadable") for each in unreadable]
    done = Plan(gone=tuple(gone), kept=tuple(kept), free=_free(settings))
    return done, _undone(unmoved, undeleted)


def _undone(unmoved: Mapping[ArtifactKey, str], undeleted: Set[ArtifactKey]) -> str:
    """Return what a retention could not do, for people and the log; empty where it did all."""
    parts = []
    for key, why in list(unmoved.items())[:1]:
        parts.append(f"results that could not be moved: {len(unmoved)}, such as {key} ({why})")
    if left := sorted(map(str, undeleted - set(unmoved))):
        parts.append(f"results that could not be deleted: {len(left)}, such as {left[0]}")
    if parts:
        log.warning("retention: %s", "; ".join(parts))
    return "; ".join(parts)


def _fixed(folder: Path) -> str:
    """Return why an artifact cannot be removed; empty where it can, or is not there any more.

    A rename alone does not tell: it asks for no right on the folder, the files in it stay then.
    """
    try:
        if not folder.is_dir():
            return ""
    except OSError:
        return "it cannot be read"
    places = (folder.parent, *(Path(place) for place, _, _ in os.walk(folder)))
    right = os.R_OK | os.W_OK | os.X_OK
    return "" if all(os.access(place, right) for place in places) else "no right to write there"


def retain_if_due(settings: Settings, ledger: Ledger, now: float | None = None) -> None:
    """Remove what is over where the hour of it has passed since the last time, or room is short."""
    now = time.time() if now is None else now
    last = read_samples(settings).tried_at
    short = _free(settings) < settings.retention.free_gib * 2**30
    # A last time of the future was under a wrong clock.
    if last_time_of(settings.retention.hour, now) <= last <= now and not (
        short and now - last >= SHORT_CHECK_SECONDS
    ):
        return
    set_tried(settings, now)  # before: what fails is told once, and tried the next night
    done = retain(settings, ledger, now)
    if done.gone:
        log.info("retention removed %d results, %.2f GiB", len(done.gone), done.size / 2**30)


def settle(settings: Settings, ledger: Ledger) -> None:
    """End what an earlier retention began: delete what the ledger says is gone, put back the rest.

    Raises
    ------
    LedgerError
        If the ledger cannot be read.
    """
    store = ArtifactStore(settings.artifacts_dir)
    asides = _asides(store)
    gone = _told_gone(ledger) if asides else set()
    for aside, key in asides.items():
        folder = store.path(key)
        if str(key) in gone or folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with suppress(OSError):  # it is tried again the next night
                aside.rename(folder)


def _asides(store: ArtifactStore) -> dict[Path, ArtifactKey]:
    """Return what was set aside and is on the disk still."""
    asides = {
        path: ArtifactKey(path.parent.name, path.name.removeprefix(ASIDE))
        for path in store.root.glob(f"*/{ASIDE}*")
    }
    for path in (store.root / EARLIER_ASIDE).glob("*.*"):
        step, _, digest = path.name.partition(".")
        asides[path] = ArtifactKey(step, digest)
    return asides


def _groups(planned: Iterable[Stored]) -> Iterator[list[Stored]]:
    """Yield what goes by one event each: of the same owners and for the same reason."""
    groups: dict[tuple[str, ...], list[Stored]] = defaultdict(list)
    for stored in planned:
        groups[(stored.why, *(stored.owners or (stored.key.step,)))].append(stored)
    for group in groups.values():
        for start in range(0, len(group), MOST_KEYS):
            yield group[start : start + MOST_KEYS]


def _told_gone(ledger: Ledger) -> set[str]:
    """Return all keys of which an event says that they are gone; writers go on meanwhile."""
    with ledger.transaction():
        pass  # a removal by another process renames within its transaction: its end is waited for
    with closing(LedgerReader(ledger.url)) as reader, reader.reading() as tx:
        notes = tx.session.exec(select(EventRow.params).where(EventRow.code == CODE))
        return {key for params in notes for key in json.loads(params)["keys"]}


def _remove(
    group: Sequence[Stored], settings: Settings, ledger: Ledger, now: float
) -> tuple[list[Stored], dict[ArtifactKey, str]]:
    """Remove the artifacts of the same owners; none where these are in work by now.

    Returns those that went, and why others cannot be moved: these keep no other from going.
    """
    store = ArtifactStore(settings.artifacts_dir)
    moved: list[tuple[Path, Path]] = []
    there: list[Stored] = []
    unmoved: dict[ArtifactKey, str] = {}
    owners = group[0].owners
    try:
        with ledger.transaction() as tx:
            if owners and _standing(tx, owners, settings, {})[0]:
                return [], {}  # a person or a slide came in between
            for stored in group:
                folder = store.path(stored.key)
                # In the step's own folder, which may be of another disk.
                aside = folder.with_name(f"{ASIDE}{stored.key.digest}")
                try:
                    folder.rename(aside)
                except FileNotFoundError:
                    continue
                except OSError as err:
                    unmoved[stored.key] = err.strerror or type(err).__name__
                    continue
                moved.append((folder, aside))
                there.append(stored)
            params = {
                "keys": [str(stored.key) for stored in there],
                "bytes": sum(stored.size for stored in there),
                "why": group[0].why,
            }
            if there:
                tx.note(owners[0] if owners else "artifacts", CODE, now, params=params)
    except BaseException:
        for folder, aside in moved:
            aside.rename(folder)
        raise
    for _, aside in moved:
        shutil.rmtree(aside, ignore_errors=True)
    left = [folder for folder, aside in moved if aside.exists()]
    return [each for each in there if store.path(each.key) not in left], unmoved


def _planned(tx: Queries, settings: Settings, now: float) -> Plan:
    store = ArtifactStore(settings.artifacts_dir)
    cut = now - 86400 * settings.retention.keep_days
    free = _free(settings)
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
    return Plan(gone=tuple(gone), kept=tuple(kept), free=_free(settings), spare=tuple(spare))


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
                stays, changed = _standing(tx, owners, settings, known)
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


def _standing(
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


def _free(settings: Settings) -> int:
    return shutil.disk_usage(settings.state_dir).free
