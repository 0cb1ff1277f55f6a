"""Progress of jobs that run in several processes: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class TimeLeft:
    """Estimate of the time that is left, from the jobs that have ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting, self._at_once = 0, 1
        self._began: dict[int, float] = {}
        self._took: list[float] = []

    def begins(self, jobs: int, at_once: int) -> None:
        """Take note that `jobs` are to be run, at most `at_once` at a time."""
        self._waiting, self._at_once = jobs, max(1, at_once)

    def began(self, job: int) -> None:
        """Take note that a job runs."""
        if job not in self._began:
            self._began[job] = self._clock()
            self._waiting -= 1

    def ended(self, job: int, seconds: float) -> None:
        """Take note that a job ended after `seconds`."""
        self.began(job)
        del self._began[job]
        self._took.append(seconds)

    @property
    def seconds(self) -> float | None:
        """Seconds to the end of the last job; None before the first one has ended."""
        if not self._took:
            return None
        each, now = sum(self._took) / len(self._took), self._clock()
        running = sum(max(0.0, each - (now - began)) for began in self._began.values())
        return (running + each * self._waiting) / self._at_once


class JobProgress:
    """Progress of jobs on standard error.

    A terminal shows a bar of all jobs and one of each job that runs, which moves with its steps.
    Elsewhere, and above the bars, each job that ends is a line.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._left = TimeLeft()
        self._what, self._total, self._done = "", 0, 0
        self._all: TaskID | None = None
        self._running: dict[int, tuple[str, TaskID]] = {}

    def __enter__(self) -> JobProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begins(self, what: str, total: int, there: int, at_once: int) -> None:
        """Show how many jobs there are, and how many of them are done already."""
        self._what, self._total, self._done = what, total, there
        self._left.begins(total - there, at_once)
        text = f"{total} {what}{'s' * (total != 1)}"
        if there:
            text += f": {there} done already, {total - there} to run"
        self.note(f"{text}, {at_once} at once" if at_once > 1 else text)
        self._all = self._bars.add_task(f"{what}s", total=total, completed=there, left="")

    def step(self, job: int, what: str, done: int, total: int) -> None:
        """Show the step of a running job."""
        self._left.began(job)
        shown, bar = self._running.get(job, ("", None))
        if bar is not None and shown != what:
            self._bars.remove_task(bar)
        if bar is None or shown != what:
            bar = self._bars.add_task(f"  {what}", total=max(1, total), left="")
            self._running[job] = (what, bar)
        self._bars.update(bar, completed=done, total=max(1, total))
        self._show_left()

    def ended(self, job: int, said: str, seconds: float) -> None:
        """Show a job's result in a line."""
        self._left.ended(job, seconds)
        if job in self._running:
            self._bars.remove_task(self._running.pop(job)[1])
        self._done += 1
        text = f"{self._what} {self._done} of {self._total}: {said}, {_duration(seconds)}"
        if self._done < self._total:
            text += f"; {self._show_left()}"
        self.note(text)

    def note(self, text: str) -> None:
        """Show a line."""
        if self._console.is_terminal:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(text, err=True)

    def _show_left(self) -> str:
        seconds = self._left.seconds
        text = "" if seconds is None else f"about {_duration(seconds)} left"
        if self._all is not None:
            self._bars.update(self._all, completed=self._done, left=text)
        return text


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
