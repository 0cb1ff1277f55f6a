"""Executor of steps: a spawned process, so that a crash ends the worker and not the daemon."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from threading import Event
from typing import ParamSpec, TypeVar

from appliance.errors import StoppedError, WorkerDiedError
from appliance.settings.extensions import load_extensions
from appliance.settings.logs import configure_logging

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 0.2
"""Period at which a running step is checked for abandonment."""


def _prepare_worker(log_level: str, extensions: Sequence[str]) -> None:
    configure_logging(log_level)
    # Ignored: Ctrl-C and systemd's SIGTERM reach the whole process group, and the daemon ends its
    # worker itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        # The kernel kills the worker with the daemon: a killed daemon must not leave a worker that
        # holds the GPU.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    load_extensions(extensions)


class Workers:
    """Spawned worker process; replaced when it dies, killed when `stop` is set."""

    def __init__(
        self, log_level: str, stop: Event | None = None, extensions: Sequence[str] = ()
    ) -> None:
        self._log_level = log_level
        self._extensions = extensions
        self._stop = stop or Event()
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    def run(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step to its end and return its value.

        Raises
        ------
        WorkerDiedError
            If the process died (killed, out of memory, crash in a codec).
        StoppedError
            If `stop` was set meanwhile; the step is abandoned and leaves no artifact.
        Exception
            Any exception that the step raised.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare_worker,
                initargs=(self._log_level, self._extensions),
            )
        try:
            self._pid = self._pid or self._pool.submit(os.getpid).result()
            running = self._pool.submit(step, *args, **kwargs)
            while not wait([running], STOP_SECONDS).done:
                if self._stop.is_set():
                    os.kill(self._pid, signal.SIGKILL)
                    self.close()
                    raise StoppedError("the daemon was stopped")
            return running.result()
        except BrokenProcessPool as err:
            if self._stop.is_set():
                self.close()
                raise StoppedError("the daemon was stopped") from err
            log.error("a worker process died; a new one is started")
            self.close()
            raise WorkerDiedError("the worker process died") from err

    def close(self) -> None:
        """End the worker; a running step is abandoned."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool, self._pid = None, 0
