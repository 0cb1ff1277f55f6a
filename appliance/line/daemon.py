"""Daemon of ``tandem run``: composes the parts and waits.

Threads do the work: the *scan* finds slides, the *lanes* do steps in processes of their own, one
*delivery* for each destination empties the outbox, the *pulse* says that all of this goes on. They
communicate only through the ledger, so that no slow PACS, no long step and no bad file delays what
arrives, or what goes elsewhere.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

from appliance.artifacts import ArtifactStore
from appliance.assays.registry import check_assays, pairings
from appliance.errors import SettingsError, StoppedError, TransientError
from appliance.intake.watch import FolderWatch
from appliance.ledger.heartbeat import LaneSign, lives_elsewhere
from appliance.ledger.ledger import Ledger
from appliance.ledger.start import open_at_start
from appliance.line.alerting import Alerting
from appliance.line.auditing import Auditing
from appliance.line.context import StepContext
from appliance.line.deliveries import Deliveries
from appliance.line.executors import open_executor
from appliance.line.lanes import Lanes
from appliance.line.pulse import Pulse, Turns
from appliance.line.schedule import Schedule, jobs_of
from appliance.line.whose import let_merged_go
from appliance.line.workitems import WorkList
from appliance.operations.start_checks import check_start
from appliance.settings.installation import SALT_NAME, installation_salt
from appliance.settings.service import STOPPING, tell_manager
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

END_SECONDS = 20.0
"""Time for the threads to end when the daemon is stopped."""


class Daemon:
    """Running appliance; `run` returns after `stop` or a signal."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stop = threading.Event()
        self._why = "it was told to stop."
        self._scan = Turns("the scan of the scanner's folder takes very long")
        self._deliveries: Deliveries | None = None
        self._lanes: Lanes | None = None
        self._work: WorkList | None = None
        self._ledger: Ledger | None = None
        self._trouble = ""
        self._beside: dict[str, Turns] = {}
        self._pulse = Pulse(settings, self._signs)

    def stop(self, why: str = "it was told to stop.") -> None:
        """End all threads; running steps are abandoned and done again at the next start."""
        self._why = why
        tell_manager(STOPPING)
        self._stop.set()

    def run(self) -> None:
        """Run until stopped.

        Raises
        ------
        SettingsError
            If the folders cannot be used, no guideline fits the site's organ, a destination cannot
            hold the objects that its settings name, another daemon runs on the same state folder
            (also on another machine), or the ledger cannot be used.
        """
        settings = self.settings
        check_assays(settings)
        check_start(settings)
        # Where it has run before, the share is away: that ends by itself.
        known = settings.ledger_file.exists()
        if not known and not any(_is_folder(folder) for folder in settings.watch.roots):
            folder = settings.watch.roots[0]
            raise SettingsError(f"watch.folder = {folder}: no such folder. Create it, or mount it.")
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        with _only_daemon(settings.state_dir):
            # The lock is not seen by another machine that has mounted the folder.
            if lives_elsewhere(settings, self._stop.wait):
                raise SettingsError(
                    f"{settings.state_dir}: tandem run on another machine uses this state folder. "
                    "Stop one of them; a worker's machine runs tandem worker alone."
                )
            if (settings.state_dir / SALT_NAME).exists():
                self._read_salt()
            self._pulse.start()
            why = "an error that nobody foresaw; see the log."
            try:
                with closing(self._opened()) as ledger:
                    # Not drawn for a ledger that is to be restored: its backups have theirs.
                    self._read_salt()
                    self._run_threads(ledger)
                why = self._why
            except StoppedError:
                why = self._why
            except SettingsError as err:
                why = str(err)
                raise
            finally:
                self._pulse.end(why)

    def _read_salt(self) -> None:
        with suppress(OSError):  # a full disk: it is drawn when it is first needed
            installation_salt(self.settings.state_dir)

    def _opened(self) -> Ledger:
        """Open the ledger and free what an earlier run left; wait while its disk is full."""
        while True:
            try:
                ledger = open_at_start(self.settings.ledger_url, self._stop)
                with ledger.transaction() as tx:
                    freed = tx.release_claims()
                break
            except TransientError as err:
                log.warning("the ledger cannot be opened yet: %s", err.code)
                self._trouble = str(err)
                self._pulse.ready()  # the boot of the machine must not wait for room on a disk
                if self._stop.wait(err.wait_seconds):
                    raise StoppedError("stopped before the ledger could be opened") from err
        self._trouble = ""
        left = ArtifactStore(self.settings.artifacts_dir).sweep()
        if freed or left:
            log.info("taking up %d interrupted steps, %d unfinished results", freed, left)
        return ledger

    def _run_threads(self, ledger: Ledger) -> None:
        settings, self._ledger = self.settings, ledger
        self._deliveries = deliveries = Deliveries(ledger, settings, self._stop)
        executor = open_executor(settings, self._stop)
        wanted = pairings(settings)
        context = StepContext(
            ledger=ledger,
            settings=settings,
            name=f"{socket.gethostname()}:{os.getpid()}",
            pairings=wanted,
        )
        with ledger.transaction() as tx:
            let_merged_go(tx, settings, time.time())
        self._lanes = lanes = Lanes(context, executor, self._stop)
        watch = FolderWatch(ledger, settings.watch, settings.state_dir)
        scanning = threading.Thread(
            target=watch.run, args=(self._stop, self._scan), name="scan", daemon=True
        )
        schedule = Schedule(jobs_of(settings, ledger, wanted), self._stop)
        others = [scanning, *deliveries.threads, schedule, *self._asking(ledger)]
        if settings.alerts.mail is not None or settings.alerts.webhook is not None:
            others.append(Alerting(settings, self._stop))
        if settings.audit is not None:
            others.append(Auditing(settings, settings.audit, self._stop))
        beside = [each for each in others if isinstance(each, Schedule | Alerting | Auditing)]
        self._beside = {each.name: each.turns for each in beside}
        try:
            lanes.start()
            for thread in others:
                thread.start()
            self._pulse.ready()
            log.info("watching; state in %s", settings.state_dir)
            self._stop.wait()
        finally:
            self._stop.set()
            watch.wake()
            lanes.join(END_SECONDS)
            executor.close()
            _join(others)
            with suppress(TransientError, StoppedError), ledger.transaction() as tx:
                if tx.release_claims():
                    log.info("the steps in hand are done again at the next start")
            log.info("stopped")

    def _asking(self, ledger: Ledger) -> list[threading.Thread]:
        """Return the thread that follows a PACS's work list, where the settings name one."""
        if self.settings.workitems is None:
            return []
        self._work = WorkList(ledger, self.settings, self.settings.workitems, self._stop)
        return [threading.Thread(target=self._work.run, name="work list", daemon=True)]

    def _signs(self) -> Mapping[str, LaneSign]:
        """Return what each thread does."""
        now = time.time()
        signs = {"scan": self._scan.sign()}
        signs |= self._lanes.signs() if self._lanes is not None else {}
        signs |= self._deliveries.signs() if self._deliveries is not None else {}
        signs |= {name: turns.sign() for name, turns in self._beside.items()}
        signs |= {"work list": self._work.sign()} if self._work is not None else {}
        trouble = "it is being stopped" if self._stop.is_set() else self._trouble
        if trouble:
            signs["daemon"] = LaneSign(doing="", since=now, trouble=trouble)
        if self._ledger is not None and self._ledger.is_locked:
            locked = "another process holds it locked; waiting"
            signs["ledger"] = LaneSign(doing="", since=now, trouble=locked)
        return signs


def run_daemon(settings: Settings) -> None:
    """Run a daemon in this process until SIGTERM or SIGINT."""
    daemon = Daemon(settings)
    # A handler runs in the main thread, and not before that thread wakes: a signal that comes just
    # before it waits for a lock is lost. The number of a signal is written to this socket at once.
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def pass_on() -> None:
        if number := told.recv(1):
            daemon.stop(f"it received {signal.Signals(number[0]).name}.")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _nothing)  # without a handler of Python nothing is written
    signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    passing = threading.Thread(target=pass_on, name="signals", daemon=True)
    passing.start()
    try:
        daemon.run()
    finally:
        signal.set_wakeup_fd(-1)
        tell.close()  # ends the thread
        passing.join()
        told.close()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that is passed on already."""


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for threads to end, not for ever: a scan of a dead mount never does."""
    until = time.monotonic() + END_SECONDS
    for thread in threads:
        with suppress(RuntimeError):  # it was not started
            thread.join(max(until - time.monotonic(), 0.0))
        if thread.is_alive():
            log.warning("the %s does not end; it is left", thread.name)


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
