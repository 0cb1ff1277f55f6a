"""Drawing of a whole slide block by block, a large one in worker processes; its truth rasters."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.child_process import end_with_parent
from models.synthesis.canvas import View
from models.synthesis.pyramid import FileFormat, write_pyramid
from models.synthesis.render import StainName, has_tissue, render_region
from models.synthesis.stain import StainStyle
from models.synthesis.world import World

MPP = 0.2793
"""Usual resolution of level 0 in µm per px."""
BLOCK_PX = 1024
"""Edge of the squares in which slides are drawn; a strip is one row of them."""
FEW_BLOCKS = 12
"""Blocks of the largest slide that this process draws itself: it takes others longer to start."""
CLASS_STEP, MASK_STEP = 4, 16
"""Steps of the truth's rasters in level-0 px at `MPP`: classes every 4 px, masks every 16 px."""
_STEPS = (1, 2, 4, 8)
"""Steps of classes at other resolutions; they divide a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideJob:
    """Everything that determines the pixels of one slide; sent to worker processes."""

    world: World
    view: View
    stain: StainName
    style: StainStyle
    width_px: int
    height_px: int

    @property
    def class_step(self) -> int:
        """Step of the classes in level-0 px; in µm it is near that of slides at `MPP`."""
        wanted = CLASS_STEP * MPP / self.view.mpp
        return min(_STEPS, key=lambda step: abs(math.log(step / wanted)))

    @property
    def mask_step(self) -> int:
        """Step of the masks in level-0 px."""
        return self.class_step * MASK_STEP // CLASS_STEP


_JOB: list[SlideJob] = []


def _start(parent_pid: int, job: SlideJob) -> None:
    end_with_parent(parent_pid)
    cv2.setNumThreads(1)
    _JOB[:] = [job]


def _draw(x_px: int, y_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Return pixels, classes (every `class_step` px), control (every `mask_step` px) of a block."""
    job = _JOB[0]
    region = render_region(
        job.world, job.view, job.stain, job.style,
        x_px=x_px, y_px=y_px, width_px=BLOCK_PX, height_px=BLOCK_PX,
    )  # fmt: skip
    step = job.class_step
    classes = region.classes[step // 2 :: step, step // 2 :: step]
    step = job.mask_step
    return region.pixels, classes, region.control[step // 2 :: step, step // 2 :: step]


class SlideTruth:
    """Truth rasters of one slide, filled block by block.

    `classes_mpp` and `masks_mpp` are their resolutions in µm/px.
    """

    def __init__(self, job: SlideJob) -> None:
        height_px, width_px = job.height_px, job.width_px
        self._class_step, self._mask_step = job.class_step, job.mask_step
        self.classes_mpp = job.view.mpp * job.class_step
        self.masks_mpp = job.view.mpp * job.mask_step
        rows, columns = -(-height_px // BLOCK_PX), -(-width_px // BLOCK_PX)
        fine, coarse = BLOCK_PX // self._class_step, BLOCK_PX // self._mask_step
        self._classes = np.zeros((rows * fine, columns * fine), dtype=np.uint8)
        self._control = np.zeros((rows * coarse, columns * coarse), dtype=np.uint8)
        self._size = (height_px, width_px)

    def add(
        self, row: int, column: int, classes: NDArray[np.uint8], control: NDArray[np.bool_]
    ) -> None:
        """Set the rasters of the block at (row, column)."""
        fine, coarse = BLOCK_PX // self._class_step, BLOCK_PX // self._mask_step
        self._classes[row * fine : (row + 1) * fine, column * fine : (column + 1) * fine] = classes
        self._control[
            row * coarse : (row + 1) * coarse, column * coarse : (column + 1) * coarse
        ] = control

    @property
    def classes(self) -> NDArray[np.uint8]:
        """Class per px of `classes_mpp`, 0-4 in the numbering of M."""
        rows, columns = (n // self._class_step for n in self._size)
        return self._classes[:rows, :columns]

    @property
    def control(self) -> NDArray[np.uint8]:
        """Control tissue, 0 or 1 per px of `masks_mpp`."""
        rows, columns = (n // self._mask_step for n in self._size)
        return self._control[:rows, :columns]

    @property
    def tumor(self) -> NDArray[np.uint8]:
        """Tumor, 0 or 1 per px of `masks_mpp`: where more than half is tumor."""
        rows, columns = (n // self._mask_step for n in self._size)
        share = cv2.resize(
            (self.classes > 0).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
        )
        mask: NDArray[np.uint8] = (share > 0.5).astype(np.uint8)
        return mask


def _strips(
    pool: Executor, job: SlideJob, truth: SlideTruth, report: Callable[[float], None]
) -> Iterator[NDArray[np.uint8]]:
    """Yield strips of the slide, top to bottom; one strip is computed ahead of the writer."""
    rows, columns = -(-job.height_px // BLOCK_PX), -(-job.width_px // BLOCK_PX)
    ahead: deque[tuple[int, list[Future[Any] | None]]] = deque()
    next_row = 0
    while next_row < rows or ahead:
        while next_row < rows and len(ahead) < 2:
            y = next_row * BLOCK_PX
            futures = [
                pool.submit(_draw, c * BLOCK_PX, y)
                if has_tissue(job.world, job.view, c * BLOCK_PX, y, BLOCK_PX, job.stain)
                else None
                for c in range(columns)
            ]
            ahead.append((next_row, futures))
            next_row += 1
        row, futures = ahead.popleft()
        strip = np.empty((BLOCK_PX, columns * BLOCK_PX, 3), dtype=np.uint8)
        strip[:] = job.style.white
        for column, future in enumerate(futures):
            if future is not None:
                pixels, classes, control = future.result()
                strip[:, column * BLOCK_PX : (column + 1) * BLOCK_PX] = pixels
                truth.add(row, column, classes, control)
        report((row + 1) / rows)
        height = min(BLOCK_PX, job.height_px - row * BLOCK_PX)
        yield strip[:height, : job.width_px]


class _Here(Executor):
    """Executor of this process: what is submitted is done at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def _executor(job: SlideJob, workers: int | None) -> Executor:
    """Return what draws a slide's blocks: `workers` processes, or this one where blocks are few."""
    if -(-job.width_px // BLOCK_PX) * -(-job.height_px // BLOCK_PX) <= FEW_BLOCKS:
        _JOB[:] = [job]
        return _Here()
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(os.getpid(), job)
    )


def write_slide(
    path: Path,
    job: SlideJob,
    file_format: FileFormat,
    workers: int | None,
    report: Callable[[float], None],
) -> SlideTruth:
    """Draw a slide with `workers` processes (None: one per core) and write it; return its truth.

    `report` gets the share (0-1) that is drawn.
    """
    truth = SlideTruth(job)
    with _executor(job, workers) as pool:
        write_pyramid(
            path,
            _strips(pool, job, truth, report),
            width_px=job.width_px,
            height_px=job.height_px,
            mpp=job.view.mpp,
            file_format=file_format,
        )
    return truth
