"""The worker process: values and errors come back, its death is noticed, stopping is quick."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Event, Timer

import pytest

from appliance.errors import StoppedError, WorkerDiedError
from appliance.line.executors import Workers


def sleep_and_leave(path: Path, seconds: float) -> None:
    path.with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(seconds)
    path.write_text("done")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_step_that_runs_is_abandoned_within_a_second(tmp_path: Path) -> None:
    stop = Event()
    workers = Workers("INFO", stop)
    assert workers.run(max, 3, 5) == 5  # the process exists
    Timer(0.5, stop.set).start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        workers.run(sleep_and_leave, tmp_path / "left", 20.0)
    assert time.monotonic() - began < 1.5  # half a second is the timer's
    pid = int((tmp_path / "left.pid").read_text())
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z" in _state(pid):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the worker still runs")
    assert not (tmp_path / "left").exists()


def test_a_worker_that_systemd_ends_with_the_daemon_did_not_die_of_its_step(tmp_path: Path) -> None:
    """SIGTERM goes to both processes; the worker waits for the daemon, in either order."""
    stop = Event()
    workers = Workers("INFO", stop)
    pid = workers.run(os.getpid)
    Timer(0.3, lambda: os.kill(pid, signal.SIGTERM)).start()
    Timer(0.6, stop.set).start()
    with pytest.raises(StoppedError):
        workers.run(sleep_and_leave, tmp_path / "left", 20.0)
    assert not (tmp_path / "left").exists()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_a_worker_that_dies_is_replaced() -> None:
    workers = Workers("INFO")
    with pytest.raises(WorkerDiedError):
        workers.run(die)
    assert workers.run(max, 1, 2) == 2
    workers.close()


def test_errors_of_a_step_come_back() -> None:
    workers = Workers("INFO")
    with pytest.raises(TimeoutError, match="its own"):
        workers.run(fail)
    workers.close()


def fail() -> None:
    raise TimeoutError("its own")
