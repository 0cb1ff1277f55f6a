"""Executor of steps: a spawned process, so that a crash ends the worker and not the daemon."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from threading import Event
from typing import ParamSpec, TypeVar

from appliance.errors import StoppedError, WorkerDiedError
from appliance.logs import configure_logging

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 0.2
"""Period of the check whether a running step is to be abandoned."""


def _prepare_worker(log_level: str) -> None:
    configure_logging(log_level)
    # Ctrl-C and systemd's SIGTERM go to the whole process group; the daemon ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        # A daemon that was killed must not leave a worker that holds the GPU.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Workers:
    """One spawned worker process; rebuilt when it dies, killed when `stop` is set."""

    def __init__(self, log_level: str, stop: Event | None = None) -> None:
        self._log_level = log_level
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
            If `stop` was set meanwhile: the step is abandoned, and its artifact is not there.
        Exception
            Whatever the step raised.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare_worker,
                initargs=(self._log_level,),
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
