"""Readers: their registry, and their readings on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fixtures.findings import some_opinions
from fixtures.readings import answer_by_hand, read_with
from numpy.typing import NDArray

from appliance.errors import SettingsError
from appliance.findings.codec import IHC_CLASSES
from appliance.findings.label_map import StoredLabels, save_labels
from appliance.findings.measured import StainFocus
from appliance.geometry import TileIndex
from appliance.readers import reader as registry
from appliance.readers.cell_tally import CellTally
from appliance.readers.control import ControlReading
from appliance.readers.intensity import IntensityReading
from appliance.readers.plain import PlainReading
from appliance.readers.reader import find_reader, reader
from appliance.readers.segmentation import SegmentationReading
from appliance.readers.tumor import TumorReading
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from models.spec import Task
from models.synthesis.slides import SyntheticCase

C, L, M = some_opinions({"0": 25.0, "1+": 25.0, "2+": 0.0, "3+": 50.0})


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A copy of the registry: what a test registers is gone after it."""
    find_reader("tumor")  # what ships is there before the copy is made
    own = dict(registry._READERS)
    monkeypatch.setattr(registry, "_READERS", own)
    return own


def test_an_unknown_reader_is_named_with_those_there_are() -> None:
    with pytest.raises(
        SettingsError, match=r"no reader 'oracle' is installed.*intensity, .*segmentation, tumor"
    ):
        find_reader("oracle")


def test_readers_that_ship_are_found_by_name() -> None:
    for name in ("tumor", "intensity", "segmentation"):
        assert find_reader(name).name == name
        assert find_reader(name) is find_reader(name)


@pytest.mark.usefixtures("own_registry")
def test_two_readers_cannot_have_one_name() -> None:
    @reader
    class Mine:
        name: ClassVar[str] = "mine"

    assert isinstance(find_reader("mine"), Mine)
    with pytest.raises(ValueError, match="two readers have the name 'mine'"):

        @reader
        class Other:
            name: ClassVar[str] = "mine"

    with pytest.raises(ValueError, match="two readers have the name 'tumor'"):

        @reader
        class Usurper:
            name: ClassVar[str] = "tumor"

    assert isinstance(find_reader("mine"), Mine)


def readings(folder: Path) -> Mapping[str, Any]:
    """A reading of each reader that ships, as its session leaves it."""
    labels = folder / "segmentation" / IHC_CLASSES
    save_labels(np.arange(12, dtype=np.uint8).reshape(3, 4) % 5, labels)
    places = np.array([[1, 0], [0, 2]], np.int32)
    return {
        "tumor": TumorReading(
            opinion=C, probability=np.array([[0.25, np.nan], [1.0, 0.0]], np.float32)
        ),
        "intensity": IntensityReading(
            opinion=L,
            places=places,
            judged=np.array([True, False]),
            intensity=np.array([3, 0], np.uint8),
            certainty=np.array([0.875, 0.5], np.float32),
        ),
        "segmentation": SegmentationReading(
            opinion=M,
            places=places,
            judged=np.array([True, False]),
            on_control=np.array([False, True]),
            counts=np.array([[1, 2, 3, 4, 5], [0, 0, 7, 0, 9]], np.int64),
            cells={
                1: CellTally(
                    counted=(0, 1, 2, 3),
                    measured=(0, 1, 1, 2),
                    completeness=(0.0, 0.5, 0.25, 1.75),
                    complete=(0, 0, 0, 1),
                    cluster=(6, 6, 5, 3),
                )
            },
            labels=StoredLabels.open(labels),
            mpp=1.25,
            control=ControlReading(area_mm2=0.5, counts=[[1, 0, 0, 0, 3], [2, 2, 0, 0, 0]]),
            unreadable_control_percent=12.5,
        ),
        "plain": PlainReading(
            opinion=replace(L, reader="plain", weights=None),
            outside=StainFocus(area_mm2=0.25, x_um=1200.5, y_um=340.0, reader="plain"),
        ),
    }


