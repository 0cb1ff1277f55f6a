"""Losses of the aggregators on one bag."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.mil.clam import Clam, Clustered
from models.mil.dtfd import Dtfd

SLIDE_SHARE, CLUSTER_SHARE = 0.7, 0.3
"""Weights c1 and c2 of CLAM's two losses (arXiv 2004.09666, "Training details")."""
MARGIN, SMOOTHNESS = 1.0, 1.0
"""Margin α and temperature τ of the smooth SVM loss, as in CLAM."""


def loss_of(network: nn.Module, vectors: Tensor, label: int, weights: Tensor) -> Tensor:
    """Return the loss of an aggregator on a bag.

    `vectors` (n, D); `weights` (classes,) multiply the loss of a bag of each class. The loss is the
    cross-entropy of the answer. CLAM adds that of its clusters; DTFD adds that of tier 1, mean over
    the pseudo-bags, each of which has the bag's label.
    """
    wanted = torch.tensor(label, device=vectors.device)
    if isinstance(network, Clam):
        answer, clusters = network.with_clusters(vectors, label)
        slide = functional.cross_entropy(answer.logits, wanted)
        clustered = torch.stack([cluster_loss(cluster) for cluster in clusters]).mean()
        return weights[label] * SLIDE_SHARE * slide + CLUSTER_SHARE * clustered
    if isinstance(network, Dtfd):
        tiers = network.tiers(vectors)
        first = functional.cross_entropy(tiers.first, wanted.expand(len(tiers.first)))
        return weights[label] * (first + functional.cross_entropy(tiers.second.logits, wanted))
    return weights[label] * functional.cross_entropy(network(vectors).logits, wanted)


def cluster_loss(cluster: Clustered) -> Tensor:
    """Smooth top-1 SVM loss (Berrada et al., arXiv 1802.07595), mean over the tiles.

    τ log Σ_j exp((α [j ≠ y] + s_j - s_y) / τ): the cross-entropy with a margin.
    """
    other = 1 - functional.one_hot(cluster.labels, 2)
    scores = cluster.logits + MARGIN * other  # (m, 2)
    own = cluster.logits.gather(1, cluster.labels[:, None])[:, 0]
    smooth: Tensor = SMOOTHNESS * (scores / SMOOTHNESS).logsumexp(dim=1) - own
    return smooth.mean()
