"""Training of all networks. Deterministic for a seed; resumes after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from models.build import build
from models.checkpoint import save_network
from models.datasets.progress import Progress
from models.spec import ModelSpec, Task
from models.training.beginning import begin_with
from models.training.card import write_card
from models.training.configuration import TrainingConfig
from models.training.evaluate import judge_examples
from models.training.finish import finished
from models.training.material import Material, data_set_material, generated_material
from models.training.run import Run, never


def _silent(_line: str) -> None:
    return None


def train(
    task: Task,
    config: TrainingConfig,
    out: Path,
    *,
    seed: int,
    tiles: int | None,
    device: str,
    progress: Progress,
    tell: Callable[[str], None] = _silent,
    cache: Path | None = None,
    held_out: int | None = None,
    data_set: Path | None = None,
    init: Path | None = None,
    stop: Callable[[], bool] = never,
) -> ModelSpec:
    """Train a network; save it in `out` with its figures on tiles that trained and chose nothing.

    Training uses the split train of the data set in the folder `data_set`; the epoch that is kept
    is the best one on validation, and the figures are those on test. Without it, generated tiles
    serve: `tiles` for training, and as many others for validation and again for the figures as
    `held_out` says (None: as the configuration says). The folder `init` holds the weights to start
    from (`models.training.beginning`), else chance. `cache` keeps decoded tiles for further runs
    (None: ``out/tiles``). `tell` gets a line per epoch. A checkpoint is written after each epoch; a
    run with the same arguments resumes from it and ends with the same weights as an uninterrupted
    run. Once `stop`, asked after each step, returns True, no further step is made.

    Raises
    ------
    DataSetError
        If the architecture cannot do the task, the data set is unusable, `init` is of another
        network, or `seed` would reach held-out tiles.
    """
    spec = config.spec(task)
    out.mkdir(parents=True, exist_ok=True)
    cache = cache or out / "tiles"
    if held_out is not None:
        config = replace(config, validation_tiles=held_out, test_tiles=held_out)
    if data_set is not None:
        material = data_set_material(task, data_set, cache, progress=progress)
    else:
        material = generated_material(
            task, config, cache, seed=seed, count=tiles or config.tiles, progress=progress
        )
    torch.manual_seed(seed)
    network = build(spec)
    facts = material.facts | begin_with(network, spec, init, tell)
    run = Run(spec, config, network.to(device), material, facts, out, seed, device, stop)
    trained = run.go(progress, tell)
    return _released(run, trained, progress)


def _released(run: Run, trained: dict[str, object], progress: Progress) -> ModelSpec:
    """Judge, calibrate and save the network of a finished run; return its spec."""
    material: Material = run.material
    figures = judge_examples(run.spec, run.network, material.judged(), run.device, progress)
    spec = replace(
        run.spec,
        version=f"1.{run.seed}",
        figures={"data": material.judged_on, **figures},
        trained={
            **run.facts,
            **trained,
            **({"init_may_have_seen_test": True} if init_may_have_seen_test(run.facts) else {}),
            "epochs": run.config.epochs,
            "seed": run.seed,
            "torch": torch.__version__,
            "configuration": json.loads(json.dumps(asdict(run.config))),
        },
    )
    validation = material.validation() if material.validation is not None else None
    spec = finished(spec, run.network, material.learnt, validation, run.device)
    spec = save_network(run.out, spec, run.network)
    write_card(run.out, spec)
    return spec


def init_may_have_seen_test(trained: dict[str, Any]) -> bool:
    """Return whether the weights that began a training may have seen patients of its test split.

    `trained` are the facts of a manifest. A split holds for one data set: weights that learned from
    the same set, known by its SHA-256, learned from its train split. Of another set that is not
    known, and nothing is known of checkpoints from elsewhere. Generated tiles without a data set
    are judged on seeds that no training draws.
    """
    if "data_set" not in trained:
        return False
    judged, before = trained["data_set"], trained
    while "init" in before:
        if "trained" not in before["init"]:
            return True
        before = before["init"]["trained"]
        other = before.get("data_set")
        if other is not None and other["sha256"] != judged["sha256"]:
            return True
        source = judged["source"]
        drawn_alike = source.get("kind") == "generated" and source.get("seed") == before.get("seed")
        if other is None and drawn_alike:
            return True
    return False
