"""The server of multiprocessing from which worker processes are forked: started, watched, ended."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import Any

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
PRELOADED = "appliance.line.preloaded"
"""Module that the server of `serve_processes` imports before it forks."""
SAFE_PATH = "PYTHONSAFEPATH"
"""Variable by which Python puts no folder before its path (``-P``)."""


def serve_processes() -> bool:
    """Start the server that forks processes with the steps' modules in them; return whether it is
    there. Without it, processes are spawned.

    The kernel ends the server, and with it all its processes, when the calling thread ends.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
    try:
        with own_modules():
            forkserver.ensure_running()
    except OSError as err:  # the path of its socket, in TMPDIR, may have 107 bytes at most
        log.warning("processes are spawned, which takes longer: no server for them: %s", err)
        return False
    return True


@contextmanager
def own_modules() -> Iterator[None]:
    """Let a Python that is started in this block import nothing from the current folder."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


@contextmanager
def answering_server(stop: threading.Event, limit_s: float | None) -> Iterator[None]:
    """Kill a server that does not fork within `limit_s`, or while `stop` is set; it may be stopped.

    The next start makes another one. None: the block needs no server.
    """
    if limit_s is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        end = time.monotonic() + limit_s
        while not done.wait(POLL_SECONDS):
            if stop.is_set() or time.monotonic() > end:
                _kill_server()
                return

    watchdog = threading.Thread(target=watch, name="server", daemon=True)
    watchdog.start()
    try:
        yield
    finally:
        done.set()
        watchdog.join()


def server_pid() -> int | None:
    """Return the PID of the server; None where it never ran."""
    server: Any = forkserver
    pid: int | None = server._forkserver._forkserver_pid  # there is no public name
    return pid


def _kill_server() -> None:
    pid = server_pid()
    log.error("the server of worker processes does not answer; it is ended")
    with suppress(OSError):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            # Until it is gone, multiprocessing takes it for running; it reaps the server itself.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def has_ended(pid: int) -> bool:
    """Return whether a child of this process, which may be reaped already, has ended."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
