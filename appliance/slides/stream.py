"""Tiles of a slide as batches: decoded by threads ahead of the network, bounded."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import SlideError
from appliance.geometry import TILE_PX, TileIndex
from appliance.slides.reader import SlideReader

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Batch = tuple[Sequence[TileIndex], Pixels]
Answer = TypeVar("Answer")
Allocate = Callable[[tuple[int, ...]], Pixels]


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


DECODE_THREADS = min(8, max(2, usable_cores()))
AHEAD = 2
"""Batches that are decoded ahead of the caller."""


def _pageable(shape: tuple[int, ...]) -> Pixels:
    return np.empty(shape, dtype=np.uint8)


class TileStream:
    """Tiles of a slide, in batches; those that cannot be decoded are left out and counted.

    Iterating yields (indices, pixels uint8 (n, `px`, `px`, 3), glass calibrated to 255). The same
    few batches of memory are filled again and again, however large the slide is: pixels hold until
    the `hold`-th batch after them is asked for. `allocate` gives that memory, `threads` fill it.
    `unreadable` grows as they come.
    """

    def __init__(
        self,
        slide: SlideReader,
        tiles: Sequence[TileIndex],
        white_rgb: tuple[int, int, int],
        batch_size: int,
        *,
        px: int = TILE_PX,
        hold: int = 1,
        allocate: Allocate = _pageable,
        threads: int = DECODE_THREADS,
    ) -> None:
        self._slide, self._tiles, self._batch_size = slide, tiles, batch_size
        self._white = white_gain(white_rgb)
        self._px, self._hold, self._allocate = px, hold, allocate
        self._threads = threads
        self.unreadable: list[TileIndex] = []

    @property
    def unreadable_percent(self) -> float:
        """Share (0-100) of the tiles that could not be decoded; 0 of none."""
        return 100 * len(self.unreadable) / max(1, len(self._tiles))

    def __iter__(self) -> Iterator[Batch]:
        shape = (min(self._batch_size, len(self._tiles)), self._px, self._px, 3)
        free: list[Pixels] = []
        given: deque[Pixels] = deque()
        ahead: deque[tuple[Sequence[TileIndex], Pixels, list[Future[bool]]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            for start in range(0, len(self._tiles), self._batch_size):
                batch = self._tiles[start : start + self._batch_size]
                if free:
                    memory = free.pop()
                else:
                    fresh = len(given) < self._hold
                    memory = self._allocate(shape) if fresh else given.popleft()
                read = [
                    pool.submit(self._read, index, into)
                    for index, into in zip(batch, memory, strict=False)
                ]
                ahead.append((batch, memory, read))
                if len(ahead) > AHEAD:
                    memory = ahead[0][1]
                    batch_read = self._collect(*ahead.popleft())
                    if batch_read is None:  # nobody was given it
                        free.append(memory)
                    else:
                        given.append(memory)
                        yield batch_read
            while ahead:
                batch_read = self._collect(*ahead.popleft())
                if batch_read is not None:
                    yield batch_read

    def _read(self, index: TileIndex, into: Pixels) -> bool:
        try:
            calibrate(self._slide.read_tile(index, self._px), self._white, into)
        except SlideError as err:
            log.warning("tile %d, %d: %s", index.column, index.row, err.reason)
            return False
        return True

    def _collect(
        self, batch: Sequence[TileIndex], memory: Pixels, read: Sequence[Future[bool]]
    ) -> Batch | None:
        """The batch without what could not be decoded; none where nothing could."""
        there = [number for number, future in enumerate(read) if future.result()]
        if len(there) == len(batch):
            return batch, memory[: len(batch)]
        self.unreadable += [index for k, index in enumerate(batch) if k not in set(there)]
        return ([batch[k] for k in there], memory[there]) if there else None


def in_lanes(
    stream: Iterable[Batch], work: Callable[[Sequence[TileIndex], Pixels], Answer], lanes: int
) -> Iterator[tuple[Sequence[TileIndex], Pixels, Answer]]:
    """`work` on every batch, on `lanes` threads, in the stream's order.

    The stream has to hold `lanes` batches.
    """
    ahead: deque[tuple[Sequence[TileIndex], Pixels, Future[Answer]]] = deque()
    with ThreadPoolExecutor(lanes, thread_name_prefix="network") as pool:
        for indices, pixels in stream:
            ahead.append((indices, pixels, pool.submit(work, indices, pixels)))
            if len(ahead) == lanes:
                done, shown, answer = ahead.popleft()
                yield done, shown, answer.result()
        for done, shown, answer in ahead:
            yield done, shown, answer.result()


def white_gain(white_rgb: tuple[int, int, int]) -> NDArray[np.float32]:
    """What takes the slide's glass to 255 in each channel: a matrix, (3, 3), of nothing else."""
    return np.diag(255.0 / np.maximum(white_rgb, 1)).astype(np.float32)


def calibrate(
    pixels: NDArray[np.uint8], gain: NDArray[np.float32], into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Apply `white_gain` to uint8 RGB pixels (..., rows, cols, 3); `into` is as large."""
    out = np.empty_like(pixels) if into is None else into
    rows = (-1, pixels.shape[-2], 3)
    # A third of the time that a look-up table takes.
    cv2.transform(pixels.reshape(rows), gain, out.reshape(rows))
    return out
