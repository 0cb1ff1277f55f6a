"""The daemon of a trial: ``tandem run`` in a process of its own, with its settings and folders."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.quick import EXTENSIONS

TANDEM = Path(sys.executable).with_name("tandem")
STABLE_S, PATIENCE_S, RESCAN_S = 1.0, 4.0, 2.0


class TrialDaemon:
    """``tandem run`` on folders below `folder`: scans, state, and a shelf for objects.

    `quick`: the stand-ins of `benchmarks.quick` in place of the networks, and a destination that
    notes each store; else embedded defaults. `shelf` and `state` may lie elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quick: bool,
        stable_s: float = STABLE_S,
        state: Path | None = None,
        environment: Mapping[str, str] | None = None,
        settings: str = "",
    ) -> None:
        self.folder = folder
        self.stable_s = stable_s
        self.scans, self.shelf = folder / "scans", folder / "shelf"
        self.state = state or folder / "state"
        self.config = folder / "tandem.toml"
        self.environment = dict(os.environ) | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.own_deaths: list[int] = []
        """Exit codes of ends that nobody caused."""
        self._spent_s = 0.0
        for path in (self.scans, self.shelf):
            path.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self._settings(quick, settings))

    def _settings(self, quick: bool, more: str) -> str:
        lines = [f"state_dir = {json.dumps(str(self.state))}", "low_disk_gib = 0"]
        if quick:
            lines.append(f"extensions = {json.dumps(EXTENSIONS)}")
        lines += [
            more,
            "[watch]",
            f"folder = {json.dumps(str(self.scans))}",
            f"rescan_seconds = {RESCAN_S}",
            f"stable_seconds = {self.stable_s}",
            f"patience_seconds = {PATIENCE_S}",
            f"series_patience_seconds = {PATIENCE_S}",
            "[delivery]",
            "first_retry_seconds = 1",
            "last_retry_seconds = 4",
        ]
        if quick:
            lines += [
                "[pair]",
                'expected_assays = ["quick"]',
                "[[destinations]]",
                'kind = "recorder"',
                f"shelf = {json.dumps(str(self.shelf))}",
            ]
        return "\n".join(lines) + "\n"

    @property
    def pid(self) -> int:
        """Process id of the running daemon; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        """True while it runs; an end that nobody caused is noted."""
        if self._process is not None and self._process.poll() is not None:
            self.own_deaths.append(self._process.returncode)
            self._process = None
        return self._process is not None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        with (self.folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(TANDEM), "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def end(self, number: signal.Signals, times: int = 1, most_s: float = 360.0) -> None:
        """Send a signal `times` times to its group (SIGKILL: to it alone), and wait for its end."""
        if not self.running or self._process is None:
            return
        process = self._process
        self._spent_s += cpu_seconds(process.pid)
        for _ in range(times):
            with suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    process.kill()
                else:
                    os.killpg(process.pid, number)
            time.sleep(0.02 if times > 1 else 0.0)
        try:
            process.wait(most_s)
        except subprocess.TimeoutExpired:
            self.own_deaths.append(-1)  # it did not end: as bad as a death
            process.kill()
            process.wait()
        self._process = None

    def ended(self, most_s: float) -> int | None:
        """Wait for an end that is expected; return its exit code, None where it goes on."""
        if self._process is None:
            return None
        before = _ended_children_s()
        try:
            code = self._process.wait(most_s)
        except subprocess.TimeoutExpired:
            return None
        self._spent_s += _ended_children_s() - before
        self._process = None
        return code

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``tandem`` with the daemon's settings, by the true clock."""
        line = [str(TANDEM), *words, "--config", str(self.config)]
        before = _ended_children_s()
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        self._spent_s += _ended_children_s() - before
        return done

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU of all daemons, of their workers and of commands so far."""
        return self._spent_s + (cpu_seconds(self.pid) if self.pid else 0.0)

    @property
    def log(self) -> str:
        """All that it wrote to its log."""
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def running(daemon: TrialDaemon) -> Iterator[TrialDaemon]:
    """Start a daemon, and end it and its children whatever happens, SIGTERM of ours included."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


def descendants(pid: int) -> list[int]:
    """Return the process ids of all children of a process, and of their children; of 0, none."""
    if pid == 0:  # no daemon: the kernel's own number is the parent of all
        return []
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process and its descendants, the ended ones included."""
    total = 0
    for each in (pid, *descendants(pid)):
        with suppress(OSError):
            stat = (Path("/proc") / str(each) / "stat").read_text()
            fields = stat.rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def _ended_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def step_workers(pid: int) -> list[int]:
    """Return the processes that run steps: those that a daemon's server has forked, or that a
    worker of a cluster has spawned."""
    forked, spawned = set(), []
    for child in descendants(pid):
        with suppress(OSError):
            words = (Path("/proc") / str(child) / "cmdline").read_bytes().split(b"\0")
            if any(b"forkserver" in word for word in words):
                forked.add(child)
            if any(b"spawn_main" in word for word in words):
                spawned.append(child)
    return spawned + [child for child in forked if _parent(child) != pid]


def _parent(pid: int) -> int:
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
