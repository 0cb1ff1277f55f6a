"""Common parts of all aggregators: their answer, and gated attention over the tiles of a bag."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Aggregate(NamedTuple):
    """Answer on one bag of n tiles.

    `logits` (classes,). `attention` (n,): what each tile weighed in the answer, 0 or more; it sums
    to 1.
    """

    logits: Tensor
    attention: Tensor


class Embedding(nn.Module):
    """Vectors of an encoder (n, D) to the aggregator's own width: one layer with ReLU."""

    def __init__(self, dimension: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)
        self.linear = nn.Linear(dimension, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (n, width). Encoders differ in scale, so that vectors are normalized first."""
        inner: Tensor = self.dropout(torch.relu(self.linear(self.norm(vectors))))
        return inner


class GatedAttention(nn.Module):
    """Gated attention (Ilse et al., arXiv 1802.04712, Eq. 9), before the softmax.

    Score of tile k: w^T (tanh(V h_k) ⊙ sigm(U h_k)), for each of `branches` rows w.
    """

    def __init__(self, width: int, inner: int, branches: int, dropout: float) -> None:
        super().__init__()
        self.v = nn.Linear(width, inner)
        self.u = nn.Linear(width, inner)
        self.w = nn.Linear(inner, branches)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return scores (branches, n) of `tiles` (n, width)."""
        gated = torch.tanh(self.v(tiles)) * torch.sigmoid(self.u(tiles))  # (n, inner)
        scores: Tensor = self.w(self.dropout(gated)).T
        return scores
