"""Faults of chaos that are done to the state folder: its disk, the ledger, the results."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from appliance.ledger.backups import newest_good
from benchmarks.trial.daemon import descendants
from benchmarks.trial.site import Site, SkipError

REFUSAL_S = 360.0
"""Longest time in which a daemon has to refuse a damaged ledger."""
REMEDY = "tandem ledger restore"
TREE_NODES = (2, 5, 10, 13)
"""First byte of the pages of SQLite that hold a node of a tree."""


def disk_full(site: Site) -> None:
    """Fill the disk of the state folder, and make room again after some seconds."""
    if site.disk is None:
        raise SkipError("no small disk: mounting one needs root")
    ballast = site.disk.fill()
    time.sleep(site.dice.uniform(2, 6))
    ballast.unlink(missing_ok=True)


def power_loss(site: Site) -> None:
    """Let the machine of the state folder lose its power: what was not synced is gone.

    Writes fail for a moment, as on a disk that dies; then all processes are killed, the disk is
    mounted again, and the daemon is started.
    """
    if site.disk is None or site.disk.image is None:
        raise SkipError("no disk that loses power: that needs root, loop devices and mkfs.ext4")
    if head := site.ledger.head():
        site.heads.append(head)
    site.disk.cut_power()
    time.sleep(site.dice.uniform(0, 0.5))
    children = descendants(site.daemon.pid)
    site.daemon.end(signal.SIGKILL)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    site.dashboard.end()
    if site.cluster is not None:
        site.cluster.end()
    site.disk.mount_again()
    if site.cluster is not None:
        site.cluster.start()
    site.daemon.start()


def lock_ledger(site: Site) -> None:
    """Hold the ledger's write lock."""
    ledger = site.daemon.state / "ledger.sqlite"
    if not ledger.exists():
        raise SkipError("no ledger yet")
    with closing(sqlite3.connect(ledger, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(site.lock_s)
        connection.execute("ROLLBACK")


def flip_artifact(site: Site) -> None:
    """Flip some bytes of a stored result."""
    root = site.daemon.state / "artifacts"
    steps = sorted(folder for folder in root.glob("*") if folder.is_dir())
    files = [path for step in steps for path in step.glob("[0-9a-f]*/**/*") if path.is_file()]
    if not files:
        raise SkipError("no results yet")
    # The newest are those that steps still ask for.
    files.sort(key=lambda path: path.stat().st_mtime_ns)
    path = site.dice.choice(files[-40:])
    data = bytearray(path.read_bytes())
    for _ in range(8 if data else 0):
        data[site.dice.randrange(len(data))] ^= 1 << site.dice.randrange(8)
    facts = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def damage_ledger(site: Site) -> None:
    """Damage the ledger while the daemon is stopped; it has to refuse to start. Then restore it.

    Damage is what SQLite can see: a bit in a row's text is for ``tandem ledger verify``.
    """
    file = site.daemon.state / "ledger.sqlite"
    if not file.exists():
        raise SkipError("no ledger yet")
    if newest_good(file) is None or site.dice.random() < 0.5:
        _command(site, "backup")
        time.sleep(site.dice.uniform(0, 5))  # the line goes on beyond the backup
    site.daemon.end(signal.SIGTERM)
    try:
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as err:  # the small disk is full
        site.daemon.start()
        raise SkipError(f"the ledger cannot be written: {err}") from err
    damage = site.dice.choice(tuple(DAMAGES))
    DAMAGES[damage](file, site.dice)
    told = len(site.daemon.log)
    site.daemon.start()
    code = site.daemon.ended(REFUSAL_S)
    if not code:
        site.breaches.append(f"a ledger that is {damage}: the daemon's exit status is {code}")
        site.daemon.end(signal.SIGTERM)
    elif REMEDY not in site.daemon.log[told:]:
        site.breaches.append(f"a ledger that is {damage}: the daemon names no remedy")
    _command(site, "restore")
    site.heads = [head for head in site.heads if not site.ledger.lost([head])]
    site.daemon.start()


def _command(site: Site, verb: str) -> None:
    done = site.daemon.command("ledger", verb)
    if done.returncode:
        said = (done.stdout + done.stderr)[-300:]
        site.breaches.append(f"tandem ledger {verb} has the exit status {done.returncode}: {said}")


def _empty(file: Path, _dice: random.Random) -> None:
    os.truncate(file, 0)


def _cut(file: Path, dice: random.Random) -> None:
    os.truncate(file, int(file.stat().st_size * dice.uniform(0.1, 0.9)))


def _overwrite_pages(file: Path, dice: random.Random) -> None:
    """Overwrite pages that are in use: those that begin as nodes of a tree."""
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    nodes = [at for at in range(0, len(data), size) if at == 0 or data[at] in TREE_NODES]
    for at in dice.sample(nodes, min(len(nodes), dice.randint(1, 4))):
        data[at : at + size] = dice.randbytes(size)
    file.write_bytes(data)


DAMAGES: Mapping[str, Callable[[Path, random.Random], None]] = {
    "emptied": _empty,
    "cut off": _cut,
    "overwritten in part": _overwrite_pages,
    "gone": lambda file, _dice: file.unlink(),
}
