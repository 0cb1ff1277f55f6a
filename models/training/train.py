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
from models.checkpoint import save_network
from models.datasets.generated_tiles import LABEL_STEP, Progress
from models.spec import ModelSpec, Task
from models.training.card import write_card
from models.training.configuration import TrainingConfig
from models.training.evaluate import judge_examples
from models.training.finish import finished
from models.training.material import Examples, data_set_material, generated_material
from models.training.resize import resized

CROP_PX = 256
"""Edge of the crops that train M: four times as many steps for the same arithmetic."""
HELD_OUT_TILES = 400
RESOLUTION_CHANCE = 0.4
STAIN_JITTER = {Task.TUMOR: 0.12, Task.INTENSITY: 0.08, Task.SEGMENTATION: 0.05}
"""Relative jitter of stain density. L and M grade stain: a large jitter would hide the grade."""
PALE_CHANCE = {Task.TUMOR: 0.0, Task.INTENSITY: 0.35, Task.SEGMENTATION: 0.3}
PALEST = {Task.TUMOR: 1.0, Task.INTENSITY: 0.3, Task.SEGMENTATION: 0.55}
"""Least share of a tile's optical density that remains, for a pale laboratory or scanner. L must
tell weak staining from strong staining shown weakly: by the counterstain, which is then pale too,
and by the membranes' completeness."""


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
) -> ModelSpec:
    """Train a network; save it in `out` with its figures on tiles outside the training set.

    Training uses the split train of the data set in the folder `data_set` and evaluates on test.
    Without it, `tiles` generated tiles train and `held_out` others evaluate. `cache` keeps decoded
    tiles for further runs (None: ``out/tiles``). A checkpoint is written after each epoch; a run
    with the same arguments resumes from it and ends with the same bytes as an uninterrupted run.

    Raises
    ------
    DataSetError
        If the architecture cannot do the task, the data set is unusable, or `seed` would reach
        held-out tiles.
    """
    spec = config.spec(task)
    out.mkdir(parents=True, exist_ok=True)
    cache = cache or out / "tiles"
    if data_set is not None:
        material = data_set_material(task, data_set, cache, progress=progress)
    else:
        count = tiles or config.tiles
        material = generated_material(
            task,
            cache,
            seed=seed,
            count=count,
            stained_stroma=round(config.stained_stroma_tiles * count / config.tiles),
            held_out=held_out,
            progress=progress,
        )
    torch.manual_seed(seed)
    network = build(spec).to(device)
    run = _Run(task, config, network, material.learnt, material.facts, out, seed, device)
    seconds = run.go(progress)
    figures = judge_examples(spec, network, material.judged, device, progress)
    spec = replace(
        spec,
        version=f"1.{seed}",
        figures={"data": material.judged_on, **figures},
        trained={
            **material.facts,
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
                images, targets = _crops(self.images, self.examples.labels, batch, rng)
            else:
                images, targets = self.images[batch], self.examples.labels[batch]
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device).float()
            labels = torch.from_numpy(targets.astype(np.int64)).to(self.device)
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
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Random crop of `CROP_PX` of each tile, and of its labels at a quarter of the resolution."""
    size = CROP_PX // LABEL_STEP
    corners = rng.integers(0, classes.shape[1] - size + 1, (len(batch), 2)).tolist()
    pixels, labels = [], []
    for k, (row, column) in zip(batch.tolist(), corners, strict=True):
        y, x = row * LABEL_STEP, column * LABEL_STEP
        pixels.append(images[k, y : y + CROP_PX, x : x + CROP_PX])
        labels.append(classes[k, row : row + size, column : column + size])
    return np.stack(pixels), np.stack(labels)


def augment(
    pixels: Tensor, labels: Tensor, rng: np.random.Generator, task: Task
) -> tuple[Tensor, Tensor]:
    """Augment tiles: turns, flips, resolution, glass and stain.

    Stain density varies per channel by about 1 ± `STAIN_JITTER`; with probability `PALE_CHANCE` all
    channels drop to as little as `PALEST`. `pixels` float (N, 3, H, W), 0-255; `labels` (N,) or
    (N, h, w): maps turn with their tiles.
    """
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels = torch.rot90(pixels, turns, (2, 3))
    if labels.ndim == 3:
        labels = torch.rot90(labels, turns, (1, 2))
    if flip:
        pixels = pixels.flip(3)
        labels = labels.flip(2) if labels.ndim == 3 else labels
    n, size = len(pixels), pixels.shape[-1]
    device = pixels.device
    if rng.random() < RESOLUTION_CHANCE:
        coarse = int(size / rng.uniform(1.1, 2.0))
        small = functional.interpolate(pixels, (coarse, coarse), mode="bilinear", antialias=True)
        pixels = functional.interpolate(small, (size, size), mode="bicubic").clamp(0, 255)

    def jitter(spread: float, channels: int) -> Tensor:
        values = np.exp(rng.normal(0, spread, (n, channels, 1, 1))).astype(np.float32)
        return torch.from_numpy(values).to(device)

    pale = rng.random((n, 1, 1, 1)) < PALE_CHANCE[task]
    left = np.where(pale, rng.uniform(PALEST[task], 1, (n, 1, 1, 1)), 1)
    stain = STAIN_JITTER[task]
    # I = 255 · (I0 / 255)^s scales the optical density by s.
    ratio = (pixels * jitter(0.015, 3)).clamp(1, 255) / 255
    strength = jitter(stain, 3) * jitter(stain, 1) * torch.from_numpy(left).to(pixels)
    return ratio.pow(strength) * 255, labels
