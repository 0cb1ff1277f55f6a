"""Facts of the system page: the machine, the daemon's lanes, destinations, readers, backups.

Read from the ledger's read-only door, the daemon's sign of life and small files of the state
folder. The checks of ``tandem doctor`` ask other machines, so they run only when somebody asks.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from sqlalchemy import func, or_
from sqlalchemy import select as columns
from sqlmodel import col

from appliance.assays.registry import assay_readers, assays, tasks
from appliance.delivery.left_out import waiting_for_a_person
from appliance.errors import TandemError
from appliance.ledger.backups import Backup, backups_of
from appliance.ledger.daily import backup_trouble
from appliance.ledger.heartbeat import LaneSign, life, read_sign
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import DeliveryRow
from appliance.operations.alerts import alert_lines
from appliance.operations.backup import verify_ledger
from appliance.operations.disk import forecast, read_samples, retention_trouble
from appliance.operations.doctor import Examined, examine
from appliance.operations.install_weights import known_weights
from appliance.readers.device import DeviceSign, read_device
from appliance.settings.settings import Settings
from dashboard.log_tail import LogTail, read_log
from dashboard.masking import HIDDEN, hides
from dashboard.troubles import HeldDestination, few, read_held

NO_LOG = LogTail(lines=(), said="It is hidden on this screen: lines may name files.")
"""Log of a screen with hidden names."""
NEWEST_OBJECTS = 2000
"""Newest objects among which the last proof at a destination is looked for: the table has no index
by destination."""
_OPEN = (
    DeliveryState.QUEUED,
    DeliveryState.SENT,
    DeliveryState.UNPROVEN,
    DeliveryState.REFUSED,
)
_MEMORY, _CORES = Path("/proc/meminfo"), Path("/proc/stat")
LOOK_SECONDS = 0.2
"""Time over which the use of the cores is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine now: load of the last minute, cores, bytes of memory and disk; the disk in words.

    `busy` is the part of all cores' time (0-1) of the last `LOOK_SECONDS`, None where the kernel
    does not tell it; memory and disk are 0 where they are not told. `device` is what the networks
    ran on last, None before they ran.
    """

    load: float
    cores: int
    busy: float | None
    memory_free: float
    memory_size: float
    disk_free: float
    disk_size: float
    disk: str
    device: DeviceSign | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A destination: its objects that are not proven, by state; the time (s) of the last proof.

    `proven_at` is 0 where none of the newest `NEWEST_OBJECTS` objects is proven there. `held` says
    what the last attempt met, if it failed.
    """

    name: str
    kind: str
    objects: Mapping[DeliveryState, int]
    proven_at: float
    held: HeldDestination | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderInUse:
    """A reader of an installed assay, and its weights in words, empty without a network."""

    name: str
    version: int
    needs: str
    assays: tuple[str, ...]
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Facts of the page; `lanes` is empty while no daemon runs. Times in seconds since epoch."""

    lanes: Mapping[str, LaneSign]
    machine: Machine
    places: tuple[Place, ...]
    readers: tuple[ReaderInUse, ...]
    backup: Backup | None
    backup_trouble: str
    alerts: tuple[str, ...]
    retained_at: float
    retention_trouble: str
    log: LogTail


class Checks:
    """The last answer of checks that cost seconds, shared by all sessions; one run at a time.

    `at` is its time in seconds since epoch, 0 before the first run.
    """

    def __init__(self, ask: Callable[[], Sequence[Examined]]) -> None:
        self.at = 0.0
        self.lines: tuple[Examined, ...] = ()
        self._ask = ask
        self._lock = Lock()

    def run(self) -> bool:
        """Run the checks; return False where another session's run is under way."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self.lines = tuple(self._ask())
            self.at = time.time()
        finally:
            self._lock.release()
        return True


def doctors_checks() -> Checks:
    """Return the checks of ``tandem doctor``, on the settings that TANDEM_CONFIG names."""
    return Checks(lambda: examine(None))


def chain_check(settings: Settings) -> Checks:
    """Return the check of ``tandem ledger verify``, which reads the whole ledger."""

    def ask() -> list[Examined]:
        try:
            found = verify_ledger(settings)
        except TandemError as err:
            return [Examined("ledger", False, str(err))]
        wrong = [Examined("ledger", False, problem) for problem in found.problems]
        told = f"{found.events} events fit together; the head is {found.head[:16] or 'none'}"
        return wrong or [Examined("ledger", True, told)]

    return Checks(ask)


