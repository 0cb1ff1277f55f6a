"""Sign of life of the daemon: a small file in the state folder, beside the ledger.

It is no table of the ledger: it must be written while the ledger is locked or its disk is full. The
file is written in place, so a full disk does not stop it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.settings.settings import Settings

BEAT_SECONDS = 2.0
"""Period at which the daemon gives its sign of life."""
SILENT_SECONDS = 8.0
"""Age of the sign from which the daemon counts as stopped."""
SIZE_BYTES = 16384
TROUBLE_LETTERS = (1000, 200, 60)
"""Most letters of a lane's trouble where not all lanes fit into the file, tried in this order."""
PROC = Path("/proc")
SYSTEMD = Path("/run/systemd/system")
"""Folder that is there where systemd runs the services, also in a container of a whole system."""
_OF_THE_HOST = "pid:[4026531836]"
"""Namespace of processes of the host, whose number is fixed in the kernel."""
OTHERS = "others"
"""Name of the lane that stands for those held up for which there is no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSign:
    """A lane: what it does, since when (seconds since the epoch), and its trouble in words."""

    doing: str
    since: float
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Sign of life: when it was given, by which process, and whether it is its last one.

    `at` and `started` are seconds since the epoch; `monotonic` is the same moment by the clock
    that nobody sets, since the boot `boot`. `born` is the kernel's time of the
    process's start. `ended` says why the daemon ended, empty while it runs. `log` is where its log
    goes, as `appliance.settings.logs.log_place` says it.
    """

    at: float
    monotonic: float
    boot: str
    pid: int
    born: int
    started: float
    ended: str = ""
    log: str = ""
    lanes: Mapping[str, LaneSign] = field(default_factory=dict)


