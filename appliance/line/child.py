"""A process that runs steps: a crash, a hang or a leak of a step ends it and nothing else."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import Any

from appliance.errors import (
    StoppedError,
    TookTooLongError,
    WorkerDiedError,
    WorkerStartError,
    text_of,
)
from appliance.settings.extensions import load_extensions
from appliance.settings.logs import configure_logging
from models.child_process import end_with_parent

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Period at which a running step is checked for its end, for abandonment and for silence."""
BEAT_SECONDS = 0.5
"""Period of the process's sign of life."""
START_SECONDS = 120.0
"""Longest time that a process takes to start; it does not count as the step's."""
IDLE_SILENT_SECONDS = 30.0
"""Silence from which a process that has no step is replaced before it gets one."""
PAUSE_SECONDS = 5.0
"""Gap between two looks at a step from which this process counts as stopped meanwhile."""
KILL_SECONDS = 5.0
"""Time for a killed process to end; one in an uninterruptible wait does not."""
READY, NOTHING = b"ready", b""
"""First message of a process; no message yet."""
PRELOADED = "appliance.line.preloaded"
"""Module that the server of `serve_processes` imports before it forks."""
_STARTING = threading.Lock()


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
    """Start parameters of a process."""

    log_level: str
    extensions: tuple[str, ...]
    nice: int
    gpu: int | None


