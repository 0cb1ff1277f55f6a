"""Retention: working data of finished cases are removed by age, and earlier where room is short.

What goes, and when: `operations/retention_plan.py`. An artifact is set aside, the ledger says that
it is gone, and then it is deleted.
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
from dataclasses import replace
from pathlib import Path

from sqlmodel import select

from appliance.artifacts import ASIDE, ArtifactKey, ArtifactStore
from appliance.delivery.retired import CONVERTED, kept_headers
from appliance.errors import StoppedError, TandemError
from appliance.ledger.daily import last_time_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import EventRow
from appliance.operations.disk import read_samples, set_retained, set_tried
from appliance.operations.retention_plan import Plan, Stored, free_bytes, plan_retention, standing
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

SHORT_CHECK_SECONDS = 3600.0
"""Period of the attempts to make room."""
EARLIER_ASIDE = ".retired"
"""Folder in the store in which earlier editions set aside what was about to be deleted."""
CODE = "retired"
"""Code of the event of a removal."""
MOST_KEYS = 200
"""Most artifacts that one event names."""


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
    done = Plan(gone=tuple(gone), kept=tuple(kept), free=free_bytes(settings))
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
    short = free_bytes(settings) < settings.retention.free_gib * 2**30
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
            if owners and standing(tx, owners, settings, {})[0]:
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
