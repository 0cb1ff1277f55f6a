"""The executor seam: steps run in a spawned process; a crash kills it and not the daemon."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from appliance.errors import WorkerDiedError
from appliance.logs import configure_logging

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PR_SET_PDEATHSIG = 1


def _prepare_worker(log_level: str) -> None:
    configure_logging(log_level)
    # Ctrl-C goes to the whole group; the daemon decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # A daemon that was killed must not leave a worker that holds the GPU.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Workers:
    """One spawned worker process; rebuilt when it dies."""

    def __init__(self, log_level: str) -> None:
        self._log_level = log_level
        self._pool: ProcessPoolExecutor | None = None

    def run(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step to its end and return its value.

        Raises
        ------
        WorkerDiedError
            If the process died (killed, out of memory, crash in a codec).
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
            return self._pool.submit(step, *args, **kwargs).result()
        except BrokenProcessPool as err:
            log.error("a worker process died; a new one is started")
            self.close()
            raise WorkerDiedError("the worker process died") from err

    def close(self) -> None:
        """End the worker; a running step is abandoned."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
