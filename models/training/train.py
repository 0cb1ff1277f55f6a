"""The training loop: one for all networks. Deterministic under a seed; survives a kill."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.build import build
from models.errors import DataSetError
from models.spec import ModelSpec, Task
from models.training.calibration import FIRST_CALIBRATION_SEED
from models.training.card import write_card
from models.training.configuration import TrainingConfig
from models.training.data import (
    GENERATOR_VERSION,
    LABEL_STEP,
    Progress,
    Tiles,
    generated_tiles,
)
from models.training.evaluate import FIRST_HELD_OUT_SEED, judge
from models.training.finish import examples, finished
from models.training.resize import resized
from models.weights import save_network

CROP_PX = 256
"""M trains on crops: four times as many steps for the same arithmetic."""
HELD_OUT_TILES = 400
RESOLUTION_CHANCE = 0.4
STAIN_JITTER = {Task.TUMOR: 0.12, Task.INTENSITY: 0.05, Task.SEGMENTATION: 0.05}
"""L and M tell strengths of stain apart: they may not be blinded to it."""
SEEDS_PER_RUN = 1_000_000
NON_TUMOR_SHARE = 0.15
"""L sees so many tiles without tumor, all "none": the rim of what C calls tumor."""


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
) -> ModelSpec:
    """Train a network on generated tiles and save it in `out` with its held-out figures.

    As many tiles calibrate it as judge it (`held_out`), none of them in both or in training.
    `cache` keeps generated tiles for further runs (none: ``out/tiles``). A checkpoint is written
    after each epoch; a run with the same arguments goes on from it.

    Raises
    ------
    DataSetError
        If the configuration's architecture cannot do the task, or `seed` would draw held-out tiles.
    """
    count = tiles or config.tiles
    if not 0 <= seed * SEEDS_PER_RUN <= FIRST_CALIBRATION_SEED - count:
        raise DataSetError(
            f"seed {seed}: training draws tiles {SEEDS_PER_RUN} x seed onwards, and those from "
            f"{FIRST_CALIBRATION_SEED} on are held out. Take a seed below "
            f"{FIRST_CALIBRATION_SEED // SEEDS_PER_RUN}."
        )
    spec = config.spec(task)
    out.mkdir(parents=True, exist_ok=True)
    cache = cache or out / "tiles"
    data = generated_tiles(cache, first_seed=seed * SEEDS_PER_RUN, count=count, progress=progress)
    judged = generated_tiles(
        cache, first_seed=FIRST_HELD_OUT_SEED, count=held_out, progress=progress
    )
    calibrating = generated_tiles(
        cache, first_seed=FIRST_CALIBRATION_SEED, count=held_out, progress=progress
    )
    torch.manual_seed(seed)
    network = build(spec).to(device)
    start = time.perf_counter()
    run = _Run(task, config, network, data, out, seed, device)
    run.go(progress)
    figures = judge(spec, network, judged, device, progress)
    spec = replace(
        spec,
        version=f"1.{seed}",
        figures={"data": f"synthetic, {held_out} held-out tiles", **figures},
        trained={
            "data": f"generated tiles, generator version {GENERATOR_VERSION}",
            "tiles": count,
            "epochs": config.epochs,
            "seed": seed,
            "seconds": round(time.perf_counter() - start),
            "torch": torch.__version__,
            "configuration": json.loads(config.model_dump_json()),
        },
    )
    spec = finished(spec, network, examples(task, data), examples(task, calibrating), device)
    spec = save_network(out, spec, network)
    write_card(out, spec)
    return spec


@dataclass
class _Run:
    """One run of training and its checkpoint: ``checkpoint.safetensors``, ``checkpoint.json``."""

    task: Task
    config: TrainingConfig
    network: nn.Module
    data: Tiles
    out: Path
    seed: int
    device: str

    def __post_init__(self) -> None:
        c = self.config
        self.chosen = self._choose()
        name = "he" if self.task is Task.TUMOR else "ihc"
        # M's crops keep the tile's resolution; classifiers see the whole tile, made small once.
        whole = self.data.he if self.task is Task.TUMOR else self.data.ihc
        self.images = resized(whole, c.input_px, self.data.folder / name)
        self.steps_per_epoch = math.ceil(len(self.chosen) / c.batch_size)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay
        )
        self.half = self.device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))

    def go(self, progress: Progress) -> None:
        first = self._resume()
        total = self.config.epochs * self.steps_per_epoch
        log = self.out / "training.csv"
        if first == 0:
            log.write_text("epoch,loss,learning_rate,seconds\n")
        for epoch in range(first, self.config.epochs):
            began = time.perf_counter()
            losses = []
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
        """Rises over the warm-up, then falls as a half cosine."""
        c = self.config
        if c.warmup > 0 and share < c.warmup:
            return c.learning_rate * (share / c.warmup + 1e-3)
        late = (share - c.warmup) / (1 - c.warmup)
        return c.learning_rate * (0.5 * (1 + math.cos(math.pi * late)) + 1e-3)

    def _choose(self) -> NDArray[np.int64]:
        if self.task is not Task.INTENSITY:
            return np.arange(len(self.data))
        tumor = np.flatnonzero(self.data.tumor)
        other = np.flatnonzero(self.data.tumor == 0)
        return np.concatenate([tumor, other[: int(len(tumor) * NON_TUMOR_SHARE)]])

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.chosen)
        for start in range(0, len(order), self.config.batch_size):
            batch = np.sort(order[start : start + self.config.batch_size])
            if self.task is Task.SEGMENTATION:
                images, targets = _crops(self.images, self.data.classes, batch, rng)
            else:
                images, targets = self.images[batch], self._labels(batch)
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device).float()
            labels = torch.from_numpy(targets.astype(np.int64)).to(self.device)
            yield augment(pixels, labels, rng, stain=STAIN_JITTER[self.task])

    def _labels(self, batch: NDArray[np.int64]) -> NDArray[np.uint8]:
        return (self.data.tumor if self.task is Task.TUMOR else self.data.intensity)[batch]

    def _checkpoint(self, epoch: int) -> None:
        tensors = {f"network.{k}": v.detach().cpu() for k, v in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value).detach().cpu()
        temporary = self.out / "checkpoint.part"
        # The epoch is in the file itself: tensors and counter can never disagree.
        save_file(tensors, temporary, metadata={"epoch": str(epoch), "key": self._key()})
        temporary.rename(self.out / "checkpoint.safetensors")

    def _key(self) -> str:
        configuration = self.config.model_dump(mode="json")
        return json.dumps([self.task, configuration, self.seed, len(self.data)])

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
    """A random square of `CROP_PX` of each tile, and its labels, a quarter as fine."""
    size = CROP_PX // LABEL_STEP
    corners = rng.integers(0, classes.shape[1] - size + 1, (len(batch), 2)).tolist()
    pixels, labels = [], []
    for k, (row, column) in zip(batch.tolist(), corners, strict=True):
        y, x = row * LABEL_STEP, column * LABEL_STEP
        pixels.append(images[k, y : y + CROP_PX, x : x + CROP_PX])
        labels.append(classes[k, row : row + size, column : column + size])
    return np.stack(pixels), np.stack(labels)


def augment(
    pixels: Tensor, labels: Tensor, rng: np.random.Generator, *, stain: float
) -> tuple[Tensor, Tensor]:
    """Turns, flips, resolution, glass, and stain: density per channel by about 1 ± `stain`.

    `pixels` float (N, 3, H, W), 0-255; `labels` (N,) or (N, h, w): those turn with their tiles.
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

    # I = 255 · (I0 / 255)^s scales the optical density by s.
    ratio = (pixels * jitter(0.015, 3)).clamp(1, 255) / 255
    return ratio.pow(jitter(stain, 3) * jitter(stain, 1)) * 255, labels
