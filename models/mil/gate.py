"""Gate before an aggregator: tiles with tumor go on, others are left out.

A slide's label asks for stained tiles, so that attention does not look for unstained tumor. Where
the truth of a cohort's tiles is known a small layer learns it, and the aggregator sees tumor alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.mil.attention import Aggregate
from models.mil.bag import Bag
from models.spec import TUMOR_SHARE

SURE = 0.8
"""Least probability of tumor of a tile that goes on. On tissue that nobody has seen a tile is more
often wrongly taken for tumor: with 0.5, attention seeks the stained ones of these on slides of
0."""
STEPS, TILES_PER_STEP, LEARNING_RATE, WEIGHT_DECAY = 600, 512, 3e-3, 1e-2
FEWEST_TILES = 8
"""A bag in which fewer tiles are tumor by the gate keeps the tiles that are most likely so."""


class TumorGate(nn.Module):
    """Logit of tumor of each tile: linear in the normalized vector of the encoder.

    A hidden layer learned the training's tissue by heart.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)
        self.out = nn.Linear(dimension, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits (n,) of `vectors` (n, D)."""
        logits: Tensor = self.out(self.norm(vectors))[:, 0]
        return logits

    def chosen(self, vectors: Tensor) -> Tensor:
        """Return the numbers of the tiles that go on, ascending, int64; at least one."""
        with torch.no_grad():
            logits = self(vectors.float())
        fewest = min(FEWEST_TILES, len(logits))
        limit = logits.topk(fewest).values[-1].clamp(max=math.log(SURE / (1 - SURE)))
        numbers: Tensor = (logits >= limit).nonzero()[:, 0]
        return numbers


class TumorAlone(nn.Module):
    """Aggregator that sees the tiles its gate chose; the attention of the others is 0."""

    def __init__(self, gate: TumorGate, aggregator: nn.Module) -> None:
        super().__init__()
        self.gate, self.aggregator = gate, aggregator

    def forward(self, vectors: Tensor) -> Aggregate:
        """Return the answer on `vectors` (n, D)."""
        chosen = self.gate.chosen(vectors)
        answer = self.aggregator(vectors[chosen])
        attention = torch.zeros(len(vectors), dtype=vectors.dtype, device=vectors.device)
        attention[chosen] = answer.attention
        return Aggregate(answer.logits, attention)


def fit_gate(bags: Sequence[Bag], seed: int) -> TumorGate | None:
    """Return a gate that learned from the tiles of bags; None where one lacks their truth.

    A gate that learned from some slides alone would leave out tiles of the others unjudged. Each
    bag gives as many tiles to a step as any other. Weights are rounded to float16, so that the
    stored gate chooses the same tiles.
    """
    known = [(bag.vectors, _tumor(bag.truth)) for bag in bags if bag.truth is not None]
    if not known or len(known) < len(bags):
        return None
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0x6A7E])
    gate = TumorGate(known[0][0].shape[1])
    optimizer = torch.optim.AdamW(gate.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    share = max(1, TILES_PER_STEP // len(known))
    for _ in range(STEPS):
        drawn = [(part, rng.integers(0, len(part[1]), share)) for part in known]
        vectors = torch.from_numpy(np.concatenate([part[0][at] for part, at in drawn])).float()
        tumor = torch.from_numpy(np.concatenate([part[1][at] for part, at in drawn]))
        loss = functional.binary_cross_entropy_with_logits(gate(vectors), tumor)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    gate.load_state_dict({name: t.half().float() for name, t in gate.state_dict().items()})
    return gate.eval()


def _tumor(truth: NDArray[np.float16]) -> NDArray[np.float32]:
    share = truth[:, 1:].astype(np.float32).sum(axis=1)
    tumor: NDArray[np.float32] = (share >= TUMOR_SHARE).astype(np.float32)
    return tumor
