"""Readers beside each other on a slide: one decoding, and answers that no thread changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.readings import CPU, WHITE, answer_by_hand, read_with
from numpy.typing import NDArray

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.geometry import TILE_PX, TILE_UM, Affine, TileIndex
from appliance.readers.control import ControlTissue
from appliance.readers.networks import network_for
from appliance.readers.reader import AnatomySlide, Batch
from appliance.readers.tile_pass import Tiles, read_tiles, silent
from appliance.registration.mapping import SlideMapping
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import Tissue, find_tissue, tissue_share, tissue_tiles
from models.spec import Task
from models.synthesis.slides import SyntheticCase


def tissue_of(path: Path, most: int) -> list[TileIndex]:
    with SlideReader.open(path) as reader:
        tissue = find_tissue(reader.thumbnail(4.0), 4.0)
        return tissue_tiles(tissue_share(tissue, reader.grid))[:most]


def test_a_damaged_margin_spoils_no_score(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = tissue_of(small_case.ihc_path, 6)
    real = SlideReader.read_tile

    def read_tile(reader: SlideReader, index: TileIndex, px: int = 512) -> NDArray[np.uint8]:
        if index in (tiles[0], tiles[5]):
            raise SlideError(QuarantineReason.DAMAGED)
        return real(reader, index, px)

    monkeypatch.setattr(SlideReader, "read_tile", read_tile)
    with SlideReader.open(small_case.ihc_path) as ihc:
        _, facts = read_with(
            ["intensity", "segmentation"], ihc, tiles[:4], tmp_path / "out", margin=tiles[4:]
        )
    assert facts.unreadable_percent == 25.0  # one of the four


def read_all(case: SyntheticCase, folder: Path) -> tuple[Any, Any, Any, bytes]:
    with SlideReader.open(case.he_path) as he, SlideReader.open(case.ihc_path) as ihc:
        tumor, _ = read_with(["tumor"], he, tissue_of(case.he_path, 20), folder / "he")
        tiles = tissue_of(case.ihc_path, 10)
        stain, _ = read_with(["intensity", "segmentation"], ihc, tiles, folder / "ihc")
    labels = stain["segmentation"].labels[:]
    return tumor["tumor"], stain["intensity"], stain["segmentation"], labels.tobytes()


def test_no_number_of_threads_changes_a_byte(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for decoders, lanes in ((1, 1), (2, 4), (5, 2), (2, 4)):
        for task in Task:
            network = network_for(task, CPU)
            monkeypatch.setattr(network, "decoders", decoders)
            monkeypatch.setattr(network, "lanes", lanes)
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        runs.append(read_all(small_case, folder))
    first_tumor, first_intensity, first_stain, first_map = runs[0]
    assert any(first_map)
    for tumor, intensity, stain, label_map in runs[1:]:
        assert tumor.probability.tobytes() == first_tumor.probability.tobytes()
        assert tumor.opinion == first_tumor.opinion
        assert label_map == first_map
        assert intensity.certainty.tobytes() == first_intensity.certainty.tobytes()
        assert intensity.opinion == first_intensity.opinion
        assert stain.cells == first_stain.cells
        assert stain.counts.tobytes() == first_stain.counts.tobytes()
        assert stain.opinion == first_stain.opinion


def test_a_margin_is_read_and_not_scored(small_case: SyntheticCase, tmp_path: Path) -> None:
    tiles = tissue_of(small_case.ihc_path, 6)
    names = ["intensity", "segmentation"]
    with SlideReader.open(small_case.ihc_path) as ihc:
        alone, _ = read_with(names, ihc, tiles[1:4], tmp_path / "alone")
        readings, facts = read_with(names, ihc, tiles[1:4], tmp_path / "out", margin=tiles[4:])
    for name, reading in readings.items():
        assert reading.places.tolist() == [[t.column, t.row] for t in tiles[1:]]
        assert reading.judged.tolist() == [True, True, True, False, False]
        assert alone[name].judged.all()
        # The opinion is on the judged tiles alone.
        assert reading.opinion == alone[name].opinion
    assert readings["segmentation"].cells == alone["segmentation"].cells
    assert len(readings["intensity"].certainty) == len(readings["segmentation"].counts) == 5
    assert not readings["segmentation"].on_control.any()
    assert [int(facts.read[t.row, t.column]) for t in tiles] == [0, 2, 2, 2, 1, 1]
    assert np.count_nonzero(facts.read) == 5


def test_the_opinion_of_m_counts_no_control_tissue(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, *scored = tissue_of(small_case.ihc_path, 4)
    mpp = TILE_UM / 4
    with SlideReader.open(small_case.ihc_path) as ihc:
        pieces = np.zeros([4 * edge for edge in ihc.grid.shape], dtype=np.int32)
        pieces[4 * control.row + 1, 4 * control.column + 1] = 1
        monkeypatch.setattr(
            "appliance.readers.segmentation.find_control",
            lambda *_: ControlTissue(pieces=pieces, mpp=mpp),
        )
        answers = iter((3, 1, 1, 1, 3))  # the control tissue itself comes last

        def answer(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            labels = [np.full((128, 128), next(answers), np.uint8) for _ in pixels]
            return np.array(labels)

        answer_by_hand(monkeypatch, {Task.SEGMENTATION: answer}, CPU)
        tissue = Tissue(mask=np.ones((8, 8), bool), mpp=64.0, white_rgb=WHITE, area_mm2=1.0)
        beside = AnatomySlide(mapping=SlideMapping.of(Affine.identity()), tissue=tissue)
        readings, _ = read_with(
            ["segmentation"], ihc, [control, *scored], tmp_path / "out", beside=beside
        )
    reading = readings["segmentation"]
    assert reading.on_control.tolist() == [True, False, False, False]
    assert reading.judged.all()
    assert reading.opinion.probabilities == (1.0, 0.0, 0.0, 0.0)


def test_the_opinion_of_the_plain_reader_counts_no_control_tissue(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, *scored = tissue_of(small_case.ihc_path, 12)
    tissue = Tissue(mask=np.ones((8, 8), bool), mpp=64.0, white_rgb=WHITE, area_mm2=1.0)
    beside = AnatomySlide(mapping=SlideMapping.of(Affine.identity()), tissue=tissue)
    with SlideReader.open(small_case.ihc_path) as ihc:
        pieces = np.zeros([4 * edge for edge in ihc.grid.shape], dtype=np.int32)
        pieces[4 * control.row + 1, 4 * control.column + 1] = 1
        alone, _ = read_with(["plain"], ihc, scored, tmp_path / "alone")
        whole, _ = read_with(["plain"], ihc, [control, *scored], tmp_path / "whole")
        monkeypatch.setattr(
            "appliance.readers.plain.find_control",
            lambda *_: ControlTissue(pieces=pieces, mpp=TILE_UM / 4),
        )
        out = tmp_path / "out"
        readings, _ = read_with(["plain"], ihc, [control, *scored], out, beside=beside)
    assert any(alone["plain"].opinion.probabilities)
    assert readings["plain"].opinion == alone["plain"].opinion != whole["plain"].opinion


class Watcher:
    """Session of a reader without a network, which keeps what it is given."""

    network = None

    def __init__(self, px: int) -> None:
        self.px = px
        self.answered: list[tuple[int, ...]] = []
        self.taken: list[tuple[TileIndex, bool]] = []
        self.means: dict[TileIndex, float] = {}

    def answer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        self.answered.append(pixels.shape[1:])
        return pixels.mean(axis=(1, 2, 3))

    def take(self, batch: Batch, answer: NDArray[np.float64]) -> None:
        self.taken += zip(batch.tiles, batch.judged, strict=True)
        self.means.update(zip(batch.tiles, answer.tolist(), strict=True))
        assert batch.pixels.mean(axis=(1, 2, 3)) == pytest.approx(answer)

    def finish(self) -> Any:
        raise AssertionError("sessions are not finished by the pass")

    def close(self) -> None:
        raise AssertionError("sessions are not closed by the pass")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TileIndex, int]]:
    """Tiles that were decoded, with their size, as they come."""
    found: list[tuple[TileIndex, int]] = []
    real = SlideReader.read_tile

    def read_tile(reader: SlideReader, index: TileIndex, px: int = TILE_PX) -> NDArray[np.uint8]:
        found.append((index, px))
        return real(reader, index, px)

    monkeypatch.setattr(SlideReader, "read_tile", read_tile)
    return found


def test_one_decoding_feeds_all_readers_of_one_size(
    small_case: SyntheticCase, decoded: list[tuple[TileIndex, int]]
) -> None:
    tiles = tissue_of(small_case.ihc_path, 11)
    first, second = Watcher(TILE_PX), Watcher(TILE_PX)
    with SlideReader.open(small_case.ihc_path) as slide:
        given = Tiles(
            slide=slide, white_rgb=WHITE, judged=tuple(tiles[:8]), margin=tuple(tiles[8:])
        )
        done = read_tiles(given, [first, second], "tiles", silent, batch_size=4)
    assert Counter(decoded) == Counter((tile, TILE_PX) for tile in tiles)
    judged = set(tiles[:8])
    for watcher in (first, second):
        assert watcher.taken == [(tile, tile in judged) for tile in given.every]
        assert set(watcher.answered) == {(TILE_PX, TILE_PX, 3)}
    assert first.means == second.means
    assert np.count_nonzero(done.read == 2) == 8 and np.count_nonzero(done.read == 1) == 3


def test_readers_of_different_sizes_get_their_own(
    small_case: SyntheticCase, decoded: list[tuple[TileIndex, int]]
) -> None:
    tiles = tissue_of(small_case.ihc_path, 6)
    half, whole = Watcher(TILE_PX // 2), Watcher(TILE_PX)
    with SlideReader.open(small_case.ihc_path) as slide:
        given = Tiles(slide=slide, white_rgb=WHITE, judged=tuple(tiles))
        read_tiles(given, [half, whole], "tiles", silent, batch_size=4)
    assert set(whole.answered) == {(TILE_PX, TILE_PX, 3)}
    assert set(half.answered) == {(TILE_PX // 2, TILE_PX // 2, 3)}
    assert Counter(tile for tile, px in decoded if px == TILE_PX // 2) == Counter(tiles)
    assert list(half.means) == list(whole.means) == given.every
    assert list(half.means.values()) == pytest.approx(list(whole.means.values()), abs=2)


def test_progress_ends_at_all_tiles_and_is_named(small_case: SyntheticCase) -> None:
    tiles = tissue_of(small_case.ihc_path, 6)
    seen: list[tuple[str, int, int]] = []
    with SlideReader.open(small_case.ihc_path) as slide:
        given = Tiles(slide=slide, white_rgb=WHITE, judged=tuple(tiles[:5]), margin=(tiles[5],))
        read_tiles(given, [Watcher(TILE_PX)], "ink", lambda *call: seen.append(call), batch_size=4)
    assert seen == [("ink", 4, 6), ("ink", 6, 6)]
