"""Progress of jobs: lines on a pipe, and the time that is left."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from appliance.cli.job_progress import JobProgress, TimeLeft


class Clock:
    """A clock that goes when it is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_follows_from_the_jobs_that_ended() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.begins(5, 2)
    assert left.seconds is None
    left.began(0)
    left.began(1)
    assert left.seconds is None
    clock.now += 60
    left.ended(0, 60)
    # One is due now, three wait; two run at once.
    assert left.seconds == pytest.approx(3 * 60 / 2)
    left.began(2)
    clock.now += 30
    assert left.seconds == pytest.approx((30 + 2 * 60) / 2)
    left.ended(1, 90)
    assert left.seconds == pytest.approx((45 + 2 * 75) / 2)
    for job in (2, 3, 4):
        left.ended(job, 75)
    assert left.seconds == 0


def test_a_pipe_gets_a_line_for_each_job_that_ends() -> None:
    with redirect_stderr(io.StringIO()) as err, JobProgress() as progress:
        progress.note("results of another configuration, to be run again: 1")
        progress.begins("pair", 4, 1, 2)
        progress.step(0, "tumor on H&E", 8, 32)
        progress.step(0, "stain on IHC", 8, 32)
        progress.ended(0, "score 2+, truth 2+", 58.4)
        progress.ended(1, "no score, truth 0", 580)
        progress.ended(2, "failed, truth 0", 12000)
    lines = err.getvalue().splitlines()
    assert lines[:2] == [
        "results of another configuration, to be run again: 1",
        "4 pairs: 1 done already, 3 to run, 2 at once",
    ]
    assert lines[2].startswith("pair 2 of 4: score 2+, truth 2+, 58 s; about ")
    assert lines[2].endswith(" left")
    assert lines[3].startswith("pair 3 of 4: no score, truth 0, 10 min; about ")
    assert lines[4:] == ["pair 4 of 4: failed, truth 0, 3 h 20 min"]


def test_one_job_is_no_plural() -> None:
    with redirect_stderr(io.StringIO()) as err, JobProgress() as progress:
        progress.begins("pair", 1, 0, 1)
    assert err.getvalue() == "1 pair\n"
