"""The plan of a campaign, by numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.weights import TINY_VIT

from models.errors import DataSetError
from models.spec import Task
from models.training.budget import (
    Costs,
    Drawing,
    drawing_s,
    ending_s,
    planned,
    scaled,
    training_s,
    with_epochs,
)
from models.training.trial import drawing_of

C = replace(TINY_VIT, tiles=100, epochs=10, validation_tiles=16, test_tiles=16)
TRAINED = Costs(prepare_s=0.0, train_s=0.1, judge_s=0.0, finish_s=0.0, used_share=1.0)
DRAWN = Drawing(start_s=0.0, tile_s=1.0)


def plan(available_s: float, most: float = 100.0) -> tuple[int, int]:
    found = planned({Task.TUMOR: C}, {Task.TUMOR: TRAINED}, DRAWN, available_s, most)[Task.TUMOR]
    return found.tiles, found.epochs


def test_tiles_and_epochs_are_as_many_as_the_time_allows() -> None:
    # 50 + 32 tiles drawn, 5 epochs of 50 tiles at 0.1 s.
    assert plan(82 + 25) == (50, 5)
    assert plan(82 + 24) == (50, 4)
    # Above the configuration's own number the epochs stay.
    assert plan(332 + 300) == (300, 10)
    assert plan(332 + 300, most=1.0) == (100, 10)


def test_a_time_that_is_too_short_for_the_least_is_refused_with_the_least() -> None:
    # 16 + 32 tiles drawn, one epoch: 49.6 s.
    assert plan(50) == (16, 1)
    with pytest.raises(DataSetError, match=r"49 s are left .* about 50 s"):
        plan(49)


def test_equal_sets_are_drawn_once() -> None:
    drawing = Drawing(start_s=2.0, tile_s=0.5)
    assert drawing_s([C], drawing) == 3 * 2 + 132 * 0.5
    assert drawing_s([C, replace(C, epochs=3, name="L")], drawing) == 3 * 2 + 132 * 0.5
    assert drawing_s([C, replace(C, tiles=10)], drawing) == 4 * 2 + 142 * 0.5
    # The figures' tiles are never rough.
    assert drawing_s([C, replace(C, rough_share=0.5)], drawing) == 5 * 2 + 248 * 0.5


def test_all_that_a_network_does_counts() -> None:
    config = replace(C, tiles=80, stained_stroma_tiles=20, epochs=3)
    costs = Costs(prepare_s=0.01, train_s=0.2, judge_s=0.5, finish_s=0.1, used_share=0.5)
    # Figures and one judgment on 8 + 8 tiles; 50 described and 8 for the temperature.
    assert ending_s(config, costs) == pytest.approx(16 * 0.5 + 58 * 0.1)
    # 100 copies; 3 epochs of 50; two more judgments.
    expected = 1 + 3 * 50 * 0.2 + 2 * 8 * 0.5 + 13.8
    assert training_s(config, costs) == pytest.approx(expected)


def test_a_scaled_configuration_keeps_its_proportions() -> None:
    config = replace(C, tiles=6000, stained_stroma_tiles=900, validation_tiles=400, test_tiles=40)
    found = scaled(config, 0.1)
    assert (found.tiles, found.stained_stroma_tiles, found.epochs) == (600, 90, 1)
    assert (found.validation_tiles, found.test_tiles) == (40, 16)
    more = scaled(config, 2.0)
    assert (more.tiles, more.validation_tiles, more.epochs) == (12000, 400, 10)


def test_epochs_are_planned_again_for_the_time_that_is_left() -> None:
    tasks = (Task.TUMOR, Task.INTENSITY)
    configs = {task: replace(C, tiles=50, epochs=5) for task in tasks}
    costs = {Task.TUMOR: TRAINED, Task.INTENSITY: replace(TRAINED, train_s=0.3)}
    # 5 and 15 s an epoch: 6 and 3 epochs, which is 0.6 of 10 and of 5.
    found = with_epochs(configs, {Task.TUMOR: 10, Task.INTENSITY: 5}, costs, 30 + 45)
    assert [found[task].epochs for task in tasks] == [6, 3]
    # Whatever is left, one epoch: the training ends by time.
    none = with_epochs(configs, {Task.TUMOR: 10, Task.INTENSITY: 5}, costs, 1)
    assert [none[task].epochs for task in tasks] == [1, 1]


def test_the_start_of_the_processes_is_told_from_their_rate() -> None:
    # Two processes, chunks of 8: the first come after 3 s, each further pair takes 1.6 s.
    times = [3.0] * 16 + [4.6] * 16 + [6.2] * 16
    found = drawing_of(times, cores=2)
    assert found.tile_s == pytest.approx(0.1)
    assert found.start_s == pytest.approx(3.0 - 1.6)
    assert drawing_of([0.25, 0.5, 0.75, 1.0], cores=2).tile_s == 0.25
