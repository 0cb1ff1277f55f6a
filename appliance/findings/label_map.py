"""Label maps of whole slides on disk, in compressed chunks; never whole in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TileIndex
from appliance.slides.raster import RasterGrid

CHUNK_ROWS, CHUNK_COLUMNS = 256, 1024
"""Shape of a chunk in px. A row of chunks is a band in memory, 6 MB on the widest slides; two or
three bands are in memory at a time. A chunk is decoded in a fraction of a millisecond."""


class LabelMap(Protocol):
    """Label map, uint8 (rows, columns), in memory (any numpy array) or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in px: (rows, columns)."""

    def __getitem__(self, place: Any, /) -> Any:
        """Return the px of two slices, uint8."""


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Label map in a Zarr file; reading decodes only the chunks that the slices touch."""

    path: Path
    shape: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> StoredLabels:
        """Open the map that `LabelWriter` or `save_labels` wrote to `path`."""
        with _opened(path) as array:
            rows, columns = array.shape
        return cls(path, (rows, columns))

    def __getitem__(self, place: Any) -> NDArray[np.uint8]:
        with _opened(self.path) as array:
            return np.asarray(array[place], dtype=np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import zarr
    from zarr.storage import ZipStore

    # `ZipFile` reports a missing file or one that is no ZIP; zarr would fail on closing it instead.
    with ZipFile(path):
        store = ZipStore(path, mode="r")
    array = zarr.open_array(store, mode="r")
    try:
        yield array
    finally:
        store.close()


class LabelWriter:
    """Writer of a label map on disk, tile by tile from top to bottom; a context manager.

    Only the bands of chunks that the current row of tiles touches are in memory. A chunk is written
    once; a chunk of background alone is not written.
    """

    def __init__(self, path: Path, grid: RasterGrid) -> None:
        self.grid = grid
        self._store, self._array = _new_array(path, grid.shape)
        self._bands: dict[int, NDArray[np.uint8]] = {}
        self._free: list[NDArray[np.uint8]] = []
        self._written = 0

    def __enter__(self) -> LabelWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(whole=kind is None)

    def close(self, *, whole: bool) -> None:
        """Close the file; with `whole`, write the last bands first."""
        try:
            if whole:
                self._write_until(self.grid.rows)
        finally:
            self._store.close()

    def paint(self, index: TileIndex, labels: NDArray[np.uint8]) -> None:
        """Write a tile's label map (any size, covering the tile) at the tile's place.

        Raises
        ------
        ValueError
            If the tile lies above one whose band has been written.
        """
        rows, columns, pixels = self.grid.resampled(index, labels)
        if not pixels.size:
            return
        if rows.start < self._written:
            raise ValueError(f"tile {index} comes after one of a lower row")
        self._write_until(rows.start)
        for number in range(rows.start // CHUNK_ROWS, (rows.stop - 1) // CHUNK_ROWS + 1):
            top = number * CHUNK_ROWS
            if number not in self._bands:
                self._bands[number] = self._band(min(CHUNK_ROWS, self.grid.rows - top))
            first, last = max(rows.start, top), min(rows.stop, top + CHUNK_ROWS)
            part = pixels[first - rows.start : last - rows.start]
            self._bands[number][first - top : last - top, columns] = part

    def _band(self, rows: int) -> NDArray[np.uint8]:
        """Return a band of background, in the memory of an earlier band where there is one."""
        shape = CHUNK_ROWS, self.grid.columns
        whole = self._free.pop() if self._free else np.empty(shape, dtype=np.uint8)
        whole[:] = 0
        return whole[:rows]

    def _write_until(self, row: int) -> None:
        for number in sorted(self._bands):
            top = number * CHUNK_ROWS
            band = self._bands[number]
            if top + len(band) > row:
                break
            self._array[top : top + len(band)] = band
            self._written = top + len(band)
            del self._bands[number]
            if len(band) == CHUNK_ROWS:  # not the last one
                self._free.append(band)


def save_labels(labels: LabelMap, path: Path) -> None:
    """Write a label map to `path`; copy the file of a map that is on disk."""
    if isinstance(labels, StoredLabels):
        shutil.copyfile(labels.path, path)
        return
    rows, columns = labels.shape
    store, array = _new_array(path, (rows, columns))
    try:
        for top in range(0, rows, CHUNK_ROWS):
            array[top : top + CHUNK_ROWS] = labels[top : top + CHUNK_ROWS]
    finally:
        store.close()


def _new_array(path: Path, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Create a Zarr store and its array; the store is one file, copied and replaced whole."""
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import ZipStore

    store = ZipStore(path, mode="w")
    array = zarr.create_array(
        store,
        shape=shape,
        chunks=(CHUNK_ROWS, CHUNK_COLUMNS),
        dtype="uint8",
        fill_value=0,
        compressors=ZstdCodec(level=3),
        config={"write_empty_chunks": False},
    )
    return store, array
