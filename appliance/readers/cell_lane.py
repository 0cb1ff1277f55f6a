"""Cells of tiles, measured on threads of their own while the networks go on."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from appliance.readers.cell_tally import CellTally
from appliance.readers.cells import TileCells, measure_cells
from appliance.slides.stream import DECODE_THREADS

CELL_THREADS = max(1, DECODE_THREADS // 2)
CELL_TILES_AHEAD = 32
"""Tiles that wait to be measured; each holds 0.8 MB."""


class CellLane:
    """Queue of tiles whose cells are measured.

    A tile takes tens of ms, for which a GPU should not wait. Only a few tiles wait at a time.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CELL_THREADS, thread_name_prefix="cells")
        self._ahead: deque[tuple[int, Future[TileCells]]] = deque()
        self._tallies: dict[int, CellTally] = {}

    def measure(self, number: int, tile: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Queue a tile under its number; its memory may be used again afterwards."""
        if len(self._ahead) >= CELL_TILES_AHEAD:
            self._take()
        self._ahead.append((number, self._pool.submit(measure_cells, tile.copy(), labels)))

    def tallies(self) -> dict[int, CellTally]:
        """Tallies of all tiles by number; waits for the last."""
        while self._ahead:
            self._take()
        return self._tallies

    def close(self) -> None:
        """End the threads; tiles that wait are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _take(self) -> None:
        number, future = self._ahead.popleft()
        self._tallies[number] = future.result().tally
