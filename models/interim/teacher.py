"""Teacher of parts: classes of single IHC tiles, learned of the classes of slides alone.

The guideline says how a slide's class comes from its parts: the highest that more than 10 % of its
tumor shows (ASCO/CAP 2018). Read backwards, that names the tiles. The names are somewhat low: what
decides in training is among a slide's highest tiles. Ours; the paper has no teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.interim.places import TileFeatures

SHARE = 0.1
"""Share of the tiles that must show a class, or a higher one, for the slide to have it."""
WIDTH, DROPOUT = 32, 0.2
STEPS, BATCH, RATE, DECAY = 1000, 16, 3e-3, 1e-2
FARTHEST = 5.0
"""Limit of a standardized feature."""
Chances = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Network of two layers that gives an IHC tile one number, and the steps between classes.

    `mean` and `deviation` (F,) standardize features; `cuts` (classes - 1,) lie between classes.
    """

    network: nn.Module
    cuts: Tensor
    mean: Tensor
    deviation: Tensor

    def numbers(self, features: NDArray[np.float32]) -> Tensor:
        """Return the number (N,) of each tile by its features (N, F)."""
        known = ((torch.from_numpy(features).float() - self.mean) / self.deviation).clamp(
            -FARTHEST, FARTHEST
        )
        found: Tensor = self.network(known)[:, 0]
        return found

    def chances(self, tiles: TileFeatures) -> Chances:
        """Return float32 (N, classes - 1): the chance of each tile to be 1+ or more, and so on."""
        with torch.inference_mode():
            found = torch.sigmoid(self.numbers(tiles.features)[:, None] - self.cuts).numpy()
        # Cuts that few slides taught may lie in another order than the classes.
        return np.minimum.accumulate(found.astype(np.float32), axis=1)


def fit_teacher(
    slides: Sequence[TileFeatures], labels: Sequence[int], classes: int, most_tiles: int, seed: int
) -> Teacher:
    """Train on IHC slides and their classes; equal arguments give equal names on one machine.

    `most_tiles` of a slide are in a step, drawn anew each time.
    """
    draw = np.random.default_rng([seed, 0x7EAC])
    features = np.concatenate([slide.features for slide in slides])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(features.shape[1], WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, 1)
        )
        # Steps between classes begin two numbers apart, around 0.
        cuts = nn.Parameter(2.0 * (torch.arange(classes - 1) - (classes - 2) / 2))
        teacher = Teacher(
            network=network,
            cuts=cuts,
            mean=torch.from_numpy(features.mean(axis=0, dtype=np.float64)).float(),
            deviation=torch.from_numpy(features.std(axis=0, dtype=np.float64) + 1e-6).float(),
        )
        reaches = torch.tensor([[float(y >= k) for k in range(1, classes)] for y in labels])
        optimizer = torch.optim.AdamW([*network.parameters(), cuts], lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            chosen = draw.permutation(len(slides))[:BATCH]
            some = [slides[k].some(most_tiles, draw).features for k in chosen]
            by_slide = teacher.numbers(np.concatenate(some)).split([len(each) for each in some])
            numbers = torch.stack([highest(each) for each in by_slide])
            loss = functional.binary_cross_entropy_with_logits(
                numbers[:, None] - cuts, reaches[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    return teacher


def highest(numbers: Tensor) -> Tensor:
    """Return the highest number that at least `SHARE` of the first axis reaches."""
    return numbers.topk(math.ceil(SHARE * len(numbers)), dim=0).values[-1]


def class_of_part(chances: Chances) -> NDArray[np.float32]:
    """Return the chance (classes,) of each class of a part, by those of its tiles (n, classes-1).

    The rule of the slide holds for the part.
    """
    reached = np.sort(chances, axis=0)[-math.ceil(SHARE * len(chances))]
    steps = np.concatenate(([1.0], reached, [0.0]))
    return (steps[:-1] - steps[1:]).astype(np.float32)
