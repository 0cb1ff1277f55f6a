"""Faults of chaos: each is done to a running site, and is over when its function returns."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.quick.recorder import MOODS, REFUSALS, mood_file
from benchmarks.trial.beside import SCHEDULER, WORKERS
from benchmarks.trial.ledger import TrialLedger
from benchmarks.trial.odd import odd_files
from benchmarks.trial.site import Site, SkipError
from benchmarks.trial.state_faults import (
    damage_ledger,
    disk_full,
    flip_artifact,
    lock_ledger,
    power_loss,
)

STARTED_S = 15.0
"""Age from which a worker has started, and gives signs of life."""
CLOCK_STEPS = ("-86400", "+86400", "-600", "+7200")
"""Jumps of the clock in seconds."""


def kill_daemon(site: Site) -> None:
    """Send SIGKILL to the daemon, and start it again."""
    site.daemon.end(signal.SIGKILL)
    site.daemon.start()


def kill_worker(site: Site) -> None:
    """Send SIGKILL to a worker."""
    with suppress(ProcessLookupError):
        os.kill(_worker(site), signal.SIGKILL)


def stop_worker(site: Site) -> None:
    """Send SIGSTOP to a worker that works; the deadline of its step has to end it.

    One whose step ended just then has no deadline; it is replaced before its next step.
    """
    pid = _worker(site, at_work=True)
    os.kill(pid, signal.SIGSTOP)
    claims = site.ledger.snapshot().claims
    began = time.monotonic()
    while _process_state(pid) == "T" and time.monotonic() - began < site.stop_s:
        time.sleep(0.2)
    if _process_state(pid) == "T":
        if claims & site.ledger.snapshot().claims:
            site.breaches.append(f"a stopped worker was not ended within {site.stop_s:.0f} s")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def term_storm(site: Site) -> None:
    """Send SIGTERM many times to the daemon and its workers, and start it again."""
    site.daemon.end(signal.SIGTERM, times=site.dice.randint(2, 20))
    site.daemon.start()


def share_away(site: Site) -> None:
    """Rename the scanner's folder away for some seconds; its mount point may stay, empty."""
    scans = site.daemon.scans
    away = scans.with_name("scans-away")
    bare = site.dice.random() < 0.5
    scans.rename(away)
    if bare:
        scans.mkdir()
    time.sleep(site.dice.uniform(2, 8))
    if bare:
        scans.rmdir()
    away.rename(scans)


def shelf_away(site: Site) -> None:
    """Rename the destination's folder away for some seconds."""
    shelf = site.daemon.shelf
    away = shelf.with_name("shelf-away")
    shelf.rename(away)
    time.sleep(site.dice.uniform(2, 5))
    away.rename(shelf)


def shelf_lies(site: Site) -> None:
    """Let the destination lose objects, lose its answers, or hang, for some seconds."""
    _in_a_mood(site, MOODS)


def shelf_refuses(site: Site) -> None:
    """Let the destination refuse each object for now, or whoever sends, for some seconds."""
    _in_a_mood(site, REFUSALS)


def _in_a_mood(site: Site, moods: Sequence[str]) -> None:
    mood = mood_file(site.daemon.shelf)
    mood.write_text(site.dice.choice(moods))
    time.sleep(site.dice.uniform(2, 6))
    mood.unlink()


def odd_slide(site: Site) -> None:
    """Put damaged files into the scanner's folder, which stay there."""
    for path, data in odd_files(site.daemon.scans, len(site.odd), site.dice):
        path.write_bytes(data)
        site.odd.append(path)


def overwrite_slide(site: Site) -> None:
    """Overwrite a slide that is worked on with another one, and put it back before it is stable."""
    for _ in range(40):
        at_work, others = _slides_at_work(site.ledger)
        if at_work and others:
            break
        time.sleep(0.2)
    else:
        raise SkipError("no slide is worked on")
    path, other = site.dice.choice(at_work), site.dice.choice(others)
    kept, facts = path.read_bytes(), path.stat()
    path.write_bytes(other.read_bytes())
    time.sleep(site.dice.uniform(0.1, 0.4 * site.daemon.stable_s))
    path.write_bytes(kept)
    if site.dice.random() < 0.5:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _slides_at_work(ledger: TrialLedger) -> tuple[list[Path], list[Path]]:
    """Return the slides of the steps that run, and all others."""
    found = ledger.snapshot()
    cases = {(row.accession, row.block) for row in found.cases if row.claimed_by}
    at_work: list[Path] = []
    others: list[Path] = []
    for row in found.slides:
        claimed = row.claimed_by or (row.accession, row.block) in cases
        (at_work if claimed else others).append(Path(row.path))
    return at_work, others


