"""Samples from the tissue generator. The manifest calls them synthetic."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from models.child_process import end_with_parent
from models.datasets.build import Sample
from models.datasets.generated_tiles import (
    FIRST_RESERVED_SEED,
    NON_TUMOR_SHARE,
    SEEDS_PER_RUN,
    GeneratedTile,
    generated_tile,
)
from models.datasets.progress import Progress
from models.errors import DataSetError
from models.spec import Task

_AHEAD = 64
"""Most tiles in work at a time."""


def generated_samples(task: Task, *, count: int, seed: int, progress: Progress) -> Iterator[Sample]:
    """Yield `count` tiles of the seeds from `SEEDS_PER_RUN` x `seed` on; each tile is a patient.

    For L: tumor tiles, and the share without tumor that training on generated tiles uses.

    Raises
    ------
    DataSetError
        If the seeds would reach the held-out ones.
    """
    first = seed * SEEDS_PER_RUN
    # Most seeds without tumor are skipped for L: leave room.
    if count < 1 or not 0 <= first <= FIRST_RESERVED_SEED - 4 * count:
        raise DataSetError(
            f"{count} tiles of seed {seed}: tiles from seed {FIRST_RESERVED_SEED} on are held out. "
            f"Take a seed from 0 to {FIRST_RESERVED_SEED // SEEDS_PER_RUN - 1}."
        )
    made = others = 0
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        while made < count:
            seeds = range(first, first + min(_AHEAD, count - made))
            first = seeds.stop
            for number, tile in zip(seeds, pool.map(generated_tile, seeds), strict=True):
                if task is Task.INTENSITY and not tile.tumor:
                    if others >= NON_TUMOR_SHARE * (made - others):
                        continue
                    others += 1
                made += 1
                yield _sample(task, number, tile)
                progress("generating tiles", made, count)


def _sample(task: Task, seed: int, tile: GeneratedTile) -> Sample:
    labels: dict[Task, int | NDArray[np.uint8]] = {
        Task.TUMOR: tile.tumor,
        Task.INTENSITY: tile.intensity,
        Task.SEGMENTATION: tile.classes,
    }
    return Sample(
        pixels=tile.he if task is Task.TUMOR else tile.ihc,
        label=labels[task],
        patient=f"synthetic-{seed}",
        origin=f"generator, seed {seed}",
    )
