"""Daemon of ``tandem run``: composes the parts and runs three loops.

The *analysis* loop (main thread) does the next step of the oldest slide or case in the worker
process. The *scan* loop and the *delivery* loop have threads of their own: no slow PACS and no long
step delays what arrives. The loops communicate only through the ledger.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from appliance.artifacts import ArtifactStore
from appliance.assays.registry import check_assays, pairings
from appliance.delivery.destinations.contract import Destination, open_destination
from appliance.delivery.outbox import Outbox
from appliance.errors import SettingsError, StoppedError
from appliance.intake.watch import FolderWatch
from appliance.ledger.ledger import Ledger
from appliance.line.context import StepContext
from appliance.line.dispatcher import work_once
from appliance.line.executors import Workers
from appliance.line.schedule import build_schedule
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""Pause of the analysis loop when there is nothing to do."""
DELIVERY_SECONDS = 1.0
"""Period of the delivery loop; an empty outbox costs one query."""


class Daemon:
    """Running appliance; `run` returns after `stop` or a signal."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stop = threading.Event()
        self._wake = threading.Event()

    def stop(self) -> None:
        """End both loops; a running step is abandoned and done again at the next start."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Run until stopped.

        Raises
        ------
        SettingsError
            If the folders cannot be used, no guideline fits the site's organ, a destination cannot
            hold the objects that its settings name, another daemon runs on the same state folder,
            or another build created that folder.
        """
        settings = self.settings
        check_assays(settings)
        if not any(_is_folder(folder) for folder in settings.watch.roots):
            folder = settings.watch.roots[0]
            raise SettingsError(f"watch.folder = {folder}: no such folder. Create it, or mount it.")
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        with _only_daemon(settings.state_dir):
            ledger = Ledger(settings.ledger_url)
            with ledger.transaction() as tx:
                freed = tx.release_claims()
            left = ArtifactStore(settings.artifacts_dir).sweep()
            if freed or left:
                log.info("taking up %d interrupted steps, %d unfinished results", freed, left)
            self._run_loops(ledger)
            ledger.close()

    def _run_loops(self, ledger: Ledger) -> None:
        settings = self.settings
        destinations = {
            section.name: open_destination(settings, section) for section in settings.destinations
        }
        workers = Workers(settings.log_level, self._stop, settings.extensions)
        wanted = pairings(settings)
        context = StepContext(
            ledger=ledger,
            settings=settings,
            workers=workers,
            name=f"{socket.gethostname()}:{os.getpid()}",
            pairings=wanted,
        )
        watch = FolderWatch(ledger, settings.watch, settings.state_dir)
        scanning = threading.Thread(target=watch.run, args=(self._stop,), name="scan", daemon=True)
        schedule = build_schedule(settings, ledger, watch.wake, wanted)
        delivery = threading.Thread(
            target=self._deliver, args=(ledger, destinations), name="delivery", daemon=True
        )
        scanning.start()
        schedule.start()
        delivery.start()
        log.info("watching; state in %s", settings.state_dir)
        try:
            while not self._stop.is_set():
                if not work_once(context):
                    self._wake.wait(IDLE_SECONDS)
        except StoppedError:
            with ledger.transaction() as tx:
                tx.release_claims()
            log.info("the step in hand is done again at the next start")
        finally:
            self._stop.set()
            schedule.shutdown(wait=False)
            watch.wake()
            scanning.join()
            delivery.join()
            workers.close()
            log.info("stopped")

    def _deliver(self, ledger: Ledger, destinations: dict[str, Destination]) -> None:
        outbox = Outbox(ledger, self.settings, destinations)
        while not self._stop.is_set():
            try:
                outbox.run()
            except Exception as err:  # per-step boundary: the delivery loop goes on
                log.error("the outbox failed: %s; it is tried again", type(err).__name__)
                log.debug("details", exc_info=err)
                self._stop.wait(10 * DELIVERY_SECONDS)
            self._stop.wait(DELIVERY_SECONDS)
        for destination in destinations.values():
            destination.close()


def run_daemon(settings: Settings) -> None:
    """Run a daemon in this process until SIGTERM or SIGINT."""
    daemon = Daemon(settings)

    def end(_number: int, _frame: FrameType | None) -> None:
        daemon.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    daemon.run()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a share that answers EACCES, EIO or ESTALE
        return False


@contextmanager
def _only_daemon(state_dir: Path) -> Iterator[None]:
    """Hold the lock of a state folder; the kernel frees it when the process dies."""
    with (state_dir / "daemon.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise SettingsError(
                f"{state_dir}: another tandem run uses this state folder. Stop it first."
            ) from err
        yield
