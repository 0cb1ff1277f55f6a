"""Losses of training: one per px or tile, and MaskFormer's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.configuration import TrainingConfig


def loss_of(
    config: TrainingConfig, network: nn.Module, pixels: Tensor, labels: Tensor, *, half: bool
) -> Tensor:
    """Return the configuration's loss, float32, of a batch of `models.training.batches`.

    `half`: the network runs in bfloat16; the loss does not.
    """
    running = torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=half)
    if config.loss == "mask":
        return _mask_loss(network, pixels, labels, running)
    with running:
        logits = network(pixels).logits
    return functional.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)


def _mask_loss(network: Any, pixels: Tensor, labels: Tensor, running: torch.autocast) -> Tensor:
    """Hungarian loss of MaskFormer (arXiv 2107.06278) by transformers' own code.

    The truth of a tile is one binary mask per class that it holds, background included, as for
    semantic labels there. Queries are matched to the masks; those without a match learn "no
    object".
    """
    with running:
        out = network.body(network.pixels(pixels))
    classes = [torch.unique(one) for one in labels]
    masks = [
        (one == there[:, None, None]).float() for one, there in zip(labels, classes, strict=True)
    ]
    parts = network.body.get_loss_dict(
        out.masks_queries_logits.float(), out.class_queries_logits.float(), masks, classes, None
    )
    loss: Tensor = network.body.get_loss(parts)
    return loss