def kill_dashboard(site: Site) -> None:
    """Send SIGKILL to the dashboard's server, start it again, and ask for its pages."""
    cases = [row.id for row in site.ledger.snapshot().cases if row.id is not None]
    looked_at = site.dice.sample(cases, min(len(cases), 3))
    site.dashboard.end()
    site.dashboard.start()
    if not site.dashboard.answers():
        site.breaches.append("the dashboard does not answer")
    site.breaches += [f"the dashboard fails: {why}" for why in site.dashboard.failing(looked_at)]


def kill_cluster_worker(site: Site) -> None:
    """Send SIGKILL to a worker of the cluster with its steps, and start it again."""
    _kill_part(site, site.dice.choice(WORKERS))


def kill_scheduler(site: Site) -> None:
    """Send SIGKILL to the scheduler of the cluster, and start it again."""
    _kill_part(site, SCHEDULER)


def _kill_part(site: Site, name: str) -> None:
    if site.cluster is None:
        raise SkipError("no cluster")
    site.cluster.parts[name].end()
    time.sleep(site.dice.uniform(0, 3))
    site.cluster.parts[name].start()


def move_clock(site: Site) -> None:
    """Set the clock forward or back for some seconds."""
    if site.clock is None:
        raise SkipError("no libfaketime")
    site.clock.write_text(site.dice.choice(CLOCK_STEPS))
    time.sleep(site.dice.uniform(2, 6))
    site.clock.write_text("+0")


FAULTS: Mapping[str, Callable[[Site], None]] = {
    "kill-daemon": kill_daemon,
    "kill-worker": kill_worker,
    "stop-worker": stop_worker,
    "term-storm": term_storm,
    "share-away": share_away,
    "shelf-away": shelf_away,
    "shelf-lies": shelf_lies,
    "shelf-refuses": shelf_refuses,
    "disk-full": disk_full,
    "power-loss": power_loss,
    "ledger-locked": lock_ledger,
    "ledger-damaged": damage_ledger,
    "artifact-flipped": flip_artifact,
    "slide-overwritten": overwrite_slide,
    "odd-slide": odd_slide,
    "clock-moved": move_clock,
    "kill-dashboard": kill_dashboard,
}
CLUSTER_FAULTS: Mapping[str, Callable[[Site], None]] = {
    "kill-cluster-worker": kill_cluster_worker,
    "kill-scheduler": kill_scheduler,
}
"""Faults of a site whose steps are done by a cluster."""


def faketime_library() -> Path | None:
    """Return the library that moves the clock of a process, where it is installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


def copy_in(slides: list[Path], scans: Path) -> None:
    """Copy slides into the folder; each gets its name when it is whole."""
    for slide in slides:
        temporary = scans / f"~{slide.name}.part"
        with suppress(FileNotFoundError):  # the share is away: the caller tries again
            shutil.copyfile(slide, temporary)
            temporary.rename(scans / slide.name)


def _worker(site: Site, *, at_work: bool = False) -> int:
    """Return a worker's process id; with `at_work`, the one that used most CPU just now.

    Those that start have a longer time without a sign of life.
    """
    workers = site.step_workers
    if at_work:
        workers = [pid for pid in workers if _age_s(pid) > STARTED_S]
    if not workers:
        raise SkipError("no worker runs")
    if not at_work:
        return site.dice.choice(workers)
    before = {pid: _ticks(pid) for pid in workers}
    time.sleep(0.3)
    busiest = max(workers, key=lambda pid: _ticks(pid) - before[pid])
    if _ticks(busiest) - before[busiest] <= 0:
        raise SkipError("no worker works")
    return busiest


def _ticks(pid: int) -> int:
    fields = _facts(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _age_s(pid: int) -> float:
    fields = _facts(pid)
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return uptime_s - int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _process_state(pid: int) -> str:
    return (*_facts(pid), "")[0]


def _facts(pid: int) -> list[str]:
    """Return the fields of a process from its state on (proc(5)); empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
