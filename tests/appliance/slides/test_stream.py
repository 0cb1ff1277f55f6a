"""Tile stream: reused batch buffers, lanes in order, answers independent of threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.domain import QuarantineReason
from appliance.errors import LookAgainError, SlideError
from appliance.geometry import TileIndex
from appliance.readers.inference import Network
from appliance.slides import stream as streams
from appliance.slides.glass import calibrate, white_gain
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream, in_lanes
from appliance.slides.tissue import find_tissue, tissue_share, tissue_tiles
from models.spec import Task, reference_folder
from models.synthesis.slides import SyntheticCase

WHITE = (242, 240, 241)


def tissue_of(path: Path, most: int) -> list[TileIndex]:
    with SlideReader.open(path) as reader:
        tissue = find_tissue(reader.thumbnail(4.0), 4.0)
        return tissue_tiles(tissue_share(tissue, reader.grid))[:most]


def test_pixels_hold_as_long_as_is_said_and_memory_is_used_again(small_case: SyntheticCase) -> None:
    tiles = tissue_of(small_case.ihc_path, 14)
    allocated: list[NDArray[np.uint8]] = []

    def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
        allocated.append(np.zeros(shape, np.uint8))
        return allocated[-1]

    with SlideReader.open(small_case.ihc_path) as reader:
        white = white_gain(WHITE)
        expected = {tile: calibrate(reader.read_tile(tile), white) for tile in tiles}
        held: list[tuple[Sequence[TileIndex], NDArray[np.uint8]]] = []
        for batch in TileStream(reader, tiles, WHITE, 2, hold=3, allocate=allocate):
            held = [*held, batch][-3:]
            time.sleep(0.05)  # decoding goes on
            for indices, pixels in held:
                for index, tile in zip(indices, pixels, strict=True):
                    assert np.array_equal(tile, expected[index])
    assert len(allocated) == streams.AHEAD + 1 + 2  # of seven batches


def test_a_batch_that_nothing_can_be_read_of_spoils_no_other(
    small_case: SyntheticCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four neighbors lie in one hole of the file; batches in use must not be overwritten."""
    tiles = tissue_of(small_case.ihc_path, 24)
    lost = set(tiles[8:12])
    real = SlideReader.read_tile

    def read_tile(reader: SlideReader, index: TileIndex, px: int = 512) -> NDArray[np.uint8]:
        if index in lost:
            raise SlideError(QuarantineReason.DAMAGED)
        return real(reader, index, px)

    def slow(_: Sequence[TileIndex], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        time.sleep(0.1)
        return pixels.copy()

    with SlideReader.open(small_case.ihc_path) as reader:
        white = white_gain(WHITE)
        expected = {tile: calibrate(reader.read_tile(tile), white) for tile in tiles}
        monkeypatch.setattr(SlideReader, "read_tile", read_tile)
        stream = TileStream(reader, tiles, WHITE, 2, hold=4)
        found = {}
        for indices, _, seen in in_lanes(stream, slow, 4):
            found.update(zip(indices, seen, strict=True))
    assert stream.unreadable == tiles[8:12]
    assert list(found) == [tile for tile in tiles if tile not in lost]
    assert all(np.array_equal(found[tile], expected[tile]) for tile in found)


def test_a_share_that_was_away_for_a_moment_costs_no_tile(
    small_case: SyntheticCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile that can be read at the second look has the slide read again; nothing is lost."""
    tiles = tissue_of(small_case.ihc_path, 6)
    asked: list[TileIndex] = []
    real = SlideReader.read_tile

    def read_tile(reader: SlideReader, index: TileIndex, px: int = 512) -> NDArray[np.uint8]:
        asked.append(index)
        if index == tiles[2] and asked.count(index) == 1:
            raise SlideError(QuarantineReason.DAMAGED, "Input/output error")
        return real(reader, index, px)

    monkeypatch.setattr(SlideReader, "read_tile", read_tile)
    with SlideReader.open(small_case.ihc_path) as reader:
        with pytest.raises(LookAgainError, match="could not be read, and now they can"):
            list(TileStream(reader, tiles, WHITE, 2))
        again = TileStream(reader, tiles, WHITE, 2)
        assert [i for indices, _ in again for i in indices] == tiles and not again.unreadable


def test_lanes_keep_the_order(small_case: SyntheticCase) -> None:
    tiles = tissue_of(small_case.ihc_path, 12)

    def slow_first(indices: Sequence[TileIndex], pixels: NDArray[np.uint8]) -> float:
        time.sleep(0.1 if indices[0] == tiles[0] else 0)
        return float(pixels.mean())

    with SlideReader.open(small_case.ihc_path) as reader:
        stream = TileStream(reader, tiles, WHITE, 2, hold=3)
        found = [
            (list(indices), float(pixels.mean()), mean)
            for indices, pixels, mean in in_lanes(stream, slow_first, 3)
        ]
    assert [index for indices, _, _ in found for index in indices] == tiles
    assert all(seen == answered for _, seen, answered in found)


def test_half_of_the_px_is_enough_for_a_classifier(small_case: SyntheticCase) -> None:
    """C sees 224 px; docs/performance.md has the cost on many more tiles."""
    network = Network(reference_folder(Task.TUMOR), "cpu")
    tiles = tissue_of(small_case.he_path, 24)
    with SlideReader.open(small_case.he_path) as reader:
        white = white_gain(WHITE)
        whole, half = (
            network.classify(np.stack([calibrate(reader.read_tile(t, px), white) for t in tiles]))
            for px in (512, 256)
        )
        assert reader.paths_taken()[0] == "direct"
        assert reader.read_tile(tiles[0], 256).shape == (256, 256, 3)
    assert np.abs(whole - half).max() < 0.1
    assert np.abs(whole - half).mean() < 0.01
