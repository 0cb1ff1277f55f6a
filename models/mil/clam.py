"""CLAM: clustering-constrained attention (Lu et al., arXiv 2004.09666; Nat Biomed Eng 2021).

Written from the paper's text ("Methods"). The code that its authors published was not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.mil.attention import Aggregate, Embedding, GatedAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class ClamShape:
    """Widths of the layers, and the share of numbers that training drops.

    `clustered` is B of the paper: tiles of most and of least attention that train the instance
    classifiers. The paper's widths are 512 and 256, for vectors of 1024 numbers.
    """

    width: int = 256
    inner: int = 128
    dropout: float = 0.25
    clustered: int = 8


class Clustered(NamedTuple):
    """Tiles that train the instance classifiers.

    `logits` (m, 2) are one instance classifier's, `labels` (m,) 1 where a tile counts as evidence
    of that classifier's class, and 0 where not.
    """

    logits: Tensor
    labels: Tensor


class Clam(nn.Module):
    """CLAM with one attention branch (sb) or one per class (mb).

    Attention a_(k,m) is gated. Branch m has the representation
    h_m = Σ a_(k,m) h_k, and the score of class m is W_(c,m) h_m (mb), or all scores are
    linear in the one representation (sb).

    Deviation: the paper shows the attention of the branch of the class that is answered. With
    several branches Tandem shows their mean by the probability of their classes, so that a small
    focus that speaks for the second likeliest class is seen.
    """

    def __init__(
        self, dimension: int, classes: int, shape: ClamShape, *, branches_per_class: bool
    ) -> None:
        super().__init__()
        self.clustered, self.many = shape.clustered, branches_per_class
        branches = classes if branches_per_class else 1
        self.embedding = Embedding(dimension, shape.width, shape.dropout)
        self.attention = GatedAttention(shape.width, shape.inner, branches, shape.dropout)
        self.head = nn.Linear(shape.width, classes)
        self.instances = nn.ModuleList([nn.Linear(shape.width, 2) for _ in range(classes)])

    def forward(self, vectors: Tensor) -> Aggregate:
        """Return the answer on `vectors` (n, D); see the class for its attention."""
        return self.with_clusters(vectors, None)[0]

    def with_clusters(
        self, vectors: Tensor, label: int | None
    ) -> tuple[Aggregate, list[Clustered]]:
        """Return the answer, and the tiles that `label` clusters: none without one.

        Of the branch of the true class, the B tiles of most attention are evidence of that class
        and the B of least are not. The classes exclude each other, so that the B tiles of most
        attention in each other class's branch are no evidence of that class.
        """
        tiles = self.embedding(vectors)  # (n, width)
        attention = self.attention(tiles).softmax(dim=1)  # (branches, n)
        pooled = attention @ tiles  # (branches, width)
        if self.many:
            logits = (pooled * self.head.weight).sum(dim=1) + self.head.bias  # (classes,)
            shown = logits.softmax(dim=0) @ attention
        else:
            logits = self.head(pooled[0])
            shown = attention[0]
        found = [] if label is None else self._clusters(tiles, attention, label)
        return Aggregate(logits, shown), found

    def _clusters(self, tiles: Tensor, attention: Tensor, label: int) -> list[Clustered]:
        # Of a bag with few tiles no tile is both of most and of least attention.
        size = max(1, min(self.clustered, len(tiles) // 2))
        found = []
        for number, classifier in enumerate(self.instances):
            branch = attention[number if self.many else 0]
            most = tiles[branch.topk(size).indices]
            if number == label:
                least = tiles[(-branch).topk(size).indices]
                logits = classifier(torch.cat((most, least)))
                labels = torch.cat((torch.ones(size), torch.zeros(size))).long()
            else:
                logits, labels = classifier(most), torch.zeros(size).long()
            found.append(Clustered(logits, labels.to(tiles.device)))
        return found
