"""A worker process as the line has it: a crash, a hang or a leak of a step ends it and no more.

The process's own code is `appliance.line.worker`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import select
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

from appliance.errors import (
    DeviceUnusableError,
    StoppedError,
    TookTooLongError,
    WeightsUnusableError,
    WorkerDiedError,
    WorkerLostError,
    WorkerStartError,
)
from appliance.line.fork_server import (
    answering_server,
    has_ended,
    own_modules,
    server_pid,
)
from appliance.line.machine import is_short
from appliance.line.worker import ALIVE, BEAT_SECONDS, READY, WorkerSetup, serve
from appliance.settings.logs import Logging

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Period at which a running step is checked for its end, for abandonment and for silence."""
START_SECONDS = 120.0
"""Longest time that a process takes to start; it does not count as the step's."""
FORK_SECONDS = 60.0
"""Longest time that the server takes to fork a process, and to import the steps before it."""
IDLE_SILENT_SECONDS = 30.0
"""Silence from which a process that has no step is replaced before it gets one."""
PAUSE_SECONDS = 5.0
"""Gap between two looks at a step from which this process counts as stopped meanwhile."""
KILL_SECONDS = 5.0
"""Time for a killed process to end; one in an uninterruptible wait does not."""
NOTHING = b""
"""No message of a process yet."""
_STARTING = threading.Lock()
_NO_START = (OSError, EOFError, RuntimeError)
"""Errors of a start: no process, no memory, no file; a server that ended; no thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a step in seconds: its whole duration, and silence of its process.

    A process is silent if not even its second thread runs: it is stopped, or a library holds the
    interpreter.
    """

    deadline_s: float
    silent_s: float


