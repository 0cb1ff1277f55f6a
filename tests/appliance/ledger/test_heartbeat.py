"""The daemon's sign of life: status, doctor and dashboard say from it whether the daemon lives."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.ledger import heartbeat
from appliance.ledger.heartbeat import (
    BEAT_SECONDS,
    SILENT_SECONDS,
    LaneSign,
    Sign,
    boot_id,
    born,
    life,
    lives_elsewhere,
    read_sign,
    write_sign,
)
from appliance.settings.settings import Settings


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no sign grow old because the machine is busy."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def sign_now() -> Sign:
    return Sign(
        at=time.time(),
        monotonic=time.monotonic(),
        boot=boot_id(),
        pid=os.getpid(),
        born=born(os.getpid()),
        started=time.time(),
        lanes={"gpu 1": LaneSign(doing="read slide-3", since=1.0)},
    )


def test_a_sign_is_read_as_it_was_written(settings: Settings) -> None:
    assert not life(settings).told
    sign = sign_now()
    write_sign(settings, sign)
    assert read_sign(settings) == sign
    assert life(settings).alive
    write_sign(settings, replace(sign, lanes={}))  # shorter than the one before
    assert read_sign(settings) == replace(sign, lanes={})


def test_a_silent_daemon_is_told_with_its_cause(settings: Settings) -> None:
    old = replace(sign_now(), monotonic=time.monotonic() - SILENT_SECONDS - 1)
    write_sign(settings, old)
    found = life(settings)
    assert not found.alive
    assert "does not answer" in found.sentence  # this process is there
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_sign(settings, replace(old, pid=gone.pid))
    assert "Its process is gone" in life(settings).sentence
    write_sign(settings, replace(old, born=1))  # the number is another process's by now
    assert "Its process is gone" in life(settings).sentence
    write_sign(settings, replace(sign_now(), boot="another"))
    assert not life(settings).alive


def test_the_clock_on_the_wall_decides_nothing(settings: Settings) -> None:
    write_sign(settings, replace(sign_now(), at=time.time() + 86400))
    assert life(settings).alive
    write_sign(settings, replace(sign_now(), at=time.time() - 86400))
    assert life(settings).alive


def test_the_last_sign_says_why(settings: Settings) -> None:
    write_sign(settings, replace(sign_now(), ended="it received SIGTERM.", lanes={}))
    found = life(settings)
    assert not found.alive
    assert found.sentence.endswith(": it received SIGTERM. Start it: tandem run")


def test_trouble_of_a_lane_is_told(settings: Settings) -> None:
    lanes = {"gpu 1": LaneSign(doing="", since=1.0, trouble="no worker")}
    write_sign(settings, replace(sign_now(), lanes=lanes))
    found = life(settings)
    assert (found.alive, found.trouble) == (True, True)
    assert "gpu 1: no worker" in found.sentence


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lanes": 3}', "\0" * 16384])
def test_a_damaged_sign_is_none(settings: Settings, text: str) -> None:
    (settings.state_dir / "heartbeat.json").write_text(text)
    assert read_sign(settings) is None
    assert not life(settings).alive
    assert "cannot be read" in life(settings).sentence


def test_a_sign_that_is_too_long_leaves_out_the_lanes(settings: Settings) -> None:
    lanes = {f"gpu {n}": LaneSign(doing="", since=1.0, trouble="x" * 300) for n in range(96)}
    write_sign(settings, replace(sign_now(), lanes=lanes))
    assert life(settings).alive
    some = {name: lane for name, lane in lanes.items() if name in ("gpu 1", "gpu 2")}
    write_sign(settings, replace(sign_now(), lanes=some))
    assert life(settings).sentence.count("x" * 300) == 1


def many_lanes(number: int, trouble: str = "") -> dict[str, LaneSign]:
    return {
        f"delivery {number}": LaneSign(
            doing="", since=1.0, trouble=trouble and f"{trouble} {number}"
        )
        for number in range(number)
    }


def test_a_lane_that_is_held_up_is_told_among_many_that_are_not(settings: Settings) -> None:
    held = {"gpu 1": LaneSign(doing="read slide-3", since=1.0, trouble="the share is away " * 100)}
    works = {"gpu 2": LaneSign(doing="read slide-4", since=1.0)}
    write_sign(settings, replace(sign_now(), lanes={**many_lanes(400), **works, **held}))
    found = life(settings)
    assert found.alive and found.trouble and "gpu 1: the share is away" in found.sentence
    sign = read_sign(settings)
    assert sign is not None and sign.lanes["gpu 2"] == works["gpu 2"]
    assert 100 < len(sign.lanes) < 400  # as many as have room


@pytest.mark.parametrize(("number", "told"), [(50, 50), (110, 110), (2000, None)])
def test_no_lane_that_is_held_up_is_left_out_in_silence(
    settings: Settings, number: int, told: int | None
) -> None:
    lanes = many_lanes(number, trouble="the share is away " * 20)
    write_sign(settings, replace(sign_now(), lanes=lanes))
    sign = read_sign(settings)
    assert sign is not None and all(lane.trouble for lane in sign.lanes.values())
    assert life(settings).trouble
    if told is not None:
        assert len(sign.lanes) == told
        return
    more = f"{number - len(sign.lanes) + 1} more lanes are held up"
    assert sign.lanes["others"].trouble == more and more in life(settings).sentence


def test_a_process_that_cannot_be_seen_is_not_called_gone_for_sure(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hanging daemon looks like none under ``ProtectProc=invisible``, or in a container."""
    proc = tmp_path / "proc"
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to("pid:[4026531836]")
    (proc / "1").mkdir()
    write_sign(settings, replace(sign_now(), boot="", monotonic=0.0))
    monkeypatch.setattr(heartbeat, "PROC", proc)
    monkeypatch.setattr(heartbeat, "SYSTEMD", tmp_path / "systemd")
    assert "Start it: tandem run" in life(settings).sentence
    (proc / "1").rmdir()
    hidden = life(settings).sentence
    (proc / "1").mkdir()
    (proc / "self/ns/pid").unlink()
    (proc / "self/ns/pid").symlink_to("pid:[4026532000]")
    contained = life(settings).sentence
    for sentence, look in ((hidden, "systemctl status tandem"), (contained, "docker compose ps")):
        assert f"or cannot be seen from here: {look}" in sentence
        assert "tandem run" not in sentence
    assert "systemctl" not in contained
    (tmp_path / "systemd").mkdir()  # a container of a whole system has services of its own
    assert "Start it: tandem run" in life(settings).sentence
    (proc / "1").rmdir()
    assert life(settings).sentence == hidden