def read_system(reader: LedgerReader, settings: Settings) -> System:
    """Return the facts now; each query reads an index or a bounded number of rows.

    Raises
    ------
    LedgerError
        If the ledger is damaged or locked.
    """
    sign = read_sign(settings)
    lanes = sign.lanes if sign is not None and life(settings).alive else {}
    if hides(settings):  # what troubles a lane may name a file
        lanes = {
            name: replace(lane, trouble=HIDDEN) if lane.trouble else lane
            for name, lane in lanes.items()
        }
    with reader.reading() as tx:
        places = _places(tx, settings)
    return System(
        lanes=lanes,
        machine=_machine(settings),
        places=places,
        readers=_readers(settings),
        backup=next(iter(backups_of(settings.ledger_file)), None),
        backup_trouble=backup_trouble(settings, time.time()),
        alerts=(HIDDEN,) if hides(settings) else tuple(alert_lines(settings)),
        retained_at=read_samples(settings).retained_at,
        retention_trouble=retention_trouble(settings),
        log=NO_LOG if hides(settings) else read_log(settings),
    )


def _machine(settings: Settings) -> Machine:
    memory = _memory()
    size = free = 0
    try:
        disk = forecast(settings).sentence
        size, _, free = shutil.disk_usage(settings.state_dir)
    except OSError:
        disk = "The state folder is not there."
    return Machine(
        load=os.getloadavg()[0],
        cores=os.cpu_count() or 1,
        busy=_busy(),
        memory_free=memory.get("MemAvailable", 0.0),
        memory_size=memory.get("MemTotal", 0.0),
        disk_free=free,
        disk_size=size,
        disk=disk,
        device=read_device(settings),
    )


def _busy() -> float | None:
    """Return the part of the cores' time (0-1) that was not idle, over `LOOK_SECONDS`."""
    before = _core_times()
    time.sleep(LOOK_SECONDS)
    after = _core_times()
    if before is None or after is None or after[0] == before[0]:
        return None
    return 1 - (after[1] - before[1]) / (after[0] - before[0])


def _core_times() -> tuple[int, int] | None:
    """Return the ticks of all cores since the boot, and those of them that were idle (proc(5))."""
    try:
        ticks = [int(each) for each in _CORES.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return sum(ticks), ticks[3] + ticks[4]


def _memory() -> dict[str, float]:
    """Return the kernel's figures of memory in bytes, by name."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return {}
    parts = (line.split() for line in lines)
    return {part[0].rstrip(":"): 1024.0 * float(part[1]) for part in parts if len(part) == 3}


def _places(tx: Queries, settings: Settings) -> tuple[Place, ...]:
    state, destination = col(DeliveryRow.state), col(DeliveryRow.destination)
    connection = tx.session.connection()
    waiting = {
        (str(name), str(found)): int(number)
        for name, found, number in connection.execute(
            columns(destination, state, func.count())
            .where(
                few(state.in_(_OPEN)),
                or_(
                    state != DeliveryState.REFUSED,
                    col(DeliveryRow.id).in_(waiting_for_a_person()),
                ),
            )
            .group_by(destination, state)
        )
    }
    newest = (
        columns(destination, state, col(DeliveryRow.changed_at))
        .order_by(col(DeliveryRow.id).desc())
        .limit(NEWEST_OBJECTS)
        .subquery()
    )
    proven = {
        str(name): float(at)
        for name, at in connection.execute(
            columns(newest.c.destination, func.max(newest.c.changed_at))
            .where(newest.c.state == DeliveryState.PROVEN)
            .group_by(newest.c.destination)
        )
    }
    # What failed comes first: a destination that cannot be reached is not one that cannot say.
    told = read_held(tx, hidden=hides(settings))
    held = {each.destination: each for each in reversed(told)}
    return tuple(
        Place(
            name=section.name,
            kind=section.kind,
            objects={each: waiting.get((section.name, each), 0) for each in _OPEN},
            proven_at=proven.get(section.name, 0.0),
            held=held.get(section.name),
        )
        for section in settings.destinations
    )


def _readers(settings: Settings) -> tuple[ReaderInUse, ...]:
    """Return the readers that the installed assays ask, each once."""
    try:
        known = known_weights(settings, tasks())
        asked = {assay.name: assay_readers(assay) for assay in assays()}
    except TandemError:  # a reader is missing, or weights are away: the checks say which
        return ()
    in_use = {
        each.task: each.problem
        if each.problem or each.spec is None
        else f"{each.spec.name} {each.spec.version}, sha256 {each.spec.sha256[:12]}…"
        for each in known
        if each.in_use
    }
    found = {reader.name: reader for readers in asked.values() for reader in readers}
    return tuple(
        ReaderInUse(
            name=name,
            version=reader.version,
            needs=reader.needs,
            assays=tuple(assay for assay, readers in asked.items() if reader in readers),
            weights="" if reader.task is None else in_use.get(reader.task, ""),
        )
        for name, reader in found.items()
    )
