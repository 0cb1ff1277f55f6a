"""The daemon's connection with the scheduler: a thread that keeps it, and looks at the workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from distributed import Client

from appliance.line.cluster.dask_settings import VERSION_KEY, configure_dask, security
from appliance.settings.cluster import Cluster

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Period of a look at the workers, and of an attempt to connect."""
SILENT_SECONDS = 10.0
"""Age of a worker's last sign from which it is given no further step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWorker:
    """A worker that is connected: its name, its slots by lane, and why it is given no step."""

    name: str
    slots: Mapping[str, int]
    trouble: str = ""


class SchedulerLink:
    """Connection with the scheduler; comes back by itself when the scheduler does."""

    def __init__(self, cluster: Cluster) -> None:
        configure_dask(cluster)
        self._cluster = cluster
        self._end = threading.Event()
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._workers: Mapping[str, KnownWorker] = {}
        self._trouble = _unreached(cluster, "not yet")
        self._signs: dict[str, tuple[float, float]] = {}
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()

    @property
    def client(self) -> Client | None:
        """Dask's client, None while the scheduler is away; another one after it was away."""
        return self._client

    @property
    def workers(self) -> Mapping[str, KnownWorker]:
        """Workers that are connected, by address."""
        return self._workers

    @property
    def trouble(self) -> str:
        """Why the scheduler cannot be used; empty while it can."""
        return self._trouble

    def wait(self, seconds: float) -> bool:
        """Wait for the first answer of the scheduler; return whether it came."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._trouble, seconds)

    def close(self) -> None:
        """End the connection; the scheduler forgets the tasks, and the workers abandon them."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                if self._client is None:
                    self._client = self._connected()
                self._look(self._client)
                self._say("")
            except Exception as err:
                log.debug("details", exc_info=err)
                self._say(_unreached(self._cluster, type(err).__name__))
                self._drop()
            self._end.wait(LOOK_SECONDS)
        self._drop()

    def _connected(self) -> Client:
        return Client(
            self._cluster.scheduler,
            security=security(self._cluster),
            timeout=self._cluster.connect_seconds,
            set_as_default=False,
            direct_to_workers=False,
            name="tandem",
        )

    def _drop(self) -> None:
        client, self._client, self._workers = self._client, None, {}
        self._signs.clear()
        if client is not None:
            # A scheduler that does not answer cannot be told either.
            with suppress(Exception):
                client.close(timeout=self._cluster.connect_seconds / 2)

    def _look(self, client: Client) -> None:
        if client.status != "running":
            raise ConnectionError("the connection was lost")
        found: dict[str, Any] = client.sync(
            client.scheduler.identity,
            n_workers=-1,
            callback_timeout=self._cluster.connect_seconds,
        )
        now = time.monotonic()
        self._workers = {
            address: KnownWorker(
                name=str(facts["name"]),
                slots={lane: int(count) for lane, count in facts["resources"].items()},
                trouble=self._trouble_of(address, facts, now),
            )
            for address, facts in found["workers"].items()
        }
        self._signs = {a: sign for a, sign in self._signs.items() if a in self._workers}

    def _trouble_of(self, address: str, facts: Mapping[str, Any], now: float) -> str:
        """Return why a worker is given no step; empty where it is given some."""
        # Clocks of machines differ: a sign of life is a time that has changed.
        name, own = facts["name"], version("tandem-her2")
        seen, since = self._signs.get(address, (0.0, now))
        if seen != facts["last_seen"]:
            since = now
        self._signs[address] = (facts["last_seen"], since)
        if facts.get(VERSION_KEY) != own:
            return f"worker {name} runs Tandem {facts.get(VERSION_KEY)}, not {own}"
        if facts["status"] != "running":
            return f"worker {name} is {facts['status']}"
        if now - since > min(SILENT_SECONDS, self._cluster.worker_ttl_seconds / 2):
            return f"worker {name} gives no sign of life"
        return ""

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        elif self._trouble and not trouble:
            log.info("connected to the scheduler %s", self._cluster.scheduler)
        with self._changed:
            self._trouble = trouble
            self._changed.notify_all()


def _unreached(cluster: Cluster, why: str) -> str:
    return f"the scheduler {cluster.scheduler} does not answer ({why}); start it: tandem scheduler"
