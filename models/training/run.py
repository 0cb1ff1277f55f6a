"""One run of training: epochs, log, checkpoint, and the epoch that is kept."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.datasets.progress import Progress
from models.errors import DataSetError
from models.spec import ModelSpec
from models.training.batches import batches
from models.training.card import FIGURE, FIGURE_WORDS
from models.training.configuration import TrainingConfig
from models.training.evaluate import judge_examples
from models.training.losses import loss_of
from models.training.material import Material
from models.training.resize import resized

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def never() -> bool:
    """Return False: the run is not ended early."""
    return False


@dataclass(frozen=True, slots=True)
class _Kept:
    """Weights of the best epoch so far (from 0) and their figure on the validation tiles."""

    epoch: int
    figure: float
    state: dict[str, Tensor]


@dataclass
class Run:
    """One run and its checkpoint, ``checkpoint.safetensors``.

    `facts` of the material and the beginning are the run's identity, with `config` and `seed`: a
    checkpoint of another run is not resumed. `rows` are the lines of ``training.csv``; the
    checkpoint holds them too, so that the file may be lost. `stop` is asked after each step; once
    it returns True the run ends with the judgment of what it has learned so far.
    """

    spec: ModelSpec
    config: TrainingConfig
    network: nn.Module
    material: Material
    facts: dict[str, Any]
    out: Path
    seed: int
    device: str
    stop: Callable[[], bool] = never
    rows: list[list[float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        c, learnt = self.config, self.material.learnt
        # M's crops keep the tile's resolution; classifiers see the whole tile, resized once.
        self.images = resized(learnt.images, c.input_px, learnt.copies)
        self.steps_per_epoch = math.ceil(len(learnt.chosen) / c.batch_size)
        self.optimizer = OPTIMIZERS[c.optimizer](
            self.network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay
        )
        self.half = self.device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        self.kept: _Kept | None = None
        self.ended: dict[str, int] | None = None

    def go(self, progress: Progress, tell: Callable[[str], None]) -> dict[str, Any]:
        """Run the epochs and leave the network with the weights of the best one.

        Return facts for the manifest: the seconds of training, those before a kill included, and
        the epoch that is kept. It is the last one if the material has no validation tiles, and the
        latest of several equally good ones. `ended_early` has the steps of a run that was stopped.

        Raises
        ------
        DataSetError
            If none of the validation tiles is one of the task, the loss is no number any more, or
            the checkpoint cannot be written.
        """
        first = self._resume(tell)
        self._log()
        figure = FIGURE_WORDS[FIGURE[self.spec.task]]
        for epoch in range(first, self.config.epochs):
            began = time.perf_counter()
            loss, rate = self.epoch(epoch, progress)
            seconds = round(time.perf_counter() - began, 3)
            value = self._judge(epoch, progress)
            self.rows.append([epoch, loss, rate, value, seconds])
            self._checkpoint(epoch + 1)
            self._log()
            said = "" if value is None else f", validation {figure} {value}"
            tell(f"epoch {epoch}: loss {loss:.4f}{said}, {seconds:.1f} s")
            if self.ended is not None:
                break
        facts: dict[str, Any] = {"seconds": round(sum(row[-1] or 0.0 for row in self.rows))}
        if self.ended is not None:
            facts["ended_early"] = self.ended
        return facts | {"kept": self._keep()}

    def epoch(self, epoch: int, progress: Progress) -> tuple[float, float]:
        """Train one epoch, or what `stop` leaves of it; return its mean loss and last learning
        rate."""
        total = self.config.epochs * self.steps_per_epoch
        losses, rate = [], 0.0
        # Seeded per epoch: dropout after a resume equals that of an uninterrupted run.
        torch.manual_seed(self.seed * self.config.epochs + epoch)
        rng = np.random.default_rng([self.seed, epoch])
        learnt = self.material.learnt
        drawn = batches(self.spec.task, self.config, self.images, learnt, rng, self.device)
        for step, (pixels, labels) in enumerate(drawn):
            done = epoch * self.steps_per_epoch + step
            rate = self._rate(done / total)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            losses.append(self._step(pixels, labels))
            if not math.isfinite(losses[-1]):
                raise DataSetError(
                    f"The training diverged in epoch {epoch}: its loss is {losses[-1]}. Lower "
                    "learning_rate, or set gradient_clip."
                )
            progress(f"training {self.spec.task}", done + 1, total)
            if done + 1 < total and self.stop():
                self.ended = {"steps": done + 1, "of": total}
                break
        return float(np.mean(losses)), rate

    def _step(self, pixels: Tensor, labels: Tensor) -> float:
        self.network.train()
        loss = loss_of(self.config, self.network, pixels, labels, half=self.half)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        return float(loss.detach())

    def _rate(self, share: float) -> float:
        """Learning rate at `share` of the steps: linear warm-up, then the schedule."""
        c = self.config
        if c.warmup > 0 and share < c.warmup:
            return c.learning_rate * (share / c.warmup + 1e-3)
        if c.schedule == "none":
            return c.learning_rate
        late = (share - c.warmup) / (1 - c.warmup)
        return c.learning_rate * (0.5 * (1 + math.cos(math.pi * late)) + 1e-3)

    def _judge(self, epoch: int, progress: Progress) -> float | None:
        """Return the figure on the validation tiles, None without any; keep the best weights."""
        if self.material.validation is None:
            return None
        examples = self.material.validation()
        if not len(examples.chosen):
            raise DataSetError(
                f"none of the validation tiles is one for {self.spec.task}: take more (--held-out)."
            )
        figures = judge_examples(self.spec, self.network, examples, self.device, progress)
        value = float(figures[FIGURE[self.spec.task]])
        if self.kept is None or value >= self.kept.figure:
            state = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
            self.kept = _Kept(epoch, value, state)
        return value

    def _keep(self) -> dict[str, Any] | None:
        """Load the kept weights; return what chose them."""
        if self.kept is None or self.material.validation is None:
            return None
        self.network.load_state_dict(self.kept.state)
        return {
            "epoch": self.kept.epoch,
            "figure": FIGURE[self.spec.task],
            "value": self.kept.figure,
            "tiles": len(self.material.validation().chosen),
        }

    def _log(self) -> None:
        """Write ``training.csv``; a kill leaves the file of the epoch before, or this one."""
        figure = f"validation_{FIGURE[self.spec.task]}"
        header = ["epoch", "loss", "learning_rate", figure, "seconds"]
        temporary = self.out / "training.part"
        with temporary.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *self.rows])
        temporary.rename(self.out / "training.csv")

    def _checkpoint(self, epoch: int) -> None:
        tensors = {f"network.{k}": v.detach().cpu() for k, v in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value).detach().cpu()
        # The epoch is part of the file: tensors and counter cannot disagree.
        metadata = {"epoch": str(epoch), "key": self._key(), "rows": json.dumps(self.rows)}
        if self.kept is not None:
            tensors |= {f"kept.{name}": tensor for name, tensor in self.kept.state.items()}
            metadata["kept"] = json.dumps([self.kept.epoch, self.kept.figure])
        temporary = self.out / "checkpoint.part"
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as err:
            raise DataSetError(f"{temporary}: cannot be written ({err}). Make room.") from err
        with temporary.open("rb") as file:  # before the name: a power cut leaves no empty one
            os.fsync(file.fileno())
        temporary.rename(self.out / "checkpoint.safetensors")

    def _key(self) -> str:
        configuration = asdict(self.config)
        return json.dumps([self.spec.task, configuration, self.seed, self.facts])

    def _resume(self, tell: Callable[[str], None]) -> int:
        """Load the checkpoint of this run, if there is one; return the number of its epochs."""
        path = self.out / "checkpoint.safetensors"
        if not path.is_file():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            tensors = load_file(path)
        except SafetensorError as err:
            tell(f"{path.name} is damaged ({err}): the training begins anew")
            return 0
        # Checkpoints of earlier versions hold no rows.
        if metadata.get("key") != self._key() or "rows" not in metadata:
            return 0
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "kept": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.network.load_state_dict(parts["network"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if "kept" in metadata:
            epoch, figure = json.loads(metadata["kept"])
            self.kept = _Kept(epoch, figure, parts["kept"])
        self.rows = json.loads(metadata["rows"])
        return int(metadata["epoch"])