def serve_processes() -> bool:
    """Start the server that forks processes with the steps' modules in them; return whether it is
    there. Without it, processes are spawned.

    The kernel ends the server, and with it all its processes, when the calling thread ends.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
    try:
        forkserver.ensure_running()
    except OSError as err:  # the path of its socket, in TMPDIR, may have 107 bytes at most
        log.warning("processes are spawned, which takes longer: no server for them: %s", err)
        return False
    return True


class Child:
    """Process that runs one step at a time; replaced when it died or was ended.

    `nice` is added to its niceness; `gpu` is the number of the only GPU that it sees, None for all.
    A `stop` that is set abandons the running step. A process that is `forked` comes from the server
    of `serve_processes`, with that server's environment; another one is spawned.
    """

    def __init__(
        self,
        log_level: str,
        stop: threading.Event | None = None,
        extensions: Sequence[str] = (),
        nice: int = 0,
        gpu: int | None = None,
        *,
        forked: bool = False,
    ) -> None:
        self._setup = _Setup(log_level=log_level, extensions=tuple(extensions), nice=nice, gpu=gpu)
        self._stop = stop or threading.Event()
        self._forked = forked
        self._process: BaseProcess | None = None
        self._line: _Line | None = None
        self._beat: Any = None

    def run(self, limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step to its end and return its value.

        Raises
        ------
        WorkerStartError
            If no process could be started; no step is to blame.
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
        line = self._started()
        try:
            line.connection.send_bytes(work)
            answer = self._answer(line, limits)
        except OSError:
            answer = None
        if answer is None:
            self.close()
            if self._stop.is_set():
                raise StoppedError("the daemon was stopped")
            log.error("a worker process died; a new one is started")
            raise WorkerDiedError("the worker process died")
        ended_well, value = pickle.loads(answer)  # noqa: S301  from our own process
        if not ended_well:
            raise value
        return value

    def close(self) -> None:
        """End the process and all that it started; a running step is abandoned."""
        process, line = self._process, self._line
        self._process = self._line = None
        if process is not None and process.pid is not None:
            _kill(process, process.pid)
        if line is not None:
            line.close()

    def _started(self) -> _Line:
        """Return the line to a process that is ready; start one where there is none."""
        if self._line is not None and not self._line.is_open():
            self.close()
        if self._line is not None and self._is_silent():
            log.error("an idle worker process gives no sign of life; a new one is started")
            self.close()
        if self._line is not None:
            return self._line
        try:
            line = self._start()
        except (OSError, EOFError) as err:
            self.close()
            why = getattr(err, "strerror", None) or type(err).__name__
            raise WorkerStartError(f"No worker process can be started: {why}.") from err
        end = time.monotonic() + START_SECONDS
        while True:
            ready = line.next(POLL_SECONDS)
            if ready == READY:
                return line
            if self._stop.is_set():
                self.close()
                raise StoppedError("the daemon was stopped")
            if ready is None or time.monotonic() > end:
                break
        self.close()
        raise WorkerStartError(
            "A worker process ended, or hung, before it had a step. See the log; an extension that "
            "cannot be imported is one cause."
        )

    def _is_silent(self) -> bool:
        """Return whether an idle process gives no sign of life, also not after a pause of both."""
        end = time.monotonic() + 4 * BEAT_SECONDS
        while time.monotonic() - self._beat.value > IDLE_SILENT_SECONDS:
            if time.monotonic() > end:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _start(self) -> _Line:
        context: Any = multiprocessing.get_context("forkserver" if self._forked else "spawn")
        ours, theirs = context.Pipe()
        try:
            self._beat = context.Value("d", time.monotonic(), lock=False)
            process = context.Process(
                target=_serve,
                args=(theirs, self._beat, os.getpid(), self._setup),
                name="tandem-worker",
            )
            with _STARTING, _answering_server(self._forked):
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process, self._line = process, _Line(ours)
        return self._line

    def _answer(self, line: _Line, limits: Limits) -> bytes | None:
        """Wait for the answer; None where the process died first."""
        end = time.monotonic() + limits.deadline_s
        silent_s, last = limits.silent_s, time.monotonic()
        while (answer := line.next(POLL_SECONDS)) == NOTHING:
            now = time.monotonic()
            if self._stop.is_set():
                self.close()
                raise StoppedError("the daemon was stopped")
            # This process was stopped itself, as a paused container is: that time does not count.
            paused_s = max(0.0, now - last - PAUSE_SECONDS)
            end, silent_s, last = end + paused_s, silent_s + paused_s, now
            if now > end:
                self.close()
                raise TookTooLongError(f"The step took longer than {limits.deadline_s:.0f} s.")
            if now - self._beat.value > silent_s:
                self.close()
                raise TookTooLongError(
                    f"The worker process gave no sign of life for {limits.silent_s:.0f} s."
                )
        return answer


class _Line:
    """Messages from a process. A thread receives them: one that is half sent holds up no lane."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._receive, name="answers", daemon=True).start()

    def next(self, seconds: float) -> bytes | None:
        """Return the next message, `NOTHING` where none came in time, None at the end."""
        try:
            return self._messages.get(timeout=seconds)
        except Empty:
            return NOTHING

    def is_open(self) -> bool:
        """Return whether the process still holds its end: its death closes it at once."""
        poll = select.poll()
        poll.register(self.connection.fileno(), 0)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the line once the process, which holds the other end, is gone."""
        with suppress(OSError):
            self.connection.close()

    def _receive(self) -> None:
        try:
            while True:
                self._messages.put(self.connection.recv_bytes())
        except (EOFError, OSError, TypeError):  # TypeError: closed while it waited
            self._messages.put(None)


@contextmanager
def _answering_server(forked: bool) -> Iterator[None]:
    """Kill a server that does not fork in time, as one that was stopped; the next start makes
    another one."""
    if not forked:
        yield
        return
    watchdog = threading.Timer(START_SECONDS, _kill_server)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        watchdog.join()


def _kill_server() -> None:
    server: Any = forkserver
    pid = server._forkserver._forkserver_pid  # there is no public name
    log.error("the server of worker processes does not answer; a new one is started")
    with suppress(OSError):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            # Until it is gone, multiprocessing takes it for running; it reaps the server itself.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _kill(process: BaseProcess, pid: int) -> None:
    """Kill a process and those that it started, which are in its group."""
    with _STARTING:  # multiprocessing reaps other children while it starts one
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(OSError):
            process.kill()
        process.join(KILL_SECONDS)
        try:
            process.close()
        except ValueError:
            log.error("a worker process does not end, as one that waits for a share; it is left")


def _serve(connection: Connection, beat: Any, parent_pid: int, setup: _Setup) -> None:
    """Run steps until the parent closes the connection."""
    # The parent of a forked process is the server, which ends with the daemon.
    end_with_parent(getattr(sys.modules.get(PRELOADED), "SERVER_PID", parent_pid))
    os.setsid()  # what a step starts ends with it: `_kill`
    os.nice(setup.nice)
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(setup.gpu)  # before CUDA is loaded
    # Ignored: the parent ends its process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(setup.log_level)
    load_extensions(setup.extensions)
    threading.Thread(target=_give_signs, args=(beat,), name="signs", daemon=True).start()
    connection.send_bytes(READY)
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
        with suppress(Exception):  # an error of a library may refuse notes
            err.add_note("".join(traceback.format_exception(err)))
        return _pickled(err)


def _pickled(err: Exception) -> bytes:
    """Pickle an error; one that cannot come back as it is goes as a RuntimeError of its text."""
    with suppress(Exception):  # of any library's class
        answer = pickle.dumps((False, err))
        _, back = pickle.loads(answer)  # noqa: S301  our own bytes
        if type(back) is type(err):
            return answer
    return pickle.dumps((False, RuntimeError(f"{type(err).__name__}: {text_of(err)}")))
