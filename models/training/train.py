"""Training loop of all networks. Deterministic for a seed; resumes after a kill."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.build import build
from models.checkpoint import load_network, save_network
from models.datasets.generated_tiles import LABEL_STEP, Progress
from models.errors import DataSetError
from models.spec import ModelSpec, Task
from models.training.augmentation import augment
from models.training.card import write_card
from models.training.configuration import TrainingConfig
from models.training.evaluate import judge_examples
from models.training.finish import finished
from models.training.material import Examples, Material, data_set_material, generated_material
from models.training.resize import resized

CROP_PX = 256
"""Edge of the crops that train M: four times as many steps for the same arithmetic."""
HELD_OUT_TILES = 400
_SAME = ("task", "architecture", "config", "input_px", "mean", "std", "pixels")
"""Facts of weights that must be those of the network that they begin."""
MAP_ZOOM = (0.75, 1.35)
"""Range of the size of M's crops before they are resized to `CROP_PX`."""


def train(
    task: Task,
    config: TrainingConfig,
    out: Path,
    *,
    seed: int,
    tiles: int | None,
    device: str,
    progress: Progress,
    cache: Path | None = None,
    held_out: int = HELD_OUT_TILES,
    data_set: Path | None = None,
    init: Path | None = None,
) -> ModelSpec:
    """Train a network; save it in `out` with its figures on tiles outside the training set.

    Training uses the split train of the data set in the folder `data_set` and evaluates on test.
    Without it, `tiles` generated tiles train and `held_out` others evaluate. The weights in the
    folder `init`, of the same architecture, are the start, else chance. `cache` keeps decoded
    tiles for further runs (None: ``out/tiles``). A checkpoint is written after each epoch; a run
    with the same arguments resumes from it and ends with the same bytes as an uninterrupted run.

    Raises
    ------
    DataSetError
        If the architecture cannot do the task, the data set is unusable, `init` is of another
        architecture, or `seed` would reach held-out tiles.
    """
    spec = config.spec(task)
    out.mkdir(parents=True, exist_ok=True)
    cache = cache or out / "tiles"
    if data_set is not None:
        material = data_set_material(task, data_set, cache, progress=progress)
    else:
        count = tiles or config.tiles
        material = _generated(task, config, cache, seed, count, held_out, progress)
    torch.manual_seed(seed)
    network = build(spec).to(device)
    facts = material.facts | _begin_with(network, spec, init)
    run = _Run(task, config, network, material.learnt, facts, out, seed, device)
    seconds = run.go(progress)
    figures = judge_examples(spec, network, material.judged, device, progress)
    spec = replace(
        spec,
        version=f"1.{seed}",
        figures={"data": material.judged_on, **figures},
        trained={
            **facts,
            "epochs": config.epochs,
            "seed": seed,
            "seconds": round(seconds),
            "torch": torch.__version__,
            "configuration": json.loads(config.model_dump_json()),
        },
    )
    spec = finished(spec, network, material.learnt, material.held_back, device)
    spec = save_network(out, spec, network)
    write_card(out, spec)
    return spec


def _generated(
    task: Task,
    config: TrainingConfig,
    cache: Path,
    seed: int,
    count: int,
    held_out: int,
    progress: Progress,
) -> Material:
    """Generate `count` tiles by the configuration, with its share of stained stroma beside them."""
    return generated_material(
        task,
        cache,
        seed=seed,
        count=count,
        stained_stroma=round(config.stained_stroma_tiles * count / config.tiles),
        rough_share=config.rough_share,
        held_out=held_out,
        progress=progress,
    )


def _begin_with(network: nn.Module, spec: ModelSpec, folder: Path | None) -> dict[str, Any]:
    """Load weights to start from, if any; return where they come from, for the manifest."""
    if folder is None:
        return {}
    given, trained = load_network(folder)
    if any(getattr(given, name) != getattr(spec, name) for name in _SAME):
        raise DataSetError(
            f"{folder}: weights of a {given.architecture} for {given.task} cannot begin a "
            f"{spec.architecture} for {spec.task}: both must have the same configuration."
        )
    network.load_state_dict(trained.state_dict())
    return {"init": {"sha256": given.sha256, "trained": given.trained}}


