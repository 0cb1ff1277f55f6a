"""The site that faults are done to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.trial.beside import TrialCluster, TrialDashboard
from benchmarks.trial.daemon import TrialDaemon, step_workers
from benchmarks.trial.disk import SmallDisk
from benchmarks.trial.ledger import Head, TrialLedger

LEDGER_LOCK_S = 60.0


class SkipError(Exception):
    """A fault that cannot be done here or now; the message says why."""


@dataclass(slots=True, kw_only=True)
class Site:
    """Targets of the faults. `disk` is a small file system that holds the state folder, if any;
    `clock` the file that moves the clock, if any. `stop_s`: longest time a worker stays stopped.
    `heads` are events that were committed, which the ledger has to hold at the end. `odd` are files
    in the scanner's folder that no slide can be read from. `cluster` does the steps, if any.
    """

    daemon: TrialDaemon
    ledger: TrialLedger
    dashboard: TrialDashboard
    cluster: TrialCluster | None = None
    dice: random.Random
    lock_s: float = LEDGER_LOCK_S
    stop_s: float = 120.0
    disk: SmallDisk | None = None
    clock: Path | None = None
    breaches: list[str] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    odd: list[Path] = field(default_factory=list)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU of all processes of the site so far."""
        others = self.cluster.cpu_s if self.cluster is not None else 0.0
        return self.daemon.cpu_s + self.dashboard.cpu_s + others

    @property
    def step_workers(self) -> list[int]:
        """Process ids of the processes that run steps."""
        owners = [self.daemon.pid] if self.cluster is None else self.cluster.workers
        return [pid for owner in owners if owner for pid in step_workers(owner)]
