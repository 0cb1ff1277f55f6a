"""Attention within a tile: the patches from which the answer of a vision transformer came.

Attention rollout (Abnar and Zuidema, arXiv 2005.00928) follows attention from the class token down
through the layers. It does not know which answer is asked about, and early layers, which look
everywhere, blur it. Here each attention is therefore weighted by the gradient of one class's logit
(Chefer et al., arXiv 2103.15679, Eq. 5-6), and the later half of the layers is followed alone.
``benchmarks/attention.py`` compares both on tiles with truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.vit import VitClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Forward pass of N tiles through a vision transformer with T patches per tile.

    `logits` is (N, classes). `attentions` has one tensor (N, heads, 1 + T, 1 + T) per layer: the
    weights after the softmax, a row per token that attends, the class token first. Both are part of
    the graph of gradients.
    """

    logits: Tensor
    attentions: tuple[Tensor, ...]


def attend(network: VitClassifier, pixels: Tensor, classes: Tensor) -> Tensor:
    """Relevance of each patch for one class per tile: float32 (N, rows, columns of patches), >= 0.

    `pixels` is (N, 3, T, T), 0-255, and `classes` int64 (N,). Values of different tiles have no
    common scale.
    """
    seen = record(network, pixels)
    relevance = relevances(seen, classes, layers=-(-len(seen.attentions) // 2))
    edge = round(relevance.shape[1] ** 0.5)
    patches: Tensor = relevance.unflatten(1, (edge, edge))
    return patches


def record(network: VitClassifier, pixels: Tensor) -> Recorded:
    """Run a network on `pixels` (N, 3, T, T), 0-255, and record its attentions."""
    attentions: list[Tensor] = []
    with torch.enable_grad():
        tokens = network.body(network.pixels(pixels), attentions)
        logits = network.head(tokens[:, 0])
    return Recorded(logits=logits, attentions=tuple(attentions))


def relevances(seen: Recorded, classes: Tensor, *, layers: int) -> Tensor:
    """Relevance of the patches for the class token, by the last `layers` layers: (N, T).

    From the first of them on, R = 1 and R += mean over heads of (∇A ⊙ A)⁺ · R.
    """
    attentions = seen.attentions[-layers:]
    wanted = seen.logits.gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(wanted, attentions)
    tokens = attentions[0].shape[-1]
    relevance = torch.eye(tokens, device=wanted.device).expand(len(classes), -1, -1)
    for attention, gradient in zip(attentions, gradients, strict=True):
        weighted = (attention.detach() * gradient).clamp(min=0).mean(dim=1)  # (N, 1 + T, 1 + T)
        relevance = relevance + weighted @ relevance
    return relevance[:, 0, 1:]
