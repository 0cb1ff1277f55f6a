"""Worker process: it takes steps from the line, runs them, and answers.

It never touches the ledger. `appliance.line.child` starts and ends it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from appliance.errors import text_of
from appliance.line.fork_server import PRELOADED, SAFE_PATH
from appliance.settings.extensions import load_extensions
from appliance.settings.logs import Logging, configure_logging
from models.child_process import end_with_parent

READY, ALIVE = b"ready", b"alive"
"""First message of a process; its sign of life."""
BEAT_SECONDS = 0.5
"""Period of the sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Start parameters of a process."""

    logging: Logging
    extensions: tuple[str, ...]
    nice: int
    gpu: str | None


def serve(connection: Connection, parent_pid: int | None, setup: WorkerSetup) -> None:
    """Run steps until the parent closes the connection; `parent_pid` is None in a forked process.

    The parent of a forked process is the server, which ends with the daemon.
    """
    if parent_pid is None:
        parent_pid = getattr(sys.modules.get(PRELOADED), "SERVER_PID", os.getppid())
    end_with_parent(parent_pid)
    os.environ.pop(SAFE_PATH, None)  # of `own_modules`, and not for what a step starts
    # Read when torch is loaded: threads that wait for each other spin, on cores of other steps.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.setsid()  # what a step starts ends with it: `child._kill`
    os.nice(setup.nice)
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu  # before CUDA is loaded
    # Ignored: the parent ends its process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(setup.logging)
    load_extensions(setup.extensions)
    sending = threading.Lock()
    signs = threading.Thread(
        target=_give_signs, args=(connection, sending), name="signs", daemon=True
    )
    signs.start()
    with sending:
        connection.send_bytes(READY)
    while True:
        try:
            work = connection.recv_bytes()
        except EOFError:
            return
        answer = _answer(work)
        with sending:
            connection.send_bytes(answer)


def _give_signs(connection: Connection, sending: threading.Lock) -> None:
    """Give signs of life until the parent is gone. They need no shared memory, and so no disk."""
    with suppress(OSError):
        while True:
            with sending:
                connection.send_bytes(ALIVE)
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
