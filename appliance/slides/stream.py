"""Stream of a slide's tiles in batches, decoded by threads ahead of the network."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.domain import QuarantineReason
from appliance.errors import LookAgainError, SlideError
from appliance.geometry import TILE_PX, TileIndex
from appliance.slides.glass import calibrate, white_gain
from appliance.slides.reader import SlideReader
from models.slide_level.unscanned import FILL

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Batch = tuple[Sequence[TileIndex], Pixels]
Answer = TypeVar("Answer")
Allocate = Callable[[tuple[int, ...]], Pixels]


def usable_cores() -> int:
    """Number of cores that this process may use; in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


DECODE_THREADS = min(8, max(2, usable_cores()))
SECOND_LOOKS = 20
"""Tiles that could not be decoded that are read once more at the end."""
AHEAD = 2
"""Number of batches decoded ahead of the caller."""


def _pageable(shape: tuple[int, ...]) -> Pixels:
    return np.empty(shape, dtype=np.uint8)


class TileStream:
    """Tiles of a slide in batches; tiles that cannot be decoded are left out and counted.

    Iterating yields (indices, pixels uint8 (n, `px`, `px`, 3), glass calibrated to 255). A fixed
    number of batch buffers is reused, however large the slide is: pixels are valid until the
    `hold`-th batch after them is requested. `allocate` provides the buffers, `threads` threads fill
    them. `unreadable` grows during the iteration.

    Raises
    ------
    LookAgainError
        At the end, if a tile that was left out can be read by then: the share failed for a moment,
        and the slide is not to blame.
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
        """Share (0-100) of the tiles that could not be decoded; 0 without tiles."""
        return 100 * len(self.unreadable) / max(1, len(self._tiles))

    def __iter__(self) -> Generator[Batch, None, None]:
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
                    if batch_read is None:  # the caller never saw this buffer
                        free.append(memory)
                    else:
                        given.append(memory)
                        yield batch_read
            while ahead:
                batch_read = self._collect(*ahead.popleft())
                if batch_read is not None:
                    yield batch_read
        self._look_again()

    def _look_again(self) -> None:
        if not self.unreadable:
            return
        spare = _pageable((self._px, self._px, 3))
        if any(self._read(index, spare) for index in self.unreadable[:SECOND_LOOKS]):
            raise LookAgainError(
                "Tiles of a slide could not be read, and now they can: its folder was away for a "
                "moment. The slide is read again."
            )

    def _read(self, index: TileIndex, into: Pixels) -> bool:
        try:
            tile = self._slide.read_tile(index, self._px)
            # Who asks for a tile saw tissue there on a coarser level.
            if tile.min() == FILL and not self._slide.has_px(index, self._px):
                raise SlideError(QuarantineReason.DAMAGED, "a tile of tissue holds no px")
            calibrate(tile, self._white, into)
        except SlideError as err:
            log.warning("tile %d, %d: %s", index.column, index.row, err.reason)
            return False
        return True

    def _collect(
        self, batch: Sequence[TileIndex], memory: Pixels, read: Sequence[Future[bool]]
    ) -> Batch | None:
        """The batch without tiles that could not be decoded; None where no tile could be."""
        there = [number for number, future in enumerate(read) if future.result()]
        if len(there) == len(batch):
            return batch, memory[: len(batch)]
        self.unreadable += [index for k, index in enumerate(batch) if k not in set(there)]
        return ([batch[k] for k in there], memory[there]) if there else None


def in_lanes(
    stream: Iterable[Batch], work: Callable[[Sequence[TileIndex], Pixels], Answer], lanes: int
) -> Iterator[tuple[Sequence[TileIndex], Pixels, Answer]]:
    """Run `work` on every batch on `lanes` threads; yield the answers in the stream's order.

    The stream must hold `lanes` batches.
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
