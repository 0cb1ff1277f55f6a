"""Figures for a monitoring system, in Prometheus' text format, and the two questions of a probe.

Read from the ledger by its read-only door and from the heartbeat. No label holds an accession, a
patient, a path or a file name: labels are states, reasons, lanes, assays, scores, steps and names
of destinations.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlmodel import SQLModel

from appliance.artifacts import becoming
from appliance.delivery.left_out import waiting_for_a_person
from appliance.domain import QuarantineReason
from appliance.errors import LedgerError, TandemError
from appliance.ledger.backups import newest_good
from appliance.ledger.daily import backup_trouble
from appliance.ledger.heartbeat import Life, life, read_sign
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.overview import ENDED
from appliance.ledger.queries import NOT_ASKED, Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, DeliveryRow, EventRow, SlideRow
from appliance.operations.alert_causes import held_by_site
from appliance.operations.disk import forecast, retention_trouble
from appliance.settings.settings import Settings

RECENT_SECONDS = 3600.0
"""Time over which steps are summed up."""
MOST_EVENTS = 20_000
"""Newest events that are looked through for recent steps: the table has no index by time."""
Columns = ReadOnlyColumnCollection[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Answer to a probe: whether work goes on, and the sentence that says so.

    `outside` is the sentence for those who are not signed in, where it is another one.
    """

    ready: bool
    sentence: str
    outside: str = ""


def health(settings: Settings) -> Health:
    """Return whether the daemon lives without trouble and the ledger can be read."""
    found = life(settings)
    if not found.alive or found.trouble:
        return Health(ready=False, sentence=found.sentence, outside=_outside(settings, found))
    reader = LedgerReader(settings.ledger_url)
    try:
        if not reader.ready:
            return Health(ready=False, sentence="The ledger is being made.")
    except LedgerError as err:
        return Health(ready=False, sentence=str(err))
    finally:
        reader.close()
    return Health(ready=True, sentence=found.sentence)


def _outside(settings: Settings, found: Life) -> str:
    """Return what anyone may know of the daemon: what troubles a lane may name a file."""
    sign = read_sign(settings)
    if not found.trouble or sign is None:
        return found.sentence
    held = ", ".join(name for name, lane in sign.lanes.items() if lane.trouble)
    return f"Tandem runs, held up in part: {held}."


def metrics_text(settings: Settings) -> bytes:
    """Return all figures, in the text format that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Appliance(settings))
    return generate_latest(registry)


def write_metrics(settings: Settings, path: Path) -> None:
    """Write the figures to a file that other users may read; it is whole at any time.

    Raises
    ------
    TandemError
        If the file cannot be written.
    """
    text = metrics_text(settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with becoming(path) as temporary:
            temporary.write_bytes(text)
            temporary.chmod(0o644)  # before it is there: a collector never finds a closed file
    except OSError as err:
        raise TandemError(f"{path}: the figures cannot be written: {err.strerror}.") from err


class _Appliance(Collector):
    """Figures of one appliance at this moment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """Yield all figures; those of the ledger are left out while it cannot be read."""
        yield from _places(self._settings)
        reader = LedgerReader(self._settings.ledger_url)
        readable, found, held = False, list[Metric](), False
        try:
            if reader.ready:
                with reader.reading() as tx:
                    found, held = list(_ledger(tx, time.time())), bool(held_by_site(tx))
                readable = True
        except LedgerError:
            pass  # told by `tandem_ledger_readable`
        finally:
            reader.close()
        yield from _life(self._settings, held=held)
        yield from found
        yield _gauge("ledger_readable", "1 if the ledger can be read.", float(readable))


def _life(settings: Settings, *, held: bool) -> Iterator[Metric]:
    """Yield what the sign of life tells; `held`: slides or cases wait for the site."""
    found, sign = life(settings), read_sign(settings)
    yield _gauge("alive", "1 if the daemon gives its sign of life.", float(found.alive))
    held_up = found.trouble or (found.alive and held)
    yield _gauge("held_up", "1 if the daemon lives and is held up.", float(held_up))
    lanes = sign.lanes if sign is not None and found.alive else {}
    troubles = {(name,): float(bool(lane.trouble)) for name, lane in lanes.items()}
    yield _by("lane_trouble", "1 if a lane is held up.", ("lane",), troubles)
    if sign is not None:
        yield _gauge("heartbeat_timestamp_seconds", "Time of the last sign of life.", sign.at)
        yield _gauge("start_timestamp_seconds", "Time of the daemon's start.", sign.started)
    running = {(version("tandem-her2"),): 1.0}
    yield _by("build_info", "Version of Tandem that answers.", ("version",), running)


def _places(settings: Settings) -> Iterator[Metric]:
    try:
        disk = shutil.disk_usage(settings.state_dir)
    except OSError:
        return
    yield _gauge("disk_free_bytes", "Free space of the state folder.", disk.free)
    yield _gauge("disk_size_bytes", "Size of the state folder's disk.", disk.total)
    least = settings.low_disk_gib * 2**30
    yield _gauge("disk_least_bytes", "Free space below which Tandem warns.", least)
    found = forecast(settings)
    if found.per_day is not None:
        said = "Space of the state folder that a day uses up, at the rate of the last days."
        yield _gauge("disk_used_per_day_bytes", said, found.per_day)
    if found.days is not None:
        said = "Days until the free space is at its least; left out where the disk does not fill."
        yield _gauge("disk_days_left", said, found.days)
    said = "1 if the ledger is not backed up as it should be."
    yield _gauge("backup_trouble", said, float(bool(backup_trouble(settings, time.time()))))
    said = "1 if the last removal of old working data failed."
    yield _gauge("retention_trouble", said, float(bool(retention_trouble(settings))))
    if settings.ledger_file.is_file():
        size = settings.ledger_file.stat().st_size
        yield _gauge("ledger_size_bytes", "Size of the ledger's file.", size)
    backup = newest_good(settings.ledger_file)
    if backup is not None:
        said = "Time of the newest backup without damage."
        yield _gauge("backup_timestamp_seconds", said, backup.made_at)


