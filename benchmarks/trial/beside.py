"""Processes of a trial beside its daemon: the dashboard's server, a scheduler and its workers."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

from benchmarks.trial.daemon import TANDEM, cpu_seconds

SCHEDULER = "scheduler"
WORKERS = ("one", "two")
SLOTS = ("--intake", "1", "--cpu", "1", "--gpu", "1")
ANSWER_S = 360.0
"""Longest time until the dashboard's server answers after its start."""
PORTS = range(10_000, 20_000)
"""Ports of servers: below those that Linux gives to connections (32768 to 60999), of which one may
be taken before the server binds it, and below those of the tests."""
SERVER_ERROR = 500
NOT_READY = 503


class Beside:
    """A process that is started, killed and started again; its output goes to a log."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._log = list(command), log
        self._environment = os.environ | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._spent_s = 0.0

    @property
    def pid(self) -> int:
        """Process id; 0 where it does not run."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else 0

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU of all its processes so far."""
        return self._spent_s + (cpu_seconds(self.pid) if self.pid else 0.0)

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def end(self) -> None:
        """Send SIGKILL to it and its children, stopped ones included, and wait for its end."""
        if self._process is None:
            return
        self._spent_s = self.cpu_s
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


class TrialDashboard(Beside):
    """The dashboard's server on loopback, with a daemon's settings."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.address = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "dashboard.serve", "--config", str(config)]
        super().__init__([*command, "--port", str(port)], folder / "dashboard.log")

    def answers(self) -> bool:
        """Wait until it answers; return False where it does not within `ANSWER_S`."""
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            with suppress(OSError):
                return self._status("/healthz") < SERVER_ERROR
            time.sleep(0.2)
        return False

    def failing(self, cases: Sequence[int]) -> list[str]:
        """Ask for pages, figures and the pictures of cases; return those that fail, with why."""
        paths = ["/", "/metrics", "/readyz"]
        paths += [f"/zoom/{case}/case.json" for case in cases]
        paths += [f"/thumbs/{case}.jpg" for case in cases]
        found = []
        for path in paths:
            try:
                status = self._status(path)
            except OSError as err:
                found.append(f"{path}: {type(err).__name__}")
                continue
            # 503: the appliance does not work just now, as faults have it.
            if status >= SERVER_ERROR and (path, status) != ("/readyz", NOT_READY):
                found.append(f"{path}: status {status}")
        return found

    def _status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=300) as answer:  # noqa: S310
                answer.read()
                return int(answer.status)
        except HTTPError as err:
            return err.code


class TrialCluster:
    """A scheduler and two workers on loopback, joined by TLS; `section` is of the settings."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        _certificate(folder)
        self.section = (
            "[cluster]\n"
            f'scheduler = "tls://127.0.0.1:{free_port()}"\n'
            f"ca_file = {json.dumps(str(folder / 'ca.pem'))}\n"
            f"certificate = {json.dumps(str(folder / 'tandem.pem'))}\n"
            f"key = {json.dumps(str(folder / 'tandem.key'))}\n"
            f"worker_ttl_seconds = 10\nworkers = {len(WORKERS)}\n"
        )
        self.parts: dict[str, Beside] = {}

    def set_up(self, config: Path, environment: Mapping[str, str]) -> None:
        """Prepare the processes, which `start` starts."""
        commands = {SCHEDULER: [SCHEDULER, "--host", "127.0.0.1"]}
        commands |= {name: ["worker", "--name", name, *SLOTS] for name in WORKERS}
        for name, words in commands.items():
            command = [str(TANDEM), *words, "--config", str(config)]
            self.parts[name] = Beside(command, self._folder / f"{name}.log", environment)

    def start(self) -> None:
        """Start what does not run."""
        for part in self.parts.values():
            part.start()

    def end(self) -> None:
        """End all processes."""
        for part in self.parts.values():
            part.end()

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that run."""
        return [pid for name in WORKERS if (pid := self.parts[name].pid)]

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU of all its processes so far."""
        return sum(part.cpu_s for part in self.parts.values())


def free_port() -> int:
    """Return a port of loopback that is free now, and that no connection takes meanwhile.

    Raises
    ------
    OSError
        If none of those that were tried is free.
    """
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def _certificate(folder: Path) -> None:
    """Make an authority and a certificate, by the commands of docs/cluster.md."""
    openssl = shutil.which("openssl") or "openssl"
    key = ("-newkey", "rsa:2048", "-nodes")
    authority = ("-x509", *key, "-subj", "/CN=Tandem cluster", "-keyout", "ca.key")
    signing = ("-in", "tandem.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    request = (*key, "-subj", "/CN=tandem", "-keyout", "tandem.key")
    for command in (
        ("req", *authority, "-out", "ca.pem"),
        ("req", *request, "-out", "tandem.csr"),
        ("x509", "-req", *signing, "-out", "tandem.pem"),
    ):
        subprocess.run([openssl, *command], cwd=folder, capture_output=True, check=True)