@dataclass
class _Run:
    """One run of training and its checkpoint, ``checkpoint.safetensors``."""

    task: Task
    config: TrainingConfig
    network: nn.Module
    examples: Examples
    facts: dict[str, Any]
    out: Path
    seed: int
    device: str

    def __post_init__(self) -> None:
        c = self.config
        # M's crops keep the tile's resolution; classifiers see the whole tile, resized once.
        self.images = resized(self.examples.images, c.input_px, self.examples.copies)
        self.steps_per_epoch = math.ceil(len(self.examples.chosen) / c.batch_size)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay
        )
        self.half = self.device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))

    def go(self, progress: Progress) -> float:
        """Run the epochs; return their seconds, those before a kill included."""
        first = self._resume()
        total = self.config.epochs * self.steps_per_epoch
        log = self.out / "training.csv"
        # A kill between log and checkpoint leaves a line of an epoch that runs again: drop it.
        lines = log.read_text().splitlines(keepends=True)[1 : first + 1] if first else []
        log.write_text("".join(["epoch,loss,learning_rate,seconds\n", *lines]), newline="")
        for epoch in range(first, self.config.epochs):
            began = time.perf_counter()
            losses = []
            # Seeded per epoch: dropout after a resume equals that of an uninterrupted run.
            torch.manual_seed(self.seed * self.config.epochs + epoch)
            for step, (pixels, labels) in enumerate(self._batches(epoch)):
                done = epoch * self.steps_per_epoch + step
                rate = self._rate(done / total)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                losses.append(self._step(pixels, labels))
                progress(f"training {self.task}", done + 1, total)
            with log.open("a", newline="") as stream:
                seconds = time.perf_counter() - began
                csv.writer(stream).writerow([epoch, np.mean(losses), rate, round(seconds, 1)])
            self._checkpoint(epoch + 1)
        with log.open(newline="") as stream:
            return sum(float(row["seconds"]) for row in csv.DictReader(stream))

    def _step(self, pixels: Tensor, labels: Tensor) -> float:
        self.network.train()
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half):
            logits = self.network(pixels).logits
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=0.02)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def _rate(self, share: float) -> float:
        """Learning rate at `share` of the steps: linear warm-up, then half a cosine."""
        c = self.config
        if c.warmup > 0 and share < c.warmup:
            return c.learning_rate * (share / c.warmup + 1e-3)
        late = (share - c.warmup) / (1 - c.warmup)
        return c.learning_rate * (0.5 * (1 + math.cos(math.pi * late)) + 1e-3)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.examples.chosen)
        for start in range(0, len(order), self.config.batch_size):
            batch = np.sort(order[start : start + self.config.batch_size])
            if self.task is Task.SEGMENTATION:
                pixels, labels = _crops(self.images, self.examples.labels, batch, rng)
            else:
                pixels = torch.from_numpy(self.images[batch]).permute(0, 3, 1, 2)
                labels = torch.from_numpy(self.examples.labels[batch].astype(np.int64))
            pixels, labels = pixels.to(self.device).float(), labels.to(self.device)
            yield augment(pixels, labels, rng, self.task)

    def _checkpoint(self, epoch: int) -> None:
        tensors = {f"network.{k}": v.detach().cpu() for k, v in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value).detach().cpu()
        temporary = self.out / "checkpoint.part"
        # The epoch is part of the file: tensors and counter cannot disagree.
        save_file(tensors, temporary, metadata={"epoch": str(epoch), "key": self._key()})
        temporary.rename(self.out / "checkpoint.safetensors")

    def _key(self) -> str:
        configuration = self.config.model_dump(mode="json")
        return json.dumps([self.task, configuration, self.seed, self.facts])

    def _resume(self) -> int:
        path = self.out / "checkpoint.safetensors"
        if not path.is_file():
            return 0
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if metadata.get("key") != self._key():
            return 0
        tensors = load_file(path)
        self.network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".")
                state.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        return int(metadata["epoch"])


def _crops(
    images: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    batch: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Random crop of each tile, float (N, 3, CROP_PX, CROP_PX), and of its labels at a quarter.

    All crops of a batch have one size, chosen from `MAP_ZOOM`, before they are resized.
    """
    size = round(CROP_PX * float(rng.uniform(*MAP_ZOOM)) / LABEL_STEP)
    corners = rng.integers(0, classes.shape[1] - size + 1, (len(batch), 2)).tolist()
    pixels, labels = [], []
    for k, (row, column) in zip(batch.tolist(), corners, strict=True):
        y, x, edge = row * LABEL_STEP, column * LABEL_STEP, size * LABEL_STEP
        pixels.append(images[k, y : y + edge, x : x + edge])
        labels.append(classes[k, row : row + size, column : column + size])
    crops = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    maps = torch.from_numpy(np.stack(labels)).float()
    shape, half = (CROP_PX, CROP_PX), (CROP_PX // LABEL_STEP, CROP_PX // LABEL_STEP)
    crops = functional.interpolate(crops, shape, mode="bilinear", antialias=True)
    maps = functional.interpolate(maps[:, None], half, mode="nearest-exact")[:, 0]
    return crops, maps.long()
