"""A process that runs steps: a crash, a hang or a leak of a step ends it and nothing else."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from appliance.errors import StoppedError, TookTooLongError, WorkerDiedError
from appliance.settings.extensions import load_extensions
from appliance.settings.logs import configure_logging
from models.child_process import end_with_parent

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Period at which a running step is checked for its end, for abandonment and for silence."""
BEAT_SECONDS = 0.5
"""Period of the process's sign of life."""
START_SECONDS = 120.0
"""Time to start, added to the silence that is allowed: imports give no sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a step in seconds: its whole duration, and silence of its process.

    A process is silent if not even its second thread runs: it is stopped, or a library holds the
    interpreter.
    """

    deadline_s: float
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """What a process is started with."""

    log_level: str
    extensions: tuple[str, ...]
    nice: int
    gpu: int | None


class Child:
    """Spawned process that runs one step at a time; replaced when it died or was ended.

    `nice` is added to its niceness; `gpu` is the number of the only GPU that it sees, None for all.
    A `stop` that is set abandons the running step.
    """

    def __init__(
        self,
        log_level: str,
        stop: threading.Event | None = None,
        extensions: Sequence[str] = (),
        nice: int = 0,
        gpu: int | None = None,
    ) -> None:
        self._setup = _Setup(log_level=log_level, extensions=tuple(extensions), nice=nice, gpu=gpu)
        self._stop = stop or threading.Event()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._beat: Any = None

    def run(self, limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step to its end and return its value.

        Raises
        ------
        WorkerDiedError
            If the process died (killed, out of memory, crash in a codec).
        TookTooLongError
            If the step exceeded its limits; its process was ended.
        StoppedError
            If `stop` was set meanwhile; the step is abandoned and leaves no artifact.
        Exception
            Any exception that the step raised.
        """
        work = pickle.dumps((function, arguments))
        try:
            process, connection = self._started()
            connection.send_bytes(work)
            self._wait(process, connection, limits)
            answer = connection.recv_bytes()
        except (EOFError, OSError) as err:
            self.close()
            if self._stop.is_set():
                raise StoppedError("the daemon was stopped") from err
            log.error("a worker process died; a new one is started")
            raise WorkerDiedError("the worker process died") from err
        ended_well, value = pickle.loads(answer)  # noqa: S301  from our own process
        if not ended_well:
            raise value
        return value

    def close(self) -> None:
        """End the process; a running step is abandoned."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _started(self) -> tuple[BaseProcess, Connection]:
        if self._process is not None and not self._process.is_alive():
            self.close()
        if self._process is None or self._connection is None:
            spawn = multiprocessing.get_context("spawn")
            self._connection, theirs = spawn.Pipe()
            self._beat = spawn.Value("d", time.monotonic() + START_SECONDS, lock=False)
            self._process = spawn.Process(
                target=_serve,
                args=(theirs, self._beat, os.getpid(), self._setup),
                name="tandem-worker",
            )
            self._process.start()
            theirs.close()
        return self._process, self._connection

    def _wait(self, process: BaseProcess, connection: Connection, limits: Limits) -> None:
        """Wait for the answer; EOFError where the process died first."""
        end = time.monotonic() + limits.deadline_s
        while not connection.poll(POLL_SECONDS):
            now = time.monotonic()
            if self._stop.is_set():
                self.close()
                raise StoppedError("the daemon was stopped")
            if not process.is_alive():
                raise EOFError
            if now > end:
                self.close()
                raise TookTooLongError(f"The step took longer than {limits.deadline_s:.0f} s.")
            if now - self._beat.value > limits.silent_s:
                self.close()
                raise TookTooLongError(
                    f"The worker process gave no sign of life for {limits.silent_s:.0f} s."
                )


def _serve(connection: Connection, beat: Any, parent_pid: int, setup: _Setup) -> None:
    """Run steps until the parent closes the connection."""
    end_with_parent(parent_pid)
    os.nice(setup.nice)
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(setup.gpu)  # before CUDA is loaded
    # Ignored: Ctrl-C and systemd's SIGTERM reach the whole process group, and the parent ends its
    # process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(setup.log_level)
    load_extensions(setup.extensions)
    threading.Thread(target=_give_signs, args=(beat,), name="signs", daemon=True).start()
    while True:
        try:
            work = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(_answer(work))


def _give_signs(beat: Any) -> None:
    while True:
        beat.value = time.monotonic()
        time.sleep(BEAT_SECONDS)


def _answer(work: bytes) -> bytes:
    """Run a step; return whether it ended well and its value or error, pickled."""
    try:
        function, arguments = pickle.loads(work)  # noqa: S301  from our own parent
        return pickle.dumps((True, function(*arguments)))
    except Exception as err:  # noqa: BLE001  the step's error goes to the parent
        err.add_note("".join(traceback.format_exception(err)))
        return _pickled(err)


def _pickled(err: Exception) -> bytes:
    """Pickle an error; one that cannot come back as it is goes as a RuntimeError of its text."""
    try:
        answer = pickle.dumps((False, err))
        pickle.loads(answer)  # noqa: S301  our own bytes
    except Exception:  # noqa: BLE001  any error of any library's class
        return pickle.dumps((False, RuntimeError(f"{type(err).__name__}: {err}")))
    return answer