class Child:
    """Process that runs one step at a time; replaced when it died or was ended.

    `nice` is added to its niceness; `gpu` is the only GPU that it sees, None for all.
    A `stop` that is set abandons the running step. A process that is `forked` comes from the server
    of `serve_processes`, with that server's environment; another one is spawned.
    """

    def __init__(
        self,
        wanted: Logging,
        stop: threading.Event | None = None,
        extensions: Sequence[str] = (),
        nice: int = 0,
        gpu: str | None = None,
        *,
        forked: bool = False,
    ) -> None:
        self._setup = WorkerSetup(logging=wanted, extensions=tuple(extensions), nice=nice, gpu=gpu)
        self._stop = stop or threading.Event()
        self._forked = forked
        self._process: BaseProcess | None = None
        self._line: _Line | None = None
        self._server: int | None = None  # that forked the process
        self._trouble, self._again_at = "", 0.0

    def run(self, limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step to its end and return its value.

        Raises
        ------
        WorkerStartError
            If no process could be started; no step is to blame.
        WorkerDiedError
            If the process died (killed, out of memory, crash in a codec).
        WorkerLostError
            If the server that forked it died, and with it all of its processes.
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
            server = self._server
            self.close()
            if self._stop.is_set():
                raise StoppedError("the daemon was stopped")
            if server is not None and has_ended(server):
                log.error("the server of worker processes died; a new one is started")
                raise WorkerLostError("The worker processes ended; their steps are done again.")
            log.error("a worker process died; a new one is started")
            raise WorkerDiedError("the worker process died")
        ended_well, value = pickle.loads(answer)  # noqa: S301  from our own process
        if not ended_well:
            # After a fault of a GPU each call of the process fails, its copy of weights may be the
            # one that is damaged, and one that is short of files or memory may have lost them: the
            # next step gets another.
            ended = (DeviceUnusableError, WeightsUnusableError, RuntimeError)
            if isinstance(value, ended) or is_short(value):
                self.close()
            raise value
        return value

    def trouble(self) -> str:
        """Say why no process can be started; empty where there is one, or none was needed yet.

        A start that failed is tried again first, now and then.
        """
        if self._trouble and time.monotonic() >= self._again_at:
            with suppress(WorkerStartError):
                self._started()
        return self._trouble

    def close(self) -> None:
        """End the process and all that it started; a running step is abandoned."""
        process, line, server = self._process, self._line, self._server
        self._process = self._line = self._server = None
        if process is not None and process.pid is not None:
            # The server reaps a process that died, and its number may be another's by now.
            is_ours = server is None or line is None or line.is_open()
            _kill(process, process.pid, is_ours=is_ours)
        if line is not None:
            line.close()

    def _started(self) -> _Line:
        """Return the line to a process that is ready; note and tell why there is none."""
        try:
            line = self._ready()
        except WorkerStartError as err:
            if str(err) != self._trouble:
                log.error("%s", err)
            self._trouble = str(err)
            self._again_at = time.monotonic() + err.wait_seconds
            raise
        self._trouble = ""
        return line

    def _ready(self) -> _Line:
        """Return the line to a process that is ready; start one where there is none."""
        if self._line is not None and not self._line.is_open():
            self.close()
        if self._line is not None and self._is_silent(self._line):
            log.error("an idle worker process gives no sign of life; a new one is started")
            self.close()
        if self._line is not None:
            return self._line
        _require_temporary_files()
        line = self._start()
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
        how = self._how_it_failed()
        self.close()
        raise WorkerStartError(
            f"A worker process {how} before it had a step. See the log; an extension that cannot "
            "be imported is one cause."
        )

    def _how_it_failed(self) -> str:
        """Say whether the process ended, and with which code (-9: killed), or hung."""
        process = self._process
        if process is None:
            return "was lost"
        with _STARTING:  # multiprocessing reaps other children while it starts one
            process.join(KILL_SECONDS)
            code = process.exitcode
        if code is None:
            return "hung"
        return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"

    def _is_silent(self, line: _Line) -> bool:
        """Return whether an idle process gives no sign of life, also not after a pause of both."""
        end = time.monotonic() + 4 * BEAT_SECONDS
        while time.monotonic() - line.heard_s > IDLE_SILENT_SECONDS:
            if time.monotonic() > end:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _start(self) -> _Line:
        """Start a process: forked where there is a server that can, else spawned."""
        if self._forked:
            try:
                return self._start_by("forkserver")
            except _NO_START as err:
                self.close()
                if self._stop.is_set():
                    raise StoppedError("the daemon was stopped") from err
                log.warning("no process can be forked (%s); one is spawned", _why(err))
        try:
            return self._start_by("spawn")
        except _NO_START as err:
            self.close()
            raise WorkerStartError(f"No worker process can be started: {_why(err)}.") from err

    def _start_by(self, method: Literal["forkserver", "spawn"]) -> _Line:
        context: Any = multiprocessing.get_context(method)
        forked = method == "forkserver"
        ours, theirs = context.Pipe()
        try:
            process = context.Process(
                target=serve,
                args=(theirs, None if forked else os.getpid(), self._setup),
                name="tandem-worker",
            )
            with (
                _STARTING,
                own_modules(),
                answering_server(self._stop, FORK_SECONDS if forked else None),
            ):
                process.start()
                self._process = process
                self._server = server_pid() if forked else None
            self._line = _Line(ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
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
            if now - line.heard_s > silent_s:
                self.close()
                raise TookTooLongError(
                    f"The worker process gave no sign of life for {limits.silent_s:.0f} s."
                )
        return answer


class _Line:
    """Messages from a process. A thread receives them: one that is half sent holds up no lane.

    `heard_s` is the monotonic time of the last one, a sign of life or other.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection, self.heard_s = connection, time.monotonic()
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        self._receiver = threading.Thread(target=self._receive, name="answers", daemon=True)
        self._receiver.start()

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
        """Close the line, whose process is gone or does not end.

        The thread that receives is ended first. The next line may get the file's number, and a
        thread that was about to read from this number would take the first bytes of that line.
        """
        with suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
        self._receiver.join()
        with suppress(OSError):
            self.connection.close()

    def _receive(self) -> None:
        try:
            while True:
                message = self.connection.recv_bytes()
                self.heard_s = time.monotonic()
                if message != ALIVE:
                    self._messages.put(message)
        except (EOFError, OSError):
            self._messages.put(None)


def _kill(process: BaseProcess, pid: int, *, is_ours: bool) -> None:
    """Kill a process and those that it started, which are in its group; `pid` may be another's."""
    if is_ours:
        _kill_group(pid)
        with suppress(OSError):  # it has no group yet
            os.kill(pid, signal.SIGKILL)
    with _STARTING:  # multiprocessing reaps other children while it starts one
        process.join(KILL_SECONDS)
        try:
            process.close()
        except ValueError:
            log.error("a worker process does not end, as one that waits for a share; it is left")
    # No process gets the number of a group that has members.
    if not is_ours and not Path(f"/proc/{pid}").exists():
        _kill_group(pid)


def _kill_group(pid: int) -> None:
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _require_temporary_files() -> None:
    """Raise WorkerStartError where none can be made: the library of the networks needs some."""
    try:
        with tempfile.TemporaryFile():
            pass
    except OSError as err:
        raise WorkerStartError(
            f"No temporary file can be made: {err.strerror}. The networks need some: free the "
            "folder's disk, or let TMPDIR name a folder that can be written, and restart Tandem."
        ) from err


def _why(err: BaseException) -> str:
    """Return why a process could not be started, in words."""
    try:
        Path.cwd()  # multiprocessing needs it
    except OSError:
        return "the folder that Tandem was started in is gone; start it in another one"
    if isinstance(err, EOFError):
        return "the server of worker processes ended"
    return getattr(err, "strerror", None) or str(err) or type(err).__name__
