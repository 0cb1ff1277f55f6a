"""The other processes of a cluster: the scheduler, and a worker that comes back to it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from distributed import Scheduler, Worker
from distributed.worker import DEFAULT_STARTUP_INFORMATION

from appliance.errors import SettingsError
from appliance.line.cluster.dask_settings import VERSION_KEY, configure_dask, security
from appliance.line.cluster.step_slots import StepSlots
from appliance.line.executors import Resource
from appliance.settings.service import ALIVE, BEAT_SECONDS, READY, STOPPING, tell_manager
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0
"""Pause before a worker looks for the scheduler again."""
CLOSE_SECONDS = 5.0
NO_PAGES = "127.0.0.1:0"
"""Address of Dask's pages, which have no content here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Offer of a worker: `slots` by lane, under a `name`.

    `host` and `port` are those at which the scheduler reaches it: empty and 0 are chosen by itself.
    `gpu` is the number of the GPU that it uses; empty: all that there are.
    """

    slots: Mapping[Resource, int]
    name: str
    host: str = ""
    port: int = 0
    gpu: str = ""


def run_scheduler(settings: Settings, host: str = "") -> None:
    """Run the scheduler until SIGTERM or SIGINT.

    Raises
    ------
    SettingsError
        If the settings name no cluster, or its port or its TLS files cannot be used.
    """
    _require_cluster(settings)
    asyncio.run(_schedule(settings, host))


def run_worker(settings: Settings, options: WorkerOptions) -> None:
    """Run a worker until SIGTERM or SIGINT; it waits for the scheduler whenever that is away.

    Raises
    ------
    SettingsError
        If the settings name no cluster, or its TLS files cannot be used.
    """
    _require_cluster(settings)
    if options.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = options.gpu
    asyncio.run(_work(settings, options))


def _require_cluster(settings: Settings) -> None:
    if not settings.cluster.scheduler:
        raise SettingsError("cluster.scheduler is empty: name its address, tls://HOST:PORT.")
    configure_dask(settings.cluster)
    try:
        for role in ("scheduler", "worker"):
            security(settings.cluster).get_listen_args(role)
    except (OSError, ValueError) as err:
        raise SettingsError(
            f"the TLS files of [cluster] cannot be used ({type(err).__name__}: {err})."
        ) from err


async def _schedule(settings: Settings, host: str) -> None:
    cluster, ended = settings.cluster, _ended()
    scheduler = Scheduler(
        host=host or None,
        port=cluster.port,
        protocol="tls",
        security=security(cluster),
        dashboard=False,
        dashboard_address=NO_PAGES,
    )
    try:
        await scheduler
    except OSError as err:
        raise SettingsError(f"port {cluster.port} cannot be used: {err.strerror or err}.") from err
    log.info("scheduler at %s", scheduler.address)
    async with _service():
        await ended.wait()
    await scheduler.close()


async def _work(settings: Settings, options: WorkerOptions) -> None:
    ended = _ended()
    with tempfile.TemporaryDirectory(prefix="tandem-worker-") as scratch:
        # Ready before the scheduler is there: it may be the machine that is started last.
        async with _service():
            await _serve(settings, options, ended, scratch)


async def _serve(
    settings: Settings, options: WorkerOptions, ended: asyncio.Event, scratch: str
) -> None:
    """Work for the scheduler whenever it is there, until the process is told to end."""
    while not ended.is_set():
        worker = _worker(settings, options, scratch)
        log.info("waiting for the scheduler %s", settings.cluster.scheduler)
        try:
            await _first(ended, _started(worker))
            if not ended.is_set():
                log.info("worker %s connected to %s", options.name, settings.cluster.scheduler)
                await _first(ended, worker.finished())
            if not ended.is_set():
                log.warning("the connection ended; steps that ran were abandoned")
        except (OSError, ValueError, RuntimeError) as err:
            log.warning("worker %s cannot start: %s", options.name, err.__cause__ or err)
        with suppress(OSError):
            await worker.close(timeout=CLOSE_SECONDS, reason="tandem worker ends")
        await _first(ended, asyncio.sleep(AGAIN_SECONDS))


def _worker(settings: Settings, options: WorkerOptions, scratch: str) -> Worker:
    slots = {lane: count for lane, count in options.slots.items() if count > 0}
    return Worker(
        settings.cluster.scheduler,
        nthreads=sum(slots.values()),
        resources=slots,
        name=options.name,
        host=options.host or None,
        port=options.port,
        security=security(settings.cluster),
        local_directory=scratch,
        memory_limit=0,  # the steps' processes hold the memory, and the kernel ends the largest
        dashboard=False,
        dashboard_address=NO_PAGES,
        startup_information={
            **DEFAULT_STARTUP_INFORMATION,
            VERSION_KEY: lambda _: version("tandem-her2"),
        },
        plugins=(StepSlots(settings),),
    )


async def _started(worker: Worker) -> None:
    await worker


async def _first(ended: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Wait until `work` is done, or the process is told to end."""
    task, told = asyncio.ensure_future(work), asyncio.ensure_future(ended.wait())
    await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _service() -> AsyncIterator[None]:
    """Tell the service manager that this process is ready, and that its loop lives."""

    async def beat() -> None:
        while True:
            tell_manager(ALIVE)
            await asyncio.sleep(BEAT_SECONDS)

    tell_manager(READY)
    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        tell_manager(STOPPING)
        beating.cancel()


def _ended() -> asyncio.Event:
    """Return the event that SIGTERM and SIGINT set."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended
