"""The executor that runs steps on the workers of a Dask cluster.

A slot of a lane is lent where a worker has one free, so no task ever waits behind another one. Each
task is pinned to its worker and never done again by Dask: the ledger decides about that.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from appliance.errors import (
    ClusterAwayError,
    FolderAwayError,
    SettingsError,
    StateFolderError,
    StoppedError,
    WorkerLostError,
    WorkerStartError,
)
from appliance.line.child import Limits
from appliance.line.cluster.call import pickled_call
from appliance.line.cluster.link import SchedulerLink
from appliance.line.cluster.step_slots import run_step
from appliance.line.executors import Resource, Slot
from appliance.settings.settings import Settings
from appliance.slides.places import PathPairs

POLL_SECONDS = 0.1
MARGIN_SECONDS = 60.0
"""Time that a worker has, beyond a step's deadline, to end the step and say so."""
ANSWER_SECONDS = 30.0
"""Time to fetch the answer of a step that has ended."""
LEFT_OUT_SECONDS = 30.0
"""Time for which a worker is given no step after it could not run one."""


class DaskExecutor:
    """Slots of the workers that are connected; `stop` abandons the running steps."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        _require_absolute(settings)
        cluster, lanes = settings.cluster, settings.lanes
        self.threads: Mapping[Resource, int] = {
            "intake": cluster.workers * lanes.intake,
            "cpu": cluster.workers * lanes.cpu,
            "gpu": cluster.workers * lanes.gpu,
        }
        self._address = cluster.scheduler
        self._pairs: PathPairs = tuple((str(p.here), str(p.there)) for p in cluster.paths)
        self._stop = stop
        self._lock = threading.Lock()
        self._lent: Counter[tuple[str, Resource]] = Counter()
        self._left_out: dict[str, tuple[float, str]] = {}
        self._link = SchedulerLink(cluster)
        # The first steps need not wait for a look, where the cluster is there.
        self._link.wait(cluster.connect_seconds)

    @contextmanager
    def slot(self, lane: Resource) -> Iterator[Slot | None]:
        """Lend a free slot on the worker that has most of this lane free."""
        address = self._take(lane)
        if address is None:
            yield None
            return
        try:
            yield _DaskSlot(self, self._link, address, lane)
        finally:
            with self._lock:
                self._lent[address, lane] -= 1

    def trouble(self, lane: Resource) -> str:
        """Say why a lane has no slot at all; empty where it has."""
        if self._link.trouble:
            return self._link.trouble
        troubles = []
        for address, worker in self._link.workers.items():
            if worker.slots.get(lane, 0) < 1:
                continue
            why = worker.trouble or self._why_left_out(address)
            if not why:
                return ""
            troubles.append(why)
        if troubles:
            return ", ".join(sorted(troubles))
        return f"no worker is connected to {self._address}; start one: tandem worker"

    def close(self) -> None:
        """End the connection; the workers abandon the steps."""
        self._link.close()

    def submit(
        self, client: Client, address: str, lane: Resource, work: bytes, limits: Limits
    ) -> Future[bytes]:
        """Submit a step to one worker."""
        return client.submit(
            run_step,
            lane,
            work,
            limits,
            self._pairs,
            key=f"step-{uuid.uuid4().hex}",
            workers=[address],
            allow_other_workers=False,
            resources={lane: 1},
            retries=0,
            pure=False,
        )

    def leave_out(self, address: str, why: str) -> None:
        """Give a worker no step for some time."""
        with self._lock:
            self._left_out[address] = (time.monotonic() + LEFT_OUT_SECONDS, why)

    @property
    def stopped(self) -> threading.Event:
        """Event that abandons all steps."""
        return self._stop

    def _take(self, lane: Resource) -> str | None:
        with self._lock:
            free = {
                address: worker.slots.get(lane, 0) - self._lent[address, lane]
                for address, worker in self._link.workers.items()
                if not worker.trouble and not self._why_left_out(address)
            }
            # Of equal ones that which has least to do in other lanes.
            best = max(free, key=lambda a: (free[a], -self._busy(a), a), default=None)
            if best is None or free[best] < 1:
                return None
            self._lent[best, lane] += 1
            return best

    def _busy(self, address: str) -> int:
        return sum(count for (known, _), count in self._lent.items() if known == address)

    def _why_left_out(self, address: str) -> str:
        until, why = self._left_out.get(address, (0.0, ""))
        return why if time.monotonic() < until else ""


class _DaskSlot:
    """A slot of one worker."""

    def __init__(
        self, executor: DaskExecutor, link: SchedulerLink, address: str, lane: Resource
    ) -> None:
        self._executor, self._link = executor, link
        self._address, self._lane = address, lane

    def run(self, limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step on the worker and return its value.

        Raises
        ------
        ClusterAwayError
            If the scheduler went, or the worker could not run the step.
        WorkerLostError
            If the worker went.
        StoppedError
            If the daemon was stopped; the worker abandons the step.
        Exception
            Any exception of `Child.run` on the worker, and any that the step raised.
        """
        client = self._link.client
        if client is None:
            raise ClusterAwayError(f"{self._link.trouble}. The step is tried again by itself.")
        work = pickled_call(function, arguments)
        future = self._executor.submit(client, self._address, self._lane, work, limits)
        try:
            answer = self._answer(client, future, limits)
        finally:
            with suppress(Exception):  # a client that was closed meanwhile
                future.release()
        ended_well, value = pickle.loads(answer)  # noqa: S301  from our own worker, over TLS
        if ended_well:
            return value
        if isinstance(value, StoppedError):  # the worker's, not the daemon's
            raise WorkerLostError("A worker was stopped; its steps are done again.") from value
        if isinstance(value, (FolderAwayError, StateFolderError, WorkerStartError)):
            # Its slots stay free and would be lent before those of workers that work.
            self._executor.leave_out(self._address, str(value))
        raise value

    def _answer(self, client: Client, future: Future[bytes], limits: Limits) -> bytes:
        """Wait for the end of a task."""
        end = time.monotonic() + limits.deadline_s + MARGIN_SECONDS
        while (status := future.status) == "pending":
            if self._executor.stopped.wait(POLL_SECONDS):
                raise StoppedError("the daemon was stopped")
            if self._link.client is not client:
                raise _away(self._link.trouble)
            if self._address not in self._link.workers:
                # Dask would wait for ever for the worker to which the task is pinned.
                raise WorkerLostError("A worker went; its steps are done again.")
            if time.monotonic() > end:
                self._executor.leave_out(self._address, "a worker did not end a step")
                raise WorkerLostError("A worker did not answer in time; its step is done again.")
        if status not in ("finished", "error"):
            raise _away(self._link.trouble)
        try:
            answer: bytes = future.result(timeout=ANSWER_SECONDS)
            return answer
        except (OSError, asyncio.CancelledError, concurrent.futures.CancelledError) as err:
            raise WorkerLostError("A worker went; its steps are done again.") from err
        except KilledWorker as err:
            raise WorkerLostError("A worker died; its steps are done again.") from err
        except Exception as err:  # any error of Dask's own: the step itself raises nothing
            why = f"a worker cannot run steps ({type(err).__name__})"
            self._executor.leave_out(self._address, why)
            raise _away(why) from err


def _away(why: str) -> ClusterAwayError:
    reason = why or "the connection with the scheduler was lost"
    return ClusterAwayError(f"{reason}. The step is tried again by itself.")


def _require_absolute(settings: Settings) -> None:
    for name, path in (
        ("state_dir", settings.state_dir),
        *(("watch.folder", root) for root in settings.watch.roots),
    ):
        if not path.is_absolute():
            raise SettingsError(
                f"{name} = {path}: write an absolute path; workers of a cluster have other "
                "working directories."
            )