def boot_id() -> str:
    """Return the kernel's name of the present boot; empty where it has none."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def write_sign(settings: Settings, sign: Sign) -> None:
    """Write the daemon's sign; trouble with the file is not the line's."""
    text = _encoded(_fitted(sign))
    with suppress(OSError):
        handle = os.open(_path(settings), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < SIZE_BYTES:  # room for later, when the disk may be full
                os.posix_fallocate(handle, 0, SIZE_BYTES)
            os.pwrite(handle, text[:SIZE_BYTES].ljust(SIZE_BYTES), 0)
        finally:
            os.close(handle)


def _encoded(sign: Sign) -> bytes:
    return json.dumps(asdict(sign)).encode()


def _fitted(sign: Sign) -> Sign:
    """Return a sign that fits into the file.

    Lanes without trouble go first, idle ones before others. A lane that is held up is never left
    out in silence: its text is cut, or `OTHERS` counts it.
    """
    if len(_encoded(sign)) <= SIZE_BYTES:
        return sign
    held = {name: lane for name, lane in sign.lanes.items() if lane.trouble}
    free = {name: lane for name, lane in sign.lanes.items() if not lane.trouble}
    free = dict(sorted(free.items(), key=lambda named: not named[1].doing))
    for most in TROUBLE_LETTERS:
        held = {name: _cut(lane, most) for name, lane in held.items()}
        if len(_encoded(replace(sign, lanes=held))) <= SIZE_BYTES:
            return _with_room(sign, held, free)
    left = len(held)
    others = LaneSign(doing="", since=sign.at, trouble=f"{left} more lanes are held up")
    kept = _with_room(sign, {OTHERS: others}, held).lanes
    others = replace(others, trouble=f"{left - len(kept) + 1} more lanes are held up")
    return replace(sign, lanes={**kept, OTHERS: others})


def _with_room(sign: Sign, lanes: Mapping[str, LaneSign], more: Mapping[str, LaneSign]) -> Sign:
    """Return the sign with some lanes, and with the first of others for which there is room."""
    found = dict(lanes)
    size = len(_encoded(replace(sign, lanes=found)))
    for name, lane in more.items():
        size += len(json.dumps({name: asdict(lane)}))  # its braces are as long as a separator
        if size > SIZE_BYTES:
            break
        found[name] = lane
    return replace(sign, lanes=found)


def _cut(lane: LaneSign, most: int) -> LaneSign:
    if len(lane.trouble) <= most:
        return replace(lane, doing="")
    return replace(lane, doing="", trouble=lane.trouble[: most - 1] + "…")


def read_sign(settings: Settings) -> Sign | None:
    """Return the last sign, None where there is none that can be read."""
    # It is written in place: one that is read meanwhile is read once more.
    return _read(_path(settings)) or _read(_path(settings))


def _read(path: Path) -> Sign | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        lanes = {name: LaneSign(**lane) for name, lane in found.pop("lanes").items()}
        return Sign(lanes=lanes, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """State of the daemon: `alive`, and a sentence that says so.

    `told` is False where no daemon has run yet. `trouble` is True where it lives and is held up.
    """

    alive: bool
    sentence: str
    told: bool = True
    trouble: bool = False


def life(settings: Settings) -> Life:
    """Return whether the daemon of a state folder lives, by its last sign."""
    sign = read_sign(settings)
    if sign is None and _path(settings).exists():
        unreadable = "Tandem's sign of life cannot be read: the disk may be full, or it is damaged."
        return Life(alive=False, sentence=unreadable)
    if sign is None:
        never = "Tandem has not run here yet. Start it: tandem run"
        return Life(alive=False, sentence=never, told=False)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(sign.at))
    if sign.ended:
        ended = f"Tandem was stopped at {when}: {sign.ended} Start it: tandem run"
        return Life(alive=False, sentence=ended)
    age_s = time.monotonic() - sign.monotonic
    if sign.boot != boot_id() or not 0 <= age_s <= SILENT_SECONDS:
        if sign.boot == boot_id() and sign.born and born(sign.pid) == sign.born:
            why = "Its process is there and does not answer; restart it."
        else:
            why = "Its process is gone: killed, or the machine was off. Start it: tandem run"
            if sign.boot == boot_id() and (look := _where_to_look()):
                why = f"Its process is gone, or cannot be seen from here: {look}"
        return Life(alive=False, sentence=f"Tandem stopped without a word after {when}. {why}")
    lanes: dict[str, list[str]] = {}
    for name, lane in sign.lanes.items():
        if lane.trouble:
            lanes.setdefault(lane.trouble, []).append(name)
    trouble = [f"{', '.join(names)}: {why}" for why, names in lanes.items()]
    if trouble:
        held = f"Tandem runs, held up in part: {'; '.join(trouble)}"
        return Life(alive=True, sentence=held, trouble=True)
    return Life(alive=True, sentence="Tandem runs.")


def lives_elsewhere(settings: Settings, wait: Callable[[float], object]) -> bool:
    """Return whether a daemon on another machine gives the sign of this state folder.

    Its sign is looked at twice, for clocks of two machines differ. `wait` waits between, longer
    than a daemon may be silent, only where the sign is of another boot or cannot be read. One that
    cannot be read counts as given where its file changes.
    """
    sign, file = read_sign(settings), _file(settings)
    if sign is None and file is None:
        return False
    if sign is not None and (sign.ended or sign.boot == boot_id()):
        return False
    wait(SILENT_SECONDS + BEAT_SECONDS)
    later = read_sign(settings)
    if later is not None and later.ended:
        return False
    if sign is None or later is None:
        return _file(settings) != file
    return later.at != sign.at


def _file(settings: Settings) -> tuple[int, bytes] | None:
    """Return what changes with each sign, also where it cannot be read; None where none is."""
    path = _path(settings)
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        return None
    try:
        return written, path.read_bytes()
    except OSError:
        return written, b""


def born(pid: int) -> int:
    """Return the kernel's time of a process's start, in ticks since the boot; 0 where it is gone.

    Numbers of processes are used again; with this time they are unique.
    """
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    fields = stat.rsplit(")", 1)[1].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _where_to_look() -> str:
    """Return what shows the daemon where processes of others are hidden; empty where none are."""
    try:
        if not SYSTEMD.is_dir() and str((PROC / "self/ns/pid").readlink()) != _OF_THE_HOST:
            return "docker compose ps, on the machine of the containers"
        return "" if (PROC / "1").exists() else "systemctl status tandem"
    except OSError:
        return "systemctl status tandem"


def _path(settings: Settings) -> Path:
    return settings.state_dir / "heartbeat.json"
