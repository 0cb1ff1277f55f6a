"""DTFD-MIL: double-tier feature distillation (Zhang et al., arXiv 2203.12081) with AFS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.mil.attention import Aggregate, Embedding, GatedAttention

PERMUTATION_SEED = 0
"""Seed of the permutation that splits a bag: equal bags have equal pseudo-bags in each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DtfdShape:
    """Widths of the layers, the share of numbers that training drops, and the pseudo-bags (M)."""

    width: int = 256
    inner: int = 128
    dropout: float = 0.25
    pseudo_bags: int = 5


class Tiers(NamedTuple):
    """Answers of both tiers: `first` (M, classes) on the pseudo-bags, `second` on the bag."""

    first: Tensor
    second: Aggregate


class Dtfd(nn.Module):
    """Two tiers of attention.

    The bag is split into M pseudo-bags. Tier 1 pools each by gated attention and classifies it by
    the bag's label. With AFS, the vector that is distilled from a pseudo-bag is its
    pooled one ("aggregated feature selection"). Tier 2 pools the M distilled vectors
    and classifies the bag.

    Deviation: the paper splits at random at each pass. Here one permutation is fixed, so that a
    slide's answer is the same in each run.
    """

    def __init__(self, dimension: int, classes: int, shape: DtfdShape) -> None:
        super().__init__()
        self.pseudo_bags = shape.pseudo_bags
        self.embedding = Embedding(dimension, shape.width, shape.dropout)
        self.first = _Tier(classes, shape)
        self.second = _Tier(classes, shape)

    def forward(self, vectors: Tensor) -> Aggregate:
        """Return the answer on `vectors` (n, D).

        The attention of a tile is that of its pseudo-bag times its own within the pseudo-bag.
        """
        return self.tiers(vectors).second

    def tiers(self, vectors: Tensor) -> Tiers:
        """Return the answers of both tiers.

        The distilled vectors are detached: tier 1 learns by its own loss alone (the losses
        of the tiers are minimized over the weights of each).
        """
        tiles = self.embedding(vectors)  # (n, width)
        first, distilled, within = [], [], []
        parts = self._parts(len(tiles))
        for part in parts:
            answer, pooled = self.first(tiles[part])
            first.append(answer.logits)
            distilled.append(pooled.detach())
            within.append(answer.attention)
        second, _ = self.second(torch.stack(distilled))
        attention = torch.zeros(len(tiles), dtype=tiles.dtype, device=tiles.device)
        for weight, part, own in zip(second.attention, parts, within, strict=True):
            attention[part] = weight * own
        return Tiers(torch.stack(first), Aggregate(second.logits, attention))

    def _parts(self, count: int) -> list[Tensor]:
        """Return the tiles of each pseudo-bag; a bag of few tiles has fewer pseudo-bags."""
        order = torch.randperm(count, generator=torch.Generator().manual_seed(PERMUTATION_SEED))
        return list(order.tensor_split(min(self.pseudo_bags, count)))


class _Tier(nn.Module):
    """Gated attention over vectors (m, width), and a linear layer on what it pools."""

    def __init__(self, classes: int, shape: DtfdShape) -> None:
        super().__init__()
        self.attention = GatedAttention(shape.width, shape.inner, 1, shape.dropout)
        self.head = nn.Linear(shape.width, classes)

    def forward(self, vectors: Tensor) -> tuple[Aggregate, Tensor]:
        attention = self.attention(vectors)[0].softmax(dim=0)  # (m,)
        pooled = attention @ vectors  # (width,)
        return Aggregate(self.head(pooled), attention), pooled