def _ledger(tx: Queries, now: float) -> Iterator[Metric]:
    slide, case, delivery = (_columns(table) for table in (SlideRow, CaseRow, DeliveryRow))
    yield _by("slides", "Slides by state.", ("state",), _count(tx, slide.state))
    # A reason without slides has a 0: of a series that begins at 40, `delta` is 0.
    aside: dict[tuple[str, ...], float] = {(reason.value,): 0.0 for reason in QuarantineReason}
    for (state, reason), number in _count(tx, slide.state, slide.reason).items():
        if state == SlideState.QUARANTINED:
            aside[reason,] = number
    yield _by("slides_set_aside", "Slides that are set aside, by reason.", ("reason",), aside)
    cases = _count(tx, case.assay, case.state)
    yield _by("cases", "Cases by assay and state.", ("assay", "state"), cases)
    scores = {names: n for names, n in _count(tx, case.assay, case.score).items() if names[1]}
    yield _by("cases_scored", "Cases with a score, by assay.", ("assay", "score"), scores)
    review = select(func.count()).select_from(case.id.table).where(case.review != "[]")
    said = "Cases with reasons for review."
    yield _gauge("cases_for_review", said, float(_first(tx, review)))
    # Those that a person need do nothing about would keep an alert for ever.
    counts = or_(delivery.state != DeliveryState.REFUSED, delivery.id.in_(waiting_for_a_person()))
    sent = _count(tx, delivery.destination, delivery.state, where=counts)
    said = "Objects by destination and state; refused: those that need a person."
    yield _by("deliveries", said, ("destination", "state"), sent)
    for name, columns in (("slide", slide), ("case", case)):
        yield _longest_waits(tx, name, columns, now)
    arrived = _first(tx, select(slide.created_at).order_by(slide.id.desc()).limit(1))
    if arrived is not None:
        yield _gauge("last_arrival_timestamp_seconds", "Time of the last slide.", arrived)
    proven = select(func.max(delivery.changed_at)).where(delivery.state == DeliveryState.PROVEN)
    if (delivered := _first(tx, proven)) is not None:
        said = "Time of the last proof of delivery."
        yield _gauge("last_delivery_timestamp_seconds", said, delivered)
    yield from _steps(tx, now)


def _longest_waits(tx: Queries, name: str, columns: Columns, now: float) -> Metric:
    query = select(columns.state, func.min(columns.changed_at)).group_by(columns.state)
    waits = {
        (str(state),): max(0.0, now - oldest)
        for state, oldest in tx.session.connection().execute(query)
        if state not in ENDED
    }
    if (CaseState.WAITING,) in waits:
        # A block that nobody asked the target slide of waits for ever, and is no trouble.
        asked = select(columns.changed_at).where(
            columns.state == CaseState.WAITING, columns.reason != NOT_ASKED
        )
        oldest = _first(tx, asked.order_by(columns.changed_at).limit(1))
        del waits[CaseState.WAITING,]
        if oldest is not None:
            waits[CaseState.WAITING,] = max(0.0, now - oldest)
    said = f"Time since the change of the {name} that waits longest, by state."
    return _by(f"{name}_longest_wait_seconds", said, ("state",), waits)


def _steps(tx: Queries, now: float) -> Iterator[Metric]:
    """Yield number and time of the steps of the last hour; reused results do not count."""
    event = _columns(EventRow)
    newest = (
        select(event.kind, event.step, event.seconds, event.reused, event.at)
        .order_by(event.id.desc())
        .limit(MOST_EVENTS)
    )
    number: dict[tuple[str, ...], float] = defaultdict(float)
    seconds: dict[tuple[str, ...], float] = defaultdict(float)
    for kind, step, took, reused, at in tx.session.connection().execute(newest):
        if kind == "step" and not reused and now - RECENT_SECONDS <= at <= now:
            number[step,] += 1
            seconds[step,] += took
    yield _by("steps_last_hour", "Steps that ended in the last hour.", ("step",), number)
    said = "Time that the steps of the last hour took together."
    yield _by("steps_last_hour_seconds", said, ("step",), seconds)


def _columns(table: type[SQLModel]) -> Columns:
    return SQLModel.metadata.tables[str(table.__tablename__)].c


def _count(
    tx: Queries, *columns: ColumnElement[Any], where: ColumnElement[bool] | None = None
) -> dict[tuple[str, ...], float]:
    """Return the number of rows for each combination of values of some columns."""
    query = select(*columns, func.count()).group_by(*columns)
    query = query if where is None else query.where(where)
    rows = tx.session.connection().execute(query)
    return {tuple(str(name) for name in row[:-1]): float(row[-1]) for row in rows}


def _first(tx: Queries, query: Select[Any]) -> Any:
    return tx.session.connection().execute(query).scalar()


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tandem_{name}", said, value=value)


def _by(name: str, said: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"tandem_{name}", said, labels=labels)
    for names, value in sorted(values.items()):
        family.add_metric(names, value)
    return family
