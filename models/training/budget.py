"""Plan of a training campaign: as many tiles and epochs as a time allows at measured rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from models.appearance import DESCRIBED_TILES
from models.errors import DataSetError
from models.spec import Task
from models.training.configuration import TrainingConfig

LEAST_TILES = 16
"""Fewest tiles for training, for the choice of the epoch and for the figures, unless a
configuration asks for fewer."""
BISECTIONS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Seconds that the generator takes: `start_s` until a set's first tiles, `tile_s` per tile."""

    start_s: float
    tile_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds that one network takes per tile.

    `prepare_s` for the smaller copy of a tile that is drawn; `train_s`, `judge_s` and `finish_s`
    (temperature, appearance) for a tile in use. `used_share` of the tiles are in use: L and M use
    those with tumor.
    """

    prepare_s: float
    train_s: float
    judge_s: float
    finish_s: float
    used_share: float


def scaled(config: TrainingConfig, scale: float) -> TrainingConfig:
    """Return a configuration with `scale` times its tiles, and of its epochs at most all."""

    def held_out(tiles: int) -> int:
        return min(tiles, max(LEAST_TILES, round(tiles * scale)))

    tiles = max(min(LEAST_TILES, config.tiles), round(config.tiles * scale))
    return replace(
        config,
        tiles=tiles,
        stained_stroma_tiles=round(config.stained_stroma_tiles * tiles / config.tiles),
        validation_tiles=held_out(config.validation_tiles),
        test_tiles=held_out(config.test_tiles),
        epochs=_epochs(config, scale),
    )


def drawing_s(configs: Collection[TrainingConfig], drawing: Drawing) -> float:
    """Seconds for the tiles of all configurations; equal sets are drawn once."""
    sets = {("train", c.tiles, c.stained_stroma_tiles, c.rough_share) for c in configs}
    sets |= {("validation", c.validation_tiles, 0, c.rough_share) for c in configs}
    sets |= {("test", c.test_tiles, 0, 0.0) for c in configs}
    tiles = sum(usual + stained for _, usual, stained, _ in sets)
    return len(sets) * drawing.start_s + tiles * drawing.tile_s


def ending_s(config: TrainingConfig, costs: Costs) -> float:
    """Seconds after the last step: one judgment on validation tiles, then figures, temperature
    and appearance."""
    learnt = (config.tiles + config.stained_stroma_tiles) * costs.used_share
    validation, test = (
        tiles * costs.used_share for tiles in (config.validation_tiles, config.test_tiles)
    )
    finished = min(learnt, DESCRIBED_TILES) + validation
    return (validation + test) * costs.judge_s + finished * costs.finish_s


def training_s(config: TrainingConfig, costs: Costs) -> float:
    """Seconds from the drawn tiles to the weights: `ending_s` included."""
    drawn = config.tiles + config.stained_stroma_tiles
    steps = config.epochs * drawn * costs.used_share * costs.train_s
    judged = (config.epochs - 1) * config.validation_tiles * costs.used_share * costs.judge_s
    return drawn * costs.prepare_s + steps + judged + ending_s(config, costs)


def planned(
    configs: Mapping[Task, TrainingConfig],
    costs: Mapping[Task, Costs],
    drawing: Drawing,
    available_s: float,
    most: float,
) -> dict[Task, TrainingConfig]:
    """Return the configurations with the most tiles and epochs for which the time suffices.

    All tiles and epochs are scaled alike: from above 1 on the tiles alone, at most by `most`.

    Raises
    ------
    DataSetError
        If the time is too short for the fewest tiles and one epoch each.
    """

    def needed_s(scale: float) -> float:
        parts = {task: scaled(config, scale) for task, config in configs.items()}
        trained = sum(training_s(part, costs[task]) for task, part in parts.items())
        return drawing_s(parts.values(), drawing) + trained

    if needed_s(0) > available_s:
        raise DataSetError(
            f"{max(0.0, available_s):.0f} s are left to draw and train, and the least takes about "
            f"{needed_s(0):.0f} s: give a larger --budget, or fewer --tasks."
        )
    scale = _largest(lambda some: needed_s(some) <= available_s, most)
    return {task: scaled(config, scale) for task, config in configs.items()}


def with_epochs(
    configs: Mapping[Task, TrainingConfig],
    epochs: Mapping[Task, int],
    costs: Mapping[Task, Costs],
    available_s: float,
) -> dict[Task, TrainingConfig]:
    """Return the configurations, whose tiles are there, with the epochs for which the time
    suffices: the same share of `epochs` for all, at least one."""
    full = {task: replace(config, epochs=epochs[task]) for task, config in configs.items()}

    def parts(share: float) -> dict[Task, TrainingConfig]:
        return {task: replace(c, epochs=_epochs(c, share)) for task, c in full.items()}

    def suffices(share: float) -> bool:
        needed = sum(training_s(c, costs[task]) for task, c in parts(share).items())
        return needed <= available_s

    return parts(_largest(suffices, 1.0))


def _epochs(config: TrainingConfig, share: float) -> int:
    # A bisection ends just below a whole number.
    return max(1, min(config.epochs, math.floor(config.epochs * share + 1e-6)))


def _largest(suffices: Callable[[float], bool], high: float) -> float:
    """The largest number from 0 to `high` that suffices, as the smaller ones do; else 0."""
    if suffices(high):
        return high
    low = 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if suffices(middle) else (low, middle)
    return low