ELSEWHERE = Sign(at=5.0, monotonic=1.0, boot="of another machine", pid=1, born=1, started=1.0)
TORN = "{"


def put(settings: Settings, sign: Sign | str | None) -> None:
    """Give a sign, a text in its place, or none."""
    if isinstance(sign, Sign):
        write_sign(settings, sign)
    elif sign is not None:
        (settings.state_dir / "heartbeat.json").write_text(sign)


def waiting(waited: list[float], then: Callable[[], None]) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        waited.append(seconds)
        then()

    return wait


@pytest.mark.parametrize(
    ("first", "later", "lives"),
    [
        (ELSEWHERE, replace(ELSEWHERE, at=4.0), True),  # its clock was set
        (ELSEWHERE, None, False),
        (ELSEWHERE, replace(ELSEWHERE, at=9.0, ended="it received SIGTERM."), False),
        (ELSEWHERE, TORN, True),
        (TORN, ELSEWHERE, True),
        (TORN, TORN + " ", True),
        (TORN, None, False),  # damaged, and nobody writes it
        ("", None, False),
    ],
)
def test_a_daemon_of_another_machine_is_looked_for_as_long_as_one_may_be_silent(
    first: Sign | str, later: Sign | str | None, lives: bool, settings: Settings
) -> None:
    waited: list[float] = []
    put(settings, first)
    wait = waiting(waited, lambda: put(settings, later))
    assert lives_elsewhere(settings, wait) == lives
    assert waited == [SILENT_SECONDS + BEAT_SECONDS]


def test_nobody_is_looked_for_where_no_daemon_of_another_machine_can_be(settings: Settings) -> None:
    for sign in (None, sign_now(), replace(ELSEWHERE, ended="it received SIGTERM.")):
        put(settings, sign)
        assert not lives_elsewhere(settings, lambda _: pytest.fail("it waits"))
