"""Tiles of a slide as batches: decoded by threads ahead of the network, bounded."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.analysis.slide import SlideReader
from appliance.errors import SlideError
from appliance.geometry import TileIndex

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Batch = tuple[Sequence[TileIndex], Pixels]

DECODE_THREADS = 2
"""OpenSlide's own lock and two cores: more threads measured no faster."""


class TileStream:
    """Tiles of a slide, in batches; those that cannot be decoded are left out and counted.

    Iterating yields (indices, pixels uint8 (n, 512, 512, 3) at `TILE_MPP`, glass calibrated to
    255). At most two batches are in memory ahead of the caller, however large the slide is.
    `unreadable` grows as they come.
    """

    def __init__(
        self,
        slide: SlideReader,
        tiles: Sequence[TileIndex],
        white_rgb: tuple[int, int, int],
        batch_size: int,
    ) -> None:
        self._slide, self._tiles, self._batch_size = slide, tiles, batch_size
        self._white = white_table(white_rgb)
        self.unreadable: list[TileIndex] = []

    @property
    def unreadable_percent(self) -> float:
        """Share (0-100) of the tiles that could not be decoded; 0 of none."""
        return 100 * len(self.unreadable) / max(1, len(self._tiles))

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode") as pool:
            ahead: deque[tuple[Sequence[TileIndex], list[Future[Pixels | None]]]] = deque()
            for start in range(0, len(self._tiles), self._batch_size):
                batch = self._tiles[start : start + self._batch_size]
                ahead.append((batch, [pool.submit(self._read, index) for index in batch]))
                if len(ahead) > 2:
                    yield from self._collect(*ahead.popleft())
            while ahead:
                yield from self._collect(*ahead.popleft())

    def _read(self, index: TileIndex) -> Pixels | None:
        try:
            return calibrate(self._slide.read_tile(index), self._white)
        except SlideError as err:
            log.warning("tile %d, %d: %s", index.column, index.row, err.reason)
            return None

    def _collect(
        self, indices: Sequence[TileIndex], futures: Sequence[Future[Pixels | None]]
    ) -> Iterator[Batch]:
        read = {
            i: p for i, f in zip(indices, futures, strict=True) if (p := f.result()) is not None
        }
        self.unreadable += [index for index in indices if index not in read]
        if read:
            yield list(read), np.stack(list(read.values()))


def white_table(white_rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Look-up table, shape (256, 3), that takes the slide's glass to 255 in each channel."""
    values = np.arange(256, dtype=np.float64)[:, None]
    return np.clip(values * 255.0 / np.maximum(white_rgb, 1), 0, 255).round().astype(np.uint8)


def calibrate(pixels: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply `white_table` to uint8 RGB pixels (..., rows, cols, 3)."""
    rows = pixels.reshape(-1, pixels.shape[-2], 3)
    return np.asarray(cv2.LUT(rows, table.reshape(1, 256, 3)), np.uint8).reshape(pixels.shape)
