"""Train C, L and M within a time: ``python -m models.training.campaign --budget 25m``.

It runs from a bare checkout, where a GPU is: with numpy, OpenCV, torch, transformers and
safetensors. torch is imported late: each process that draws tiles imports this module.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.datasets.generated_tiles import SEEDS_PER_RUN
from models.errors import ModelError
from models.spec import TILE_PX, Task, reference_folder
from models.training.budget import (
    Costs,
    Drawing,
    drawing_s,
    ending_s,
    planned,
    training_s,
    with_epochs,
)
from models.training.configuration import TrainingConfig, as_toml, load_configuration
from models.training.material import generated_material
from models.training.record import RECORD_NAME, TABLE_NAME, Record, network_facts, table, tell

SPARED = 0.05
"""Share of the remaining time that the plan leaves free: rates of a short trial are inexact."""
TILE_BYTES = 8 * TILE_PX**2
"""Bytes on disk of a drawn tile: two images, labels, smaller copies."""
UNITS = {"s": 1, "m": 60, "h": 3600}


def run(options: argparse.Namespace) -> None:
    """Run or go on with a campaign: trial, plan, tiles, networks; tell each.

    Raises
    ------
    ModelError
        If the arguments or the budget do not do.
    """
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    arguments = {k: str(v) for k, v in sorted(vars(options).items()) if k not in ("out", "cache")}
    record = Record.opened(out / RECORD_NAME, arguments)
    configs = {task: _config(task, options) for task in options.tasks}
    if "plan" not in record.facts:
        _plan(configs, options, record)
    costs = {task: Costs(**record.facts["trial"]["costs"][task]) for task in configs}
    if len(record.facts["networks"]) < len(configs):
        plan = {task: TrainingConfig.of(record.facts["plan"][task]) for task in configs}
        _tell_plan(plan, costs, record)
        costs = _drawn(plan, costs, options, record)
    for task in configs:
        if task not in record.facts["networks"]:
            _trained(task, configs, costs, options, record)
    (out / TABLE_NAME).write_text(table(record.facts))
    tell((out / TABLE_NAME).read_text())


def _config(task: Task, options: argparse.Namespace) -> TrainingConfig:
    """The configuration before it is scaled. All networks draw the same tiles where they can."""
    if options.configs is not None:
        config = load_configuration(str(options.configs / f"{task}.toml"), task)
    else:
        config = load_configuration("paper" if options.paper else "reference", task)
    if options.rough_share is not None:
        config = replace(config, rough_share=options.rough_share)
    if options.paper:
        return replace(config, name=f"campaign-{config.name}", epochs=1)
    segmentation = load_configuration("reference", Task.SEGMENTATION)
    if options.configs is None:
        config = replace(config, stained_stroma_tiles=segmentation.stained_stroma_tiles)
    return replace(config, name=f"campaign-{config.name}")


def _machine(device: str) -> dict[str, Any]:
    import torch

    named = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"device": named, "cores": os.cpu_count(), "torch": torch.__version__}


def _plan(configs: dict[Task, TrainingConfig], options: argparse.Namespace, record: Record) -> None:
    """Measure the rates and record them with the plan; nothing is recorded of what is refused."""
    from models.training.trial import measured

    trial = measured(
        configs,
        {task: _init(task, options) for task in configs},
        budget_s=options.budget,
        most_tiles=options.tiles,
        seed=options.seed,
        device=options.device,
        folder=options.cache,
    )
    tried_s = record.used_s()
    left_s = (options.budget - tried_s) * (1 - SPARED)
    plan = planned(configs, trial.costs, trial.drawing, left_s, _most(configs, options))
    record.save(
        machine=_machine(options.device),
        trial=asdict(trial),
        trial_s=round(tried_s, 1),
        plan={task: asdict(config) for task, config in plan.items()},
    )


def _most(configs: dict[Task, TrainingConfig], options: argparse.Namespace) -> float:
    """Largest scale of the tiles: the paper's, as asked for, or what half of the disk holds."""
    largest = max(config.tiles for config in configs.values())
    room = shutil.disk_usage(options.cache).free / 2 / TILE_BYTES
    most = float(min(options.tiles or room, SEEDS_PER_RUN / 2) / largest)
    return min(most, 1.0) if options.paper else most


def _init(task: Task, options: argparse.Namespace) -> Path | None:
    if options.init == "none":
        return None
    return reference_folder(task) if options.init == "shipped" else Path(options.init) / task


def _tell_plan(plan: dict[Task, TrainingConfig], costs: dict[Task, Costs], record: Record) -> None:
    drawing = Drawing(**record.facts["trial"]["drawing"])
    tell(f"{record.used_s():7.0f} s  the trial is done; of the budget this is planned:")
    tell(f"draw: about {drawing_s(plan.values(), drawing):.0f} s, {1 / drawing.tile_s:.1f} tiles/s")
    for task, config in plan.items():
        drawn = config.tiles + config.stained_stroma_tiles
        tell(
            f"{task}: about {training_s(config, costs[task]):.0f} s, {config.epochs} epochs, "
            f"{drawn} tiles drawn, {1 / costs[task].train_s:.1f} trained/s, "
            f"{config.validation_tiles} + {config.test_tiles} held out"
        )


