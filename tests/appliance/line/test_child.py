"""The process of a step: values and errors come back; death, hanging and stopping are noticed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest

from appliance.errors import (
    DeviceUnusableError,
    StoppedError,
    TookTooLongError,
    WorkerDiedError,
    WorkerLostError,
    WorkerStartError,
)
from appliance.line.child import Child, Limits, _kill, _Line
from appliance.line.executors import LocalExecutor
from appliance.line.fork_server import PRELOADED, serve_processes
from appliance.settings.lanes import Lanes
from appliance.settings.logs import Logging
from appliance.settings.settings import Settings

PATIENT = Limits(deadline_s=300.0, silent_s=300.0)


@pytest.fixture(autouse=True)
def patient_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time to fork: a process that is spawned instead has no server."""
    monkeypatch.setattr("appliance.line.child.FORK_SECONDS", 1200.0)
    monkeypatch.setattr("appliance.line.child.START_SECONDS", 1200.0)


@pytest.fixture
def stop() -> Event:
    return Event()


@pytest.fixture(params=["spawned", "forked"])
def child(stop: Event, request: pytest.FixtureRequest) -> Iterator[Child]:
    forked = request.param == "forked"
    if forked:
        serve_processes()
    found = Child(Logging(), stop, forked=forked)
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
    """Return whether a process ends within five minutes."""
    for _ in range(15_000):
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

    def stop_all() -> None:
        while not (tmp_path / "left.pid").exists():
            time.sleep(0.02)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.3)  # a process that SIGTERM ends is gone by then
        stop.set()

    stopping = Thread(target=stop_all)
    stopping.start()
    with pytest.raises(StoppedError):
        child.run(PATIENT, sleep_and_leave, tmp_path / "left", 60.0)
    stopping.join()
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
    pid = child.run(PATIENT, os.getpid)
    with pytest.raises(TookTooLongError, match="longer than 1 s"):
        child.run(Limits(deadline_s=1.0, silent_s=300.0), sleep_and_leave, tmp_path / "left", 60.0)
    assert is_gone(pid)
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_process_that_is_stopped_is_ended_long_before_the_deadline(child: Child) -> None:
    pid = child.run(PATIENT, os.getpid)
    with pytest.raises(TookTooLongError, match="no sign of life"):
        child.run(Limits(deadline_s=300.0, silent_s=3.0), stop_oneself)
    assert is_gone(pid)
    assert child.run(PATIENT, max, 1, 2) == 2


def test_a_step_that_works_for_long_is_not_silent(child: Child) -> None:
    # A sign of life comes each half second; busy cores may keep it for seconds.
    child.run(Limits(deadline_s=300.0, silent_s=20.0), time.sleep, 22.0)


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
    child = Child(Logging(), stop)
    with monkeypatch.context() as patched:
        patched.setattr(BaseProcess, "start", refuse)
        for _ in range(2):
            with pytest.raises(WorkerStartError, match="Resource temporarily unavailable"):
                child.run(PATIENT, max, 1, 2)
    assert child.run(PATIENT, max, 1, 2) == 2
    child.close()
    broken = Child(Logging(), stop, extensions=("no_such_module_of_a_site",))
    with pytest.raises(WorkerStartError, match="ended with code 1 before it had a step"):
        broken.run(PATIENT, max, 1, 2)


