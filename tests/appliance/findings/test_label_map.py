"""Label maps on disk: any part is read as it was painted, and little of it is in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.findings.label_map import CHUNK_ROWS, LabelWriter, StoredLabels, save_labels
from appliance.geometry import TILE_UM, TileIndex
from appliance.slides.raster import RasterGrid


def answer(seed: int, size: int = 128) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 5, (size, size)).astype(np.uint8)


def painted(path: Path, grid: RasterGrid, tiles: list[TileIndex]) -> StoredLabels:
    with LabelWriter(path, grid) as labels:
        for number, tile in enumerate(tiles):
            labels.paint(tile, answer(number))
    return StoredLabels.open(path)


@pytest.mark.parametrize("mpp", [1.1172, 1.0, 1.28])
def test_each_px_is_the_answer_at_its_center(tmp_path: Path, mpp: float) -> None:
    """Compute tile and place of each px one by one; tiles straddle the chunks."""
    grid = RasterGrid(rows=round(9.5 * TILE_UM / mpp), columns=round(11.2 * TILE_UM / mpp), mpp=mpp)
    assert grid.rows > CHUNK_ROWS
    tiles = [TileIndex(c, r) for r in range(10) for c in range(12) if (r + c) % 3]
    found = painted(tmp_path / "labels.zarr.zip", grid, tiles)[:]
    number = {tile: k for k, tile in enumerate(tiles)}
    for row, column in np.random.default_rng(1).integers(0, grid.shape, (4000, 2)).tolist():
        x, y = (column + 0.5) * mpp / TILE_UM, (row + 0.5) * mpp / TILE_UM
        tile = TileIndex(int(x), int(y))
        expected = 0
        if tile in number:
            expected = answer(number[tile])[int((y % 1) * 128), int((x % 1) * 128)]
        assert found[row, column] == expected


def test_empty_chunks_are_not_written(tmp_path: Path) -> None:
    grid = RasterGrid(rows=40 * CHUNK_ROWS, columns=10_000, mpp=TILE_UM / 128)
    stored = painted(tmp_path / "labels.zarr.zip", grid, [TileIndex(20, 20), TileIndex(70, 60)])
    with ZipFile(tmp_path / "labels.zarr.zip") as file:
        assert len(file.namelist()) == 2 + 1  # and the metadata
    assert np.array_equal(stored[60 * 128 : 61 * 128, 70 * 128 : 71 * 128], answer(1))
    assert not stored[: CHUNK_ROWS + 5, :].any()


def test_memory_holds_bands_whatever_the_height(tmp_path: Path) -> None:
    """A map of 400 MB, a tile in each row: memory holds a few bands of 2.5 MB."""
    grid = RasterGrid(rows=40_000, columns=10_000, mpp=TILE_UM / 128)
    tiles = [TileIndex(r % 70, r) for r in range(40_000 // 128)]
    tracemalloc.start()
    painted(tmp_path / "labels.zarr.zip", grid, tiles)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_a_tile_that_comes_too_late_is_an_error(tmp_path: Path) -> None:
    grid = RasterGrid(rows=16 * CHUNK_ROWS, columns=1024, mpp=TILE_UM / 128)
    with LabelWriter(tmp_path / "labels.zarr.zip", grid) as labels:
        labels.paint(TileIndex(0, 3), answer(0))
        labels.paint(TileIndex(0, 20), answer(0))
        with pytest.raises(ValueError, match="lower row"):
            labels.paint(TileIndex(0, 3), answer(1))


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_copy_is_the_same(tmp_path: Path, place: str) -> None:
    whole = np.random.default_rng(0).integers(0, 5, (1500, 1100)).astype(np.uint8)
    save_labels(whole, tmp_path / "a.zarr.zip")
    labels = whole if place == "memory" else StoredLabels.open(tmp_path / "a.zarr.zip")
    save_labels(labels, tmp_path / "b.zarr.zip")
    copied = StoredLabels.open(tmp_path / "b.zarr.zip")
    assert copied.shape == whole.shape
    assert np.array_equal(copied[:], whole)
    assert np.array_equal(copied[1000:1100, 3:7], whole[1000:1100, 3:7])


def test_a_map_that_is_missing_or_no_zip_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StoredLabels.open(tmp_path / "none.zarr.zip")
    (tmp_path / "cut.zarr.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadZipFile):
        StoredLabels.open(tmp_path / "cut.zarr.zip")