def _drawn(
    plan: dict[Task, TrainingConfig],
    costs: dict[Task, Costs],
    options: argparse.Namespace,
    record: Record,
) -> dict[Task, Costs]:
    """Draw what is missing; return the costs with the true share of tiles in use."""
    drawn = record.facts.get("drawing", {"tiles": 0, "seconds": 0.0})
    began, found = record.used_s(), dict(costs)

    def progress(what: str, done: int, total: int) -> None:
        drawn["tiles"] += 1
        record.progress(what, done, total)

    before = drawn["tiles"]
    for task, config in plan.items():
        material = generated_material(
            task, config, options.cache, seed=options.seed, count=config.tiles, progress=progress
        )
        if material.validation is not None:
            material.validation()
        material.judged()
        learnt = material.learnt
        found[task] = replace(costs[task], used_share=len(learnt.chosen) / len(learnt.images))
    if drawn["tiles"] > before:
        drawn["seconds"] = round(drawn["seconds"] + record.used_s() - began, 1)
    record.save(drawing=drawn)
    return found


def _trained(
    task: Task,
    configs: dict[Task, TrainingConfig],
    costs: dict[Task, Costs],
    options: argparse.Namespace,
    record: Record,
) -> None:
    """Train one network in its share of the time that is left, and record it."""
    from models.training.train import train

    left = [one for one in configs if one not in record.facts["networks"]]
    parts = {one: TrainingConfig.of(record.facts["plan"][one]) for one in left}
    now_s, begun = record.used_s(), record.facts.get("begun", {})
    left_s = options.budget - now_s
    if task not in begun:  # else its checkpoint is of the epochs that were planned then
        epochs = {one: configs[one].epochs for one in left}
        parts = with_epochs(parts, epochs, costs, left_s * (1 - SPARED))
        changed = record.facts["plan"] | {one: asdict(config) for one, config in parts.items()}
        begun |= {task: now_s}
        record.save(plan=changed, begun=begun)
    config, needed_s = parts[task], sum(training_s(parts[one], costs[one]) for one in left)
    until_s = now_s + left_s * training_s(config, costs[task]) / needed_s
    until_s -= ending_s(config, costs[task])
    tell(f"{now_s:7.0f} s  {task}: {config.epochs} epochs, steps until {until_s:.0f} s at most")
    folder = options.out / task
    spec = train(
        task,
        config,
        folder,
        seed=options.seed,
        tiles=None,
        device=options.device,
        progress=record.progress,
        tell=tell,
        cache=options.cache,
        init=_init(task, options),
        stop=lambda: record.used_s() >= until_s,
    )
    (folder / f"{config.name}.toml").write_text(as_toml(config))
    made = network_facts(spec, config, configs[task], costs[task].used_share, folder)
    made["seconds"] = round(record.used_s() - begun[task], 1)
    record.save(networks=record.facts["networks"] | {task: made})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.device == "auto":
        import torch

        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.cache = options.cache or options.out / "tiles"
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
        run(options)
    except (ModelError, OSError) as err:
        tell(f"campaign: {err}")
        return 1
    return 0


def _budget(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: a number with s, m or h, such as 25m")
    return float(found[1]) * UNITS[found[2]]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: from 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 0")
    return int(text)


def _share(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text}: from 0 to 1")
    return float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.training.campaign",
        description="Draw tiles, train C, L and M one after the other, and record the throughput, "
        "within a time. Rates are measured first; they decide how many tiles are drawn and how "
        "many epochs are trained. The same command goes on after a kill.",
        epilog="Writes OUT/TASK (weights, manifest, card), OUT/campaign.json, OUT/campaign.md.",
    )
    add = parser.add_argument
    add("--budget", type=_budget, required=True, help="time for all, such as 90s, 25m or 2h")
    add("--out", type=Path, default=Path("campaign"), help="folder to write (default: campaign)")
    add("--tasks", type=Task, nargs="+", choices=list(Task), default=list(Task), metavar="TASK",
        help=f"networks to train (default: {' '.join(Task)})")  # fmt: skip
    add("--init", default="none", metavar="DIR|shipped|none",
        help="weights to begin with: DIR/TASK, those that ship, or chance (default)")  # fmt: skip
    add("--paper", action="store_true",
        help="the networks, tiles and batches of arXiv 2512.22335, one epoch each")  # fmt: skip
    add("--configs", type=Path, metavar="DIR", help="DIR/TASK.toml instead of the reference ones")
    add(
        "--rough-share", type=_share, help="share of irregular tiles (default: the configuration's)"
    )
    add(
        "--tiles",
        type=_count,
        help="most tiles to draw for training (default: what the time allows)",
    )
    add("--seed", type=_seed, default=0, help="equal seeds draw equal tiles (default: 0)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--cache", type=Path, help="folder of drawn tiles (default: OUT/tiles)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
