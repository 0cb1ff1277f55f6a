"""Trial of a campaign: the seconds that drawing, training and judging take on this machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.build import build
from models.datasets.generated_tiles import (
    CHUNK_TILES,
    FEW_TILES,
    SEEDS_PER_RUN,
    Tiles,
    generated_tiles,
)
from models.spec import Task
from models.training.beginning import begin_with
from models.training.budget import Costs, Drawing
from models.training.configuration import TrainingConfig
from models.training.evaluate import judge_examples
from models.training.finish import finished
from models.training.material import Examples, Material, judged_tiles
from models.training.run import Run

CORE_S_PER_TILE = 10.0
"""Seconds of the budget, times cores, per tile of the trial."""
FEWEST_TILES, MOST_TILES_PER_CORE = 8, 24
BATCHES = 4
"""Most batches that are timed; one more goes before, as the first is slower."""
START_S = 3.0
"""Seconds until the drawing processes work, where the trial is too small to measure them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Rates and costs that were measured on `tiles` tiles."""

    tiles: int
    drawing: Drawing
    costs: dict[Task, Costs]


def measured(
    configs: Mapping[Task, TrainingConfig],
    init: Mapping[Task, Path | None],
    *,
    budget_s: float,
    most_tiles: int | None,
    seed: int,
    device: str,
    folder: Path,
) -> Trial:
    """Draw a few tiles in `folder` and train and judge each network on them; nothing is kept.

    Raises
    ------
    ModelError
        If an `init` cannot begin its network, or `folder` cannot be written.
    """
    cores = os.cpu_count() or 1
    asked = round(budget_s * cores / CORE_S_PER_TILE)
    count = max(FEWEST_TILES, min(MOST_TILES_PER_CORE * cores, asked, most_tiles or asked))
    times: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as drawn:
        began = time.monotonic()
        tiles = generated_tiles(
            Path(drawn),
            first_seed=seed * SEEDS_PER_RUN,
            count=count,
            rough_share=max(config.rough_share for config in configs.values()),
            progress=lambda *_: times.append(time.monotonic() - began),
        )
        costs = {
            task: _costs(task, config, tiles, init[task], device)
            for task, config in configs.items()
        }
    return Trial(tiles=count, drawing=drawing_of(times, cores), costs=costs)


def drawing_of(times: list[float], cores: int) -> Drawing:
    """Seconds of drawing, from those after which each tile of a set was there.

    When the first one is there each process has drawn about one chunk, of which only one has come.
    """
    count, first = len(times), CHUNK_TILES * cores
    if count <= FEW_TILES or count <= first:
        return Drawing(start_s=START_S, tile_s=times[-1] / count)
    tile_s = max(1e-4, (times[-1] - times[0]) / (count - first))
    return Drawing(start_s=max(0.0, times[0] - first * tile_s), tile_s=tile_s)


def _costs(
    task: Task, config: TrainingConfig, tiles: Tiles, init: Path | None, device: str
) -> Costs:
    spec = config.spec(task)
    network = build(spec)
    begin_with(network, spec, init, lambda _line: None)
    examples = judged_tiles(task, tiles, every=config.all_tiles or not tiles.tumor.any())
    used_share = len(examples.chosen) / len(tiles)
    examples = replace(examples, chosen=examples.chosen[: BATCHES * config.batch_size])
    first = replace(examples, chosen=examples.chosen[: config.batch_size])
    used, times = len(examples.chosen), [time.monotonic()]

    def lap_s() -> float:
        times.append(time.monotonic())
        return times[-1] - times[-2]

    run = Run(spec, config, network.to(device), _material(first), {}, tiles.folder, 0, device)
    prepare_s = lap_s() / len(tiles)
    run.epoch(0, _quiet)
    lap_s()
    run.material = _material(examples)
    run.epoch(1, _quiet)
    train_s = lap_s() / used
    judge_examples(spec, run.network, examples, device)
    judge_s = lap_s() / used
    finished(spec, run.network, examples, examples, device)
    finish_s = lap_s() / (2 * used)
    return Costs(
        prepare_s=prepare_s,
        train_s=train_s,
        judge_s=judge_s,
        finish_s=finish_s,
        used_share=used_share,
    )


def _material(learnt: Examples) -> Material:
    return Material(learnt=learnt, validation=None, judged=lambda: learnt, facts={}, judged_on="")


def _quiet(_what: str, _done: int, _total: int) -> None:
    return None