def test_a_line_that_is_closed_takes_nothing_of_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread may be about to read when the next line gets the number of its file."""
    about_to_read = Event()

    def late(connection: Connection, size: int) -> BytesIO:
        number = connection.fileno()
        about_to_read.set()
        time.sleep(0.5)  # a busy machine runs others first
        if not (found := os.read(number, size)):
            raise EOFError
        return BytesIO(found)

    ours, theirs = multiprocessing.Pipe()
    number = ours.fileno()
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "_recv", late)
        line = _Line(ours)
        assert about_to_read.wait(60)
        theirs.close()
        line.close()
    ours, theirs = multiprocessing.Pipe()
    assert ours.fileno() == number
    theirs.send_bytes(b"ready")
    time.sleep(1.0)
    assert ours.poll(60) and os.read(ours.fileno(), 64).endswith(b"\x05ready")
    ours.close()
    theirs.close()


def test_threads_of_a_step_that_wait_leave_the_cores_to_others(child: Child) -> None:
    assert child.run(PATIENT, os.getenv, "OMP_WAIT_POLICY") == "passive"


def refuse(_process: BaseProcess) -> None:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_the_start_of_a_process_is_not_the_steps_time(
    stop: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, ahead_s, begun, real = Child(Logging(), stop), [0.0], Child._start, time.monotonic

    def start_for_long(self: Child) -> _Line:
        line = begun(self)
        ahead_s[0] += 600.0
        return line

    monkeypatch.setattr(Child, "_start", start_for_long)
    clock = SimpleNamespace(monotonic=lambda: real() + ahead_s[0], sleep=time.sleep)
    monkeypatch.setattr("appliance.line.child.time", clock)
    # A step that answers at once never meets its deadline.
    assert child.run(Limits(deadline_s=300.0, silent_s=1e6), time.sleep, 0.5) is None
    child.close()


def test_what_a_step_started_ends_with_it(child: Child, tmp_path: Path) -> None:
    child.run(PATIENT, start_and_leave, tmp_path / "pid")
    with pytest.raises(TookTooLongError):
        child.run(Limits(deadline_s=0.1, silent_s=300.0), time.sleep, 600.0)
    assert is_gone(int((tmp_path / "pid").read_text()))


BROKEN: list[int] = []


def broken_context(error: type[Exception]) -> None:
    """Fail as each call does once a GPU's context is broken; the text counts the calls before."""
    BROKEN.append(1)
    raise error(f"CUDA error: an illegal memory access was encountered; call {len(BROKEN)}")


@pytest.mark.parametrize("error", [RuntimeError, DeviceUnusableError])
def test_a_process_whose_device_failed_gets_no_other_step(
    child: Child, error: type[Exception]
) -> None:
    pid = child.run(PATIENT, os.getpid)
    for _ in range(2):
        with pytest.raises(error, match=r"call 1$"):
            child.run(PATIENT, broken_context, error)
    assert child.run(PATIENT, os.getpid) != pid
    with pytest.raises(TimeoutError):
        child.run(PATIENT, fail)


def test_errors_of_a_step_come_back(child: Child) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        child.run(PATIENT, fail)
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        child.run(PATIENT, fail_oddly)


