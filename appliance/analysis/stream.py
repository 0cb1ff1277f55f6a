"""Tiles of a slide as batches: decoded by threads ahead of the network, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from appliance.analysis.slide import SlideReader
from appliance.geometry import TileIndex

DECODE_THREADS = 2
"""OpenSlide's own lock and two cores: more threads measured no faster."""


def stream_batches(
    slide: SlideReader,
    tiles: Sequence[TileIndex],
    white_rgb: tuple[int, int, int],
    batch_size: int,
) -> Iterator[tuple[Sequence[TileIndex], NDArray[np.uint8]]]:
    """Yield (indices, pixels uint8 (n, 512, 512, 3) at `TILE_MPP`, glass calibrated to 255).

    At most two batches are in memory ahead of the caller, however large the slide is.
    """
    scale = white_table(white_rgb)
    with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode") as pool:

        def read(index: TileIndex) -> NDArray[np.uint8]:
            return calibrate(slide.read_tile(index), scale)

        ahead: deque[tuple[Sequence[TileIndex], list[Future[NDArray[np.uint8]]]]] = deque()
        for start in range(0, len(tiles), batch_size):
            batch = tiles[start : start + batch_size]
            ahead.append((batch, [pool.submit(read, index) for index in batch]))
            if len(ahead) > 2:
                yield _collect(ahead.popleft())
        while ahead:
            yield _collect(ahead.popleft())


def _collect(
    item: tuple[Sequence[TileIndex], list[Future[NDArray[np.uint8]]]],
) -> tuple[Sequence[TileIndex], NDArray[np.uint8]]:
    indices, futures = item
    return indices, np.stack([future.result() for future in futures])


def white_table(white_rgb: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Look-up table, shape (256, 3), that takes the slide's glass to 255 in each channel."""
    values = np.arange(256, dtype=np.float64)[:, None]
    return np.clip(values * 255.0 / np.maximum(white_rgb, 1), 0, 255).round().astype(np.uint8)


def calibrate(pixels: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply `white_table` to uint8 RGB pixels (rows, cols, 3)."""
    return np.stack([table[pixels[..., c], c] for c in range(3)], axis=-1)
