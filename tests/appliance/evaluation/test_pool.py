"""Pool of an evaluation: what workers report arrives, results come in order."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.evaluation.pool import report, run_all

PARTS = 5


class Seen:
    """A watcher that keeps what it is told, and leaves a file for each part that it has seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.begun: list[tuple[str, int, int, int]] = []
        self.steps: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
        self.said: dict[int, str] = {}

    def begins(self, what: str, total: int, there: int, at_once: int) -> None:
        self.begun.append((what, total, there, at_once))

    def step(self, job: int, what: str, done: int, total: int) -> None:
        assert job not in self.said
        self.steps[job].append((what, done, total))
        (self._folder / f"{job}-{done}").touch()

    def ended(self, job: int, said: str, seconds: float) -> None:
        assert seconds > 0
        self.said[job] = said

    def note(self, text: str) -> None:
        raise AssertionError(text)


def test_steps_of_workers_arrive_while_they_run(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    jobs = [(k, tmp_path) for k in range(3)]
    found = run_all(
        _ends_when_seen, jobs, workers=2, what="pair", extensions=(), watch=seen, say=_said
    )
    assert [number for number, _ in found] == [0, 1, 2]
    assert all(pid != os.getpid() for _, pid in found)
    assert seen.begun == [("pair", 3, 0, 2)]
    assert seen.said == {k: f"job {k}" for k in range(3)}
    for k in range(3):
        assert seen.steps[k] == [
            ("starting", 0, 1),
            *(("part", done, PARTS) for done in range(1, PARTS + 1)),
        ]


def test_nothing_to_run_starts_no_process(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    found = run_all(_fails, [], workers=2, what="pair", extensions=(), watch=seen, there=4)
    assert found == []
    assert seen.begun == [("pair", 4, 4, 0)]


def test_an_error_of_a_job_ends_the_run(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    with pytest.raises(SettingsError, match="trouble of job 1"):
        run_all(_fails, [1, 2, 3], workers=1, what="pair", extensions=(), watch=seen)
    assert seen.said == {}


def _ends_when_seen(job: tuple[int, Path]) -> tuple[int, int]:
    """Report the parts of a job; end when the last one has arrived."""
    number, folder = job
    for k in range(1, PARTS + 1):
        report("part", k, PARTS)
    while not (folder / f"{number}-{PARTS}").exists():
        time.sleep(0.05)
    return number, os.getpid()


def _said(result: tuple[int, int]) -> str:
    return f"job {result[0]}"


def _fails(number: int) -> int:
    raise SettingsError(f"trouble of job {number}")