def same(before: Any, after: Any) -> bool:
    if isinstance(before, np.ndarray):
        return before.dtype == after.dtype and np.array_equal(
            before, after, equal_nan=before.dtype.kind == "f"
        )
    if isinstance(before, StoredLabels):
        return np.array_equal(before[:], after[:])
    return bool(before == after)


@pytest.mark.parametrize("name", ["tumor", "intensity", "segmentation", "plain"])
def test_a_reading_is_loaded_as_it_was_saved(name: str, tmp_path: Path) -> None:
    for part in ("tumor", "intensity", "segmentation", "plain"):
        (tmp_path / part).mkdir()
    before = readings(tmp_path)[name]
    found = find_reader(name)
    found.save(before, tmp_path / name)
    after = found.load(tmp_path / name)
    assert type(after) is type(before)
    for field in fields(before):
        assert same(getattr(before, field.name), getattr(after, field.name)), field.name


def by_brightness(classes: int, *, maps: bool = False) -> Any:
    """Network that calls a tile's class after its mean: the darker, the higher."""

    def answer(pixels: NDArray[np.uint8]) -> NDArray[Any]:
        levels = (255 - pixels.mean(axis=(1, 2, 3))) * classes // 256
        if maps:
            return np.broadcast_to(
                levels.astype(np.uint8)[:, None, None], (len(pixels), 128, 128)
            ).copy()
        likely: NDArray[np.float32] = np.eye(classes, dtype=np.float32)[levels.astype(int)]
        return likely * np.float32(0.75) + np.float32(0.25 / classes)

    return answer


def test_readers_say_what_their_networks_answer(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of C the mean, of L the share of tiles, of M the share of tumor px; each sums to 1."""
    settings = Settings()
    answer_by_hand(
        monkeypatch,
        {
            Task.TUMOR: by_brightness(2),
            Task.INTENSITY: by_brightness(4),
            Task.SEGMENTATION: by_brightness(5, maps=True),
        },
        settings,
    )
    with SlideReader.open(small_case.ihc_path) as slide:
        rows, columns = slide.grid.shape
        tiles = [TileIndex(column, row) for row in range(rows) for column in range(columns)]
        found, _ = read_with(
            ["tumor", "intensity", "segmentation"],
            slide,
            tiles,
            tmp_path / "out",
            settings=settings,
        )
    tumor, intensity, segmentation = (found[n] for n in ("tumor", "intensity", "segmentation"))
    assert not np.isnan(tumor.probability).any()
    mean = float(tumor.probability.mean(dtype=np.float64))
    assert tumor.opinion.probabilities == pytest.approx((1 - mean, mean))
    assert tumor.opinion.certainty == pytest.approx(0.875)
    counts = np.bincount(intensity.intensity, minlength=4)
    assert counts[:2].all()  # the slide has glass and tissue
    assert intensity.opinion.probabilities == pytest.approx((counts / len(tiles)).tolist())
    assert intensity.opinion.certainty == pytest.approx(0.8125)
    tumor_px = segmentation.counts.sum(axis=0)[1:]
    assert segmentation.opinion.probabilities == pytest.approx((tumor_px / tumor_px.sum()).tolist())
    assert segmentation.opinion.certainty is None
    for name, opinion in ((n, found[n].opinion) for n in found):
        assert sum(opinion.probabilities) == pytest.approx(1)
        assert (opinion.reader, opinion.version) == (name, find_reader(name).version)
        assert opinion.weights is not None and opinion.weights.task == name
    said = json.loads((tmp_path / "out" / "tumor" / "opinion.json").read_text())
    assert said["classes"] == ["other", "tumor"]


def test_readers_that_saw_nothing_say_nothing(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    answers = {task: by_brightness(4, maps=task is Task.SEGMENTATION) for task in Task}
    answer_by_hand(monkeypatch, answers, settings)
    with SlideReader.open(small_case.ihc_path) as slide:
        names = ["tumor", "intensity", "segmentation"]
        found, facts = read_with(names, slide, [], tmp_path / "out", settings=settings)
    for reading in found.values():
        assert set(reading.opinion.probabilities) == {0.0}
        assert reading.opinion.certainty is None
    assert facts.unreadable_percent == 0.0 and not facts.read.any()
