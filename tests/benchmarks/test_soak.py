"""A soak goes on where it was ended, and its sum hides nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.soak import P99_LIMIT_S, Round, p99, rounds_of, soak, summed


def made(
    number: int,
    seed: int,
    *,
    slow_s: float = 1.0,
    wrong: list[str] | None = None,
    load: float = 0.1,
    code: str = "",
    sites: int = 1,
) -> Round:
    return Round(
        number=number,
        seed=seed,
        load=load,
        seconds=60.0,
        faults=50,
        pairs=3,
        delivered=3,
        objects=3,
        wrong=wrong or [],
        code=code,
        sites=sites,
        cpu_s={"kill-daemon": 98.0, "disk-full": 3.0},
        recovery_s={"kill-daemon": [1.0] * 49, "disk-full": [slow_s]},
    )


def test_a_soak_that_was_ended_goes_on_with_the_next_round(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "soak.jsonl"
    begun: list[tuple[int, int]] = []

    def power_cut(number: int, seed: int) -> Round:
        begun.append((number, seed))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return made(number, seed)

    with pytest.raises(KeyboardInterrupt):
        soak(log, 100, 7, 1.0, power_cut)
    with log.open("a") as stream:
        stream.write('{"soak": 7, "number"')  # cut off in the middle of its line
    soak(log, 100, 8, 1.0, made)  # another soak in the same log
    soak(log, 100, 7, 1.0, power_cut)
    assert [number for number, _ in begun] == [0, 1, 1]
    assert {each.sites for each in rounds_of(log, 7)} == {1}
    assert len({seed for _, seed in begun}) == 2
    found = rounds_of(log, 7)
    assert [each.number for each in found] == [0, 1]
    other = rounds_of(log, 8)
    assert {each.seed for each in found}.isdisjoint(each.seed for each in other)
    assert len(rounds_of(log, None)) == len(found) + len(other)
    soak(log, 100, 7, 1.0, power_cut)  # it is done
    assert len(begun) == 3


def fail_once(number: int, seed: int) -> Round:
    if number == 1:
        raise ValueError("no disk")
    return made(number, seed)


def test_rounds_at_the_same_time_fill_gaps_and_survive_one_that_fails(tmp_path: Path) -> None:
    log = tmp_path / "soak.jsonl"
    with pytest.raises(ValueError, match="no disk"):
        soak(log, 150, 7, 1.0, fail_once, 2, ThreadPoolExecutor(2))
    assert [each.number for each in rounds_of(log, 7)] == [0]
    soak(log, 300, 7, 1.0, made, 2, ThreadPoolExecutor(2))
    found = rounds_of(log, 7)
    assert sorted(each.number for each in found) == list(range(6))
    assert len({each.seed for each in found}) == 6


LONG_ROUNDS = """
import sys, time
from pathlib import Path
from benchmarks.soak import heed_signals, soak

def long_round(number, seed):
    begun, ended = (Path(sys.argv[1]) / f"{number}.{what}" for what in ("begun", "ended"))
    try:
        begun.touch()
        time.sleep(600)
    finally:
        ended.touch()  # a site ends its daemon here

if __name__ == "__main__":
    heed_signals()
    soak(Path(sys.argv[1]) / "log", 1000, 7, 1.0, long_round, 2)
"""


def test_who_ends_a_soak_ends_its_sites(tmp_path: Path) -> None:
    script = tmp_path / "rounds.py"
    script.write_text(LONG_ROUNDS)
    # Begun as by a shell in the background: SIGINT is ignored.
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, script, tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while len(list(tmp_path.glob("*.begun"))) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(300) != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.glob("*.ended"))) == 2


def test_a_sum_fails_for_one_breach_a_slow_end_or_too_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = [made(0, 1), made(1, 2)]
    assert summed(good, 100)
    assert "100 of 100 faults in 2 rounds" in capsys.readouterr().out
    assert not summed(good, 101)
    assert not summed([good[0], made(1, 2, wrong=["a slide is lost"])], 100)
    assert "seed 2: a slide is lost" in capsys.readouterr().out
    slow = [made(n, n, slow_s=2 * P99_LIMIT_S) for n in range(2)]
    assert not summed(slow, 100)


def test_a_sum_tells_load_commit_and_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    slow = [made(n, n, slow_s=2 * P99_LIMIT_S, load=4.0, code="aaaa") for n in range(2)]
    assert not summed(slow, 100)
    capsys.readouterr()
    # Other work, or other sites, made those slow: the limit is that of a machine without any.
    slow += [made(n, n, slow_s=2 * P99_LIMIT_S, sites=4, code="aaaa") for n in (4, 5)]
    assert summed([*slow, made(2, 2, code="bbbb"), made(3, 3, code="bbbb")], 300)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {" ".join(row[:-4]): row[-4:] for row in rows if len(row) > 4}
    assert found["machine idle"] == found["commit bbbb"] == ["100", "1.0", "1.0", "1.0"]
    assert found["commit aaaa"][-1] == found["all"][-1] == "60.0"
    assert found["kill-daemon 294"][-1] == "2.0"


def test_the_percentile_is_that_of_all() -> None:
    assert p99([1.0] * 100) == 1.0
    assert p99([*[1.0] * 98, 50.0, 50.0]) == 50.0
    assert p99([4.0]) == 4.0
    assert p99([]) == 0.0
