"""Executors run steps: in processes of this machine, or on the workers of a cluster.

An executor has slots in lanes. A step runs in a slot, in a process of its own, so that its death
never takes another step with it.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Literal, Protocol

from appliance.errors import SettingsError
from appliance.line.child import Child, Limits
from appliance.line.fork_server import serve_processes
from appliance.settings.settings import Settings

Resource = Literal["intake", "cpu", "gpu", "delivery"]


class Slot(Protocol):
    """Place where one step runs at a time."""

    def run(self, limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step to its end and return its value; errors as in `Child.run`."""


class Executor(Protocol):
    """Slots by lane; lanes are served by threads of the daemon."""

    @property
    def threads(self) -> Mapping[Resource, int]:
        """Number of threads that serve a lane: the most slots that it can ever have."""

    def slot(self, lane: Resource) -> AbstractContextManager[Slot | None]:
        """Lend a free slot of a lane, None where there is none now."""

    def trouble(self, lane: Resource) -> str:
        """Say why a lane has no slot at all; empty where its slots are all lent, or free."""

    def close(self) -> None:
        """End all processes; running steps are abandoned."""


NICE: Mapping[Resource, int] = {"intake": 0, "cpu": 5, "gpu": 10}
"""Niceness of the processes: what is cheap does not wait for cores that networks use."""


class LocalExecutor:
    """Processes of this machine; each slot keeps its process and the networks loaded in it.

    The thread that makes the executor must live as long: its end ends the processes.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings, self._stop = settings, stop
        lanes = settings.lanes
        self.threads: Mapping[Resource, int] = {
            "intake": lanes.intake,
            "cpu": lanes.cpu,
            "gpu": lanes.gpu,
        }
        self._free: dict[Resource, list[Child]] = defaultdict(list)
        self._all: list[Child] = []
        self._troubles: dict[int, str] = {}  # by thread
        self._gpus = 0
        self._lock = threading.Lock()
        self._forked = serve_processes()

    @contextmanager
    def slot(self, lane: Resource) -> Iterator[Slot | None]:
        """Lend a process of the lane; there is one for each thread that serves it.

        None where the process could not be started, and still cannot: no step is claimed for it.
        """
        with self._lock:
            child = self._free[lane].pop() if self._free[lane] else self._new(lane)
        try:
            trouble = self._troubles[threading.get_ident()] = child.trouble()
            yield None if trouble else child
        finally:
            with self._lock:
                self._free[lane].append(child)

    def trouble(self, _lane: Resource) -> str:
        """Say why the process of the calling thread cannot be started."""
        return self._troubles.get(threading.get_ident(), "")

    def _new(self, lane: Resource) -> Child:
        settings = self._settings
        gpu = None
        if lane == "gpu" and settings.lanes.gpu > 1:
            gpu = _gpu_of(self._gpus)
            self._gpus += 1
        child = Child(
            settings.logging,
            self._stop,
            settings.extensions,
            NICE[lane],
            gpu,
            forked=self._forked,
        )
        self._all.append(child)
        return child

    def close(self) -> None:
        """End all processes; running steps are abandoned."""
        with self._lock:
            for child in self._all:
                with suppress(Exception):  # the others are to end too
                    child.close()


def _gpu_of(process: int) -> str:
    """Return the only GPU that a process sees, of those that the site gave Tandem."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return str(process)
    listed = given.split(",")
    return listed[process % len(listed)].strip()


def open_executor(settings: Settings, stop: threading.Event) -> Executor:
    """Return the executor that the settings name.

    Raises
    ------
    SettingsError
        If they name a cluster, and it cannot be used with these settings.
    """
    if not settings.cluster.scheduler:
        return LocalExecutor(settings, stop)
    require_dask()
    # Imported here: the local executor needs no Dask.
    from appliance.line.cluster.executor import DaskExecutor

    return DaskExecutor(settings, stop)


def require_dask() -> None:
    """Check that Dask, an optional dependency, is installed.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if importlib.util.find_spec("distributed") is None:
        raise SettingsError("Dask is not installed: pip install 'tandem-her2[cluster]'.")
