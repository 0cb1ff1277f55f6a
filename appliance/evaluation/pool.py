"""Process pool for cases: one worker process per case, as many at once as there are cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import cv2

from appliance.readers.tile_pass import Progress
from appliance.settings.extensions import load_extensions
from models.child_process import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_all(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int | None,
    what: str,
    extensions: Sequence[str],
    progress: Progress,
) -> list[Result]:
    """Run `work` on each job; return the results in the jobs' order. Both must be picklable.

    `extensions` are loaded in each worker process (setting ``extensions``).
    """
    cores = os.cpu_count() or 1
    count = max(1, min(len(jobs), workers or cores))
    found: dict[int, Result] = {}
    with ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(os.getpid(), max(1, cores // count), extensions),
    ) as pool:
        futures = {pool.submit(work, job): k for k, job in enumerate(jobs)}
        progress(what, 0, len(jobs))
        try:
            for future in as_completed(futures):
                found[futures[future]] = future.result()
                progress(what, len(found), len(jobs))
        except BaseException:
            # Cancel jobs that have not begun, so that the error is seen at once.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[k] for k in range(len(jobs))]


def _start(parent_pid: int, threads: int, extensions: Sequence[str]) -> None:
    end_with_parent(parent_pid)
    # Set before torch is loaded: processes that each take all cores would slow each other down.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    load_extensions(extensions)
