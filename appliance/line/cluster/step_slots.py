"""Steps inside a Dask worker: processes of the lanes, and the task that runs a step in one.

Dask cannot end a task that runs. Each step therefore runs in a `Child`, which is ended at the
step's deadline, when nobody wants the result any more (the daemon or the scheduler went), and when
the worker closes.
"""

from __future__ import annotations

import pickle
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from appliance.line.child import Child, Limits
from appliance.line.cluster.call import run_call
from appliance.line.cluster.dask_settings import STEP_SLOTS
from appliance.line.executors import NICE, Resource
from appliance.settings.settings import Settings
from appliance.slides.places import PathPairs


@dataclass(frozen=True, slots=True)
class _Place:
    """A process, and the event that abandons its step."""

    child: Child
    abandon: threading.Event = field(default_factory=threading.Event)


class StepSlots(WorkerPlugin):
    """Processes of a worker's lanes; each keeps the networks that it loaded."""

    name = STEP_SLOTS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pairs: PathPairs = tuple(
            (str(pair.there), str(pair.here)) for pair in settings.cluster.paths
        )
        self._lock = threading.Lock()
        self._free: dict[Resource, list[_Place]] = defaultdict(list)
        self._running: dict[str, _Place] = {}
        self._unwanted: set[str] = set()
        self._closed = False

    def run(self, key: str, lane: Resource, work: bytes, limits: Limits, pairs: PathPairs) -> Any:
        """Run a step; raise as `Child.run`."""
        with self._place(key, lane) as place:
            return place.child.run(limits, run_call, work, self._pairs or pairs)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Abandon a step whose result nobody wants any more. Dask calls it."""
        # A step that ends by itself goes from "executing" to "memory".
        if start == "executing" and finish == "released":
            with self._lock:
                self._unwanted.add(key)
                if key in self._running:
                    self._running[key].abandon.set()

    def teardown(self, worker: Worker) -> None:
        """End all processes. Dask calls it when the worker closes."""
        with self._lock:
            self._closed = True
            for place in self._running.values():
                place.abandon.set()
            for place in (place for places in self._free.values() for place in places):
                place.child.close()
            self._free.clear()

    @contextmanager
    def _place(self, key: str, lane: Resource) -> Iterator[_Place]:
        with self._lock:
            place = self._free[lane].pop() if self._free[lane] else self._new(lane)
            self._running[key] = place
            if self._closed or key in self._unwanted:
                place.abandon.set()
        try:
            yield place
        finally:
            with self._lock:
                del self._running[key]
                self._unwanted.discard(key)
                place.abandon.clear()
                if self._closed:
                    place.child.close()
                else:
                    self._free[lane].append(place)

    def _new(self, lane: Resource) -> _Place:
        abandon = threading.Event()
        settings = self._settings
        child = Child(settings.logging, abandon, settings.extensions, NICE[lane])
        return _Place(child, abandon)


def run_step(lane: Resource, work: bytes, limits: Limits, pairs: PathPairs) -> bytes:
    """Run a step in a worker; return whether it ended well and its value or error, pickled.

    A Dask task. It raises nothing: Dask would log the arguments, which hold paths.
    """
    worker = get_worker()
    slots: StepSlots = worker.plugins[STEP_SLOTS]
    try:
        value = slots.run(worker.get_current_task(), lane, work, limits, pairs)
        return pickle.dumps((True, value))
    except Exception as err:  # noqa: BLE001  the step's error goes to the daemon
        return pickle.dumps((False, err))
