"""Process pool for cases: one worker process per case, as many at once as there are cores.

A worker reports the steps of its job (`report`); the process that started it passes them on.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import cv2

from appliance.settings.extensions import load_extensions
from models.child_process import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")

REFRESH_S = 0.2
"""Time between two looks at what the workers report."""
BEGUN = "starting"
"""First step of every job."""


class Watcher(Protocol):
    """Listener to running jobs. Jobs are numbered from 0 in the order in which they are run."""

    def begins(self, what: str, total: int, there: int, at_once: int) -> None:
        """Take note of the work: `total` jobs of the kind `what` (in the singular).

        The results of `there` of them exist already. The others run, at most `at_once` at a time.
        """

    def step(self, job: int, what: str, done: int, total: int) -> None:
        """Take note that a running job has done `done` of `total` parts of the step `what`."""

    def ended(self, job: int, said: str, seconds: float) -> None:
        """Take note that a job ended after `seconds`; `said` is its result in a few words."""

    def note(self, text: str) -> None:
        """Take note of a sentence for people."""


@dataclass
class _Reporter:
    """Way from a worker process to the one that started it, and the number of the job there."""

    steps: Any = None
    job: int = 0


_REPORTER = _Reporter()


def report(what: str, done: int, total: int) -> None:
    """Report a step of the job that this worker process runs; silent in any other process."""
    if _REPORTER.steps is not None:
        _REPORTER.steps.put((_REPORTER.job, what, done, total))


def run_all(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int | None,
    what: str,
    extensions: Sequence[str],
    watch: Watcher,
    say: Callable[[Result], str] = str,
    there: int = 0,
) -> list[Result]:
    """Run `work` on each job; return the results in the jobs' order. Both must be picklable.

    `extensions` are loaded in each worker process (setting ``extensions``). `say` tells a result in
    a few words. `there` is the number of jobs whose results exist and that are not among `jobs`.
    """
    cores = os.cpu_count() or 1
    count = min(len(jobs), workers or cores)
    watch.begins(what, there + len(jobs), there, count)
    if not jobs:
        return []
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()
    found: dict[int, Result] = {}
    with ProcessPoolExecutor(
        count,
        mp_context=context,
        initializer=_start,
        initargs=(os.getpid(), max(1, cores // count), extensions, steps),
    ) as pool:
        run = partial(_run, work)
        waiting = {pool.submit(run, k, job): k for k, job in enumerate(jobs)}
        try:
            while waiting:
                ended, _ = wait(waiting, timeout=REFRESH_S, return_when=FIRST_COMPLETED)
                for k, step, done, total in _reported(steps):
                    if k not in found:
                        watch.step(k, step, done, total)
                for future in sorted(ended, key=lambda each: waiting[each]):
                    k = waiting.pop(future)
                    found[k], seconds = future.result()
                    watch.ended(k, say(found[k]), seconds)
        except BaseException:
            # Cancel jobs that have not begun, so that the error is seen at once.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[k] for k in range(len(jobs))]


def _reported(steps: Any) -> Iterator[tuple[int, str, int, int]]:
    """Yield the steps that were reported since the last look: job, what, done, total."""
    while True:
        try:
            yield steps.get_nowait()
        except queue.Empty:
            return


def _run(work: Callable[[Job], Result], number: int, job: Job) -> tuple[Result, float]:
    """Result of a job, and the seconds that it took."""
    _REPORTER.job = number
    start = time.monotonic()
    report(BEGUN, 0, 1)
    return work(job), time.monotonic() - start


def _start(parent_pid: int, threads: int, extensions: Sequence[str], steps: Any) -> None:
    end_with_parent(parent_pid)
    # Steps that nobody reads any more must not keep a worker from ending.
    steps.cancel_join_thread()
    _REPORTER.steps = steps
    # Set before torch is loaded: processes that each take all cores would slow each other down.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    load_extensions(extensions)
