"""The process of a step: values and errors come back; death, hanging and stopping are noticed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from appliance.errors import StoppedError, TookTooLongError, WorkerDiedError, WorkerStartError
from appliance.line.child import PRELOADED, Child, Limits, serve_processes
from appliance.line.executors import LocalExecutor
from appliance.settings.lanes import Lanes
from appliance.settings.settings import Settings

PATIENT = Limits(deadline_s=300.0, silent_s=300.0)


@pytest.fixture
def stop() -> Event:
    return Event()


@pytest.fixture(params=["spawned", "forked"])
def child(stop: Event, request: pytest.FixtureRequest) -> Iterator[Child]:
    forked = request.param == "forked"
    if forked:
        serve_processes()
    found = Child("INFO", stop, forked=forked)
    assert found.run(PATIENT, loaded, __name__)  # the process exists and has this module
    yield found
    found.close()


def sleep_and_leave(path: Path, seconds: float) -> None:
    path.with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(seconds)
    path.write_text("done")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop_oneself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fail() -> None:
    raise TimeoutError("its own")


class OddError(Exception):
    """Cannot be pickled back: its arguments are not its constructor's."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly() -> None:
    raise OddError(1, 2)


def is_gone(pid: int) -> bool:
    """Return whether a process ends within ten seconds."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        except OSError:
            return True
        if state == "Z" and threads == 1:
            return True
        time.sleep(0.02)
    return False


def set_once_there(stop: Event, path: Path) -> None:
    while not (path.exists() and path.read_text()):
        time.sleep(0.02)
    stop.set()


def test_a_running_step_is_abandoned_when_the_daemon_stops(
    child: Child, stop: Event, tmp_path: Path
) -> None:
    Thread(target=set_once_there, args=(stop, tmp_path / "left.pid"), daemon=True).start()
    with pytest.raises(StoppedError):
        child.run(PATIENT, sleep_and_leave, tmp_path / "left", 60.0)
    assert is_gone(int((tmp_path / "left.pid").read_text()))
    assert not (tmp_path / "left").exists()


def test_a_process_that_systemd_ends_with_the_daemon_did_not_die_of_its_step(
    child: Child, stop: Event, tmp_path: Path
) -> None:
    """SIGTERM goes to both processes; the worker waits for the daemon, in either order."""
    pid = child.run(PATIENT, os.getpid)
    Timer(0.3, lambda: os.kill(pid, signal.SIGTERM)).start()
    Timer(0.6, stop.set).start()
    with pytest.raises(StoppedError):
        child.run(PATIENT, sleep_and_leave, tmp_path / "left", 60.0)
    assert not (tmp_path / "left").exists()


def test_a_process_that_dies_is_replaced(child: Child) -> None:
    with pytest.raises(WorkerDiedError):
        child.run(PATIENT, die)
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_process_that_died_between_two_steps_is_replaced(child: Child) -> None:
    pid = child.run(PATIENT, os.getpid)
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_process_that_was_stopped_between_two_steps_costs_the_next_one_nothing(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.line.child.IDLE_SILENT_SECONDS", 1.0)
    first = child.run(PATIENT, os.getpid)
    os.kill(first, signal.SIGSTOP)
    time.sleep(2)
    assert child.run(PATIENT, os.getpid) not in (first, os.getpid())


def test_a_step_past_its_deadline_is_ended(child: Child, tmp_path: Path) -> None:
    with pytest.raises(TookTooLongError, match="longer than 1 s"):
        child.run(Limits(deadline_s=1.0, silent_s=300.0), sleep_and_leave, tmp_path / "left", 60.0)
    assert is_gone(int((tmp_path / "left.pid").read_text()))
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_process_that_is_stopped_is_ended_long_before_the_deadline(child: Child) -> None:
    pid = child.run(PATIENT, os.getpid)
    with pytest.raises(TookTooLongError, match="no sign of life"):
        child.run(Limits(deadline_s=300.0, silent_s=3.0), stop_oneself)
    assert is_gone(pid)
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_step_that_works_for_long_is_not_silent(child: Child) -> None:
    child.run(Limits(deadline_s=300.0, silent_s=3.0), time.sleep, 5.0)


def answer_half() -> None:
    """Send the beginning of an answer and stop."""
    for number in range(3, 256):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):  # not the memory of its sign of life
                os.write(number, (1000).to_bytes(4, "big") + b"half")
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_process_that_stops_in_the_middle_of_its_answer_holds_nothing_up(child: Child) -> None:
    with pytest.raises(TookTooLongError):
        child.run(Limits(deadline_s=300.0, silent_s=3.0), answer_half)
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_process_that_cannot_start_is_no_steps_fault(
    stop: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child("INFO", stop)
    with monkeypatch.context() as patched:
        patched.setattr(BaseProcess, "start", refuse)
        for _ in range(2):
            with pytest.raises(WorkerStartError, match="Resource temporarily unavailable"):
                child.run(PATIENT, max, 1, 2)
    assert child.run(PATIENT, max, 1, 2) == 2
    child.close()
    broken = Child("INFO", stop, extensions=("no_such_module_of_a_site",))
    with pytest.raises(WorkerStartError, match="before it had a step"):
        broken.run(PATIENT, max, 1, 2)


def refuse(_process: BaseProcess) -> None:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_the_start_of_a_process_is_not_the_steps_time(stop: Event) -> None:
    child = Child("INFO", stop)
    assert child.run(Limits(deadline_s=0.5, silent_s=300.0), max, 1, 2) == 2
    child.close()


def fork_and_wait(told: Path) -> None:
    other = subprocess.Popen(["sleep", "600"])
    told.write_text(str(other.pid))
    time.sleep(600)


def test_what_a_step_started_ends_with_it(child: Child, tmp_path: Path) -> None:
    with pytest.raises(TookTooLongError):
        child.run(Limits(deadline_s=2.0, silent_s=300.0), fork_and_wait, tmp_path / "pid")
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_errors_of_a_step_come_back(child: Child) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        child.run(PATIENT, fail)
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        child.run(PATIENT, fail_oddly)


def test_each_process_of_several_gpus_sees_its_own(tmp_path: Path, stop: Event) -> None:
    settings = Settings(state_dir=tmp_path, lanes=Lanes(gpu=2))
    executor = LocalExecutor(settings, stop)
    seen = set()
    with executor.slot("gpu") as one, executor.slot("gpu") as two, executor.slot("cpu") as other:
        assert one is not None and two is not None and other is not None
        for slot in (one, two):
            seen.add(slot.run(PATIENT, os.getenv, "CUDA_VISIBLE_DEVICES"))
        assert other.run(PATIENT, os.getenv, "CUDA_VISIBLE_DEVICES") is None
        niceness = [slot.run(PATIENT, os.nice, 0) for slot in (one, other)]
    executor.close()
    assert seen == {"0", "1"}
    assert [n - os.nice(0) for n in niceness] == [10, 5]


def loaded(name: str) -> bool:
    return name in sys.modules


def parent_pid() -> int:
    return os.getppid()


@pytest.fixture
def forked(stop: Event) -> Iterator[Child]:
    serve_processes()
    found = Child("INFO", stop, forked=True)
    yield found
    found.close()


def test_a_forked_process_has_the_steps_and_no_torch(forked: Child) -> None:
    assert forked.run(PATIENT, loaded, PRELOADED)
    assert forked.run(PATIENT, loaded, "appliance.registration.alignment")
    assert not forked.run(PATIENT, loaded, "torch")
    assert PRELOADED not in sys.modules


def test_without_a_server_processes_are_spawned(tmp_path: Path) -> None:
    """The path of its socket can be too long."""
    far = tmp_path / ("a" * 90)
    far.mkdir()
    code = (
        "import threading\nfrom appliance.line.executors import LocalExecutor\n"
        "from appliance.settings.settings import Settings\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalExecutor(Settings(), threading.Event())\n"
        "    with executor.slot('cpu') as slot:\n"
        "        from appliance.line.child import Limits\n"
        "        print(slot.run(Limits(deadline_s=300, silent_s=300), max, 1, 2))\n"
        "    executor.close()\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"TMPDIR": str(far)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2\n"
    assert "no server for them" in done.stderr


def test_a_server_that_died_is_replaced(forked: Child) -> None:
    server, process = forked.run(PATIENT, parent_pid), forked.run(PATIENT, os.getpid)
    os.kill(server, signal.SIGKILL)
    assert is_gone(process)
    assert forked.run(PATIENT, parent_pid) not in (server, 1)


def test_a_server_that_is_stopped_is_replaced(
    forked: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = forked.run(PATIENT, parent_pid)
    forked.close()
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr("appliance.line.child.START_SECONDS", 1.0)
    with pytest.raises(WorkerStartError, match="No worker process can be started"):
        forked.run(PATIENT, parent_pid)
    monkeypatch.undo()
    assert forked.run(PATIENT, parent_pid) not in (server, 1)


@pytest.mark.parametrize("forked", [False, True])
def test_a_process_ends_with_its_parent(tmp_path: Path, forked: bool) -> None:
    told = tmp_path / "child.pid"
    spawn = multiprocessing.get_context("spawn")
    parent = spawn.Process(target=work_for_ever, args=(told, forked))
    parent.start()
    for _ in range(1500):
        if told.exists() and told.read_text():
            break
        time.sleep(0.02)
    os.kill(parent.pid or 0, signal.SIGKILL)
    parent.join()
    assert is_gone(int(told.read_text()))


def work_for_ever(told: Path, forked: bool) -> None:
    if forked:
        serve_processes()
    Child("INFO", forked=forked).run(PATIENT, sleep_and_leave, told.with_suffix(""), 600.0)
