"""ABMIL: attention-based pooling (Ilse, Tomczak and Welling, arXiv 1802.04712)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.mil.attention import Aggregate, Embedding, GatedAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class AbmilShape:
    """Widths of the layers, and the share of numbers that training drops."""

    width: int = 256
    inner: int = 128
    dropout: float = 0.25


class Abmil(nn.Module):
    """z = Σ a_k h_k (Eq. 7) with gated a_k (Eq. 9), and a linear layer on z.

    The paper has one output with a sigmoid; here there is one per class with a softmax.
    """

    def __init__(self, dimension: int, classes: int, shape: AbmilShape) -> None:
        super().__init__()
        self.embedding = Embedding(dimension, shape.width, shape.dropout)
        self.attention = GatedAttention(shape.width, shape.inner, 1, shape.dropout)
        self.head = nn.Linear(shape.width, classes)

    def forward(self, vectors: Tensor) -> Aggregate:
        """Return the answer on `vectors` (n, D)."""
        tiles = self.embedding(vectors)  # (n, width)
        attention = self.attention(tiles)[0].softmax(dim=0)  # (n,)
        return Aggregate(self.head(attention @ tiles), attention)