def test_each_process_of_several_gpus_sees_its_own(
    tmp_path: Path, stop: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
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
    assert niceness == [min(19, os.nice(0) + n) for n in (10, 5)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("2,3", ["2", "3"]),
        ("GPU-8e, GPU-1f", ["GPU-8e", "GPU-1f"]),
        ("5", ["5", "5"]),
        ("", [""] * 2),
    ],
)
def test_processes_share_the_gpus_that_the_site_gave(
    tmp_path: Path, stop: Event, monkeypatch: pytest.MonkeyPatch, given: str, wanted: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    executor = LocalExecutor(Settings(state_dir=tmp_path, lanes=Lanes(gpu=2)), stop)
    with executor.slot("gpu") as one, executor.slot("gpu") as two:
        assert one is not None and two is not None
        seen = [slot.run(PATIENT, os.getenv, "CUDA_VISIBLE_DEVICES") for slot in (one, two)]
    executor.close()
    assert seen == wanted


def loaded(name: str) -> bool:
    return name in sys.modules


def parent_pid() -> int:
    return os.getppid()


@pytest.fixture
def forked(stop: Event) -> Iterator[Child]:
    serve_processes()
    found = Child(Logging(), stop, forked=True)
    yield found
    found.close()


def test_a_forked_process_has_the_steps_and_no_torch(forked: Child) -> None:
    assert forked.run(PATIENT, loaded, PRELOADED)
    assert forked.run(PATIENT, loaded, "appliance.registration.alignment")
    assert not forked.run(PATIENT, loaded, "torch")
    assert PRELOADED not in sys.modules


def run_elsewhere(tmp_path: Path, cwd: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run a step in a process of a daemon of its own."""
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
    return subprocess.run(
        [sys.executable, script],
        cwd=cwd,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_without_a_server_processes_are_spawned(tmp_path: Path) -> None:
    """The path of its socket can be too long."""
    far = tmp_path / ("a" * 90)
    far.mkdir()
    done = run_elsewhere(tmp_path, tmp_path, far)
    assert done.stdout == "2\n"
    assert "no server for them" in done.stderr


def test_modules_of_the_folder_that_the_daemon_is_started_in_are_not_tandems(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("models.py", "logging.py"):
        (here / name).write_text("raise SystemExit('not this one')\n")
    done = run_elsewhere(tmp_path, here, Path("/tmp"))  # noqa: S108  short
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_server_that_died_is_replaced(forked: Child) -> None:
    server, process = forked.run(PATIENT, parent_pid), forked.run(PATIENT, os.getpid)
    assert server != os.getpid()
    os.kill(server, signal.SIGKILL)
    assert is_gone(process)
    assert forked.run(PATIENT, parent_pid) not in (server, 1)


def test_a_server_that_is_stopped_is_replaced(
    forked: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = forked.run(PATIENT, parent_pid)
    forked.close()
    assert server != os.getpid()
    os.kill(server, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr("appliance.line.child.FORK_SECONDS", 1.0)
        assert forked.run(PATIENT, parent_pid) == os.getpid()  # spawned
    forked.close()
    assert forked.run(PATIENT, parent_pid) not in (server, os.getpid(), 1)


def test_what_ends_all_processes_is_no_steps_fault(forked: Child, tmp_path: Path) -> None:
    """A service manager sends SIGTERM to all, and the kernel may kill the server for its memory."""
    server = forked.run(PATIENT, parent_pid)
    assert server != os.getpid()
    os.kill(server, signal.SIGTERM)
    assert forked.run(PATIENT, max, 1, 2) == 2
    assert forked.run(PATIENT, parent_pid) == server
    Thread(target=kill_once_there, args=(server, tmp_path / "left.pid"), daemon=True).start()
    with pytest.raises(WorkerLostError):
        forked.run(PATIENT, sleep_and_leave, tmp_path / "left", 600.0)
    with pytest.raises(WorkerDiedError):  # of its own
        forked.run(PATIENT, die)


def kill_once_there(pid: int, path: Path) -> None:
    while not (path.exists() and path.read_text()):
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)


def test_a_process_needs_no_shared_memory(stop: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """``/dev/shm`` may be read-only; a folder for temporary files may not, and is asked for."""

    def refuse_file(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refuse_file)
    child = Child(Logging(), stop)
    assert child.run(PATIENT, max, 1, 2) == 2
    child.close()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(WorkerStartError, match=r"No such file or directory.*TMPDIR"):
        child.run(PATIENT, max, 1, 2)


def test_trouble_with_processes_is_said_and_takes_no_step(
    stop: Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerStartError, "wait_seconds", 0.0)
    executor = LocalExecutor(Settings(state_dir=tmp_path), stop)
    with monkeypatch.context() as patched:
        patched.setattr(BaseProcess, "start", refuse)
        with executor.slot("cpu") as slot:
            assert slot is not None
            with pytest.raises(WorkerStartError):
                slot.run(PATIENT, max, 1, 2)
        with executor.slot("cpu") as slot:
            assert slot is None
        assert "Resource temporarily unavailable" in executor.trouble("cpu")
    with executor.slot("cpu") as slot:
        assert slot is not None and slot.run(PATIENT, max, 1, 2) == 2
    assert executor.trouble("cpu") == ""
    executor.close()


def test_the_number_of_a_dead_process_may_be_anothers() -> None:
    """The server reaps a process that died between two steps at once."""
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    _kill(Gone(), stranger.pid, is_ours=False)  # type: ignore[arg-type]
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


class Gone:
    """Process that was reaped."""

    def join(self, _seconds: float) -> None: ...

    def close(self) -> None: ...


def test_what_a_dead_process_started_ends_too(forked: Child, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    forked.run(PATIENT, start_and_leave, told)
    pid = forked.run(PATIENT, os.getpid)
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    assert forked.run(PATIENT, max, 1, 2) == 2
    assert is_gone(int(told.read_text()))


def start_and_leave(told: Path) -> None:
    told.write_text(str(subprocess.Popen(["sleep", "600"]).pid))


@pytest.mark.parametrize("forked", [False, True])
def test_a_process_ends_with_its_parent(tmp_path: Path, forked: bool) -> None:
    told = tmp_path / "child.pid"
    spawn = multiprocessing.get_context("spawn")
    parent = spawn.Process(target=work_for_ever, args=(told, forked))
    parent.start()
    while not (told.exists() and told.read_text()):
        assert parent.is_alive()
        time.sleep(0.02)
    os.kill(parent.pid or 0, signal.SIGKILL)
    parent.join()
    assert is_gone(int(told.read_text()))


def work_for_ever(told: Path, forked: bool) -> None:
    if forked:
        serve_processes()
    Child(Logging(), forked=forked).run(PATIENT, sleep_and_leave, told.with_suffix(""), 600.0)
