"""M: SegFormer (Xie et al., arXiv 2105.15203), a label per 4 x 4 px of the tile."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from models.pixels import Pixels
from models.spec import ModelSpec


class PixelLogits(NamedTuple):
    """`logits` (N, classes, P / 4, P / 4)."""

    logits: Tensor


class _DecodeHead(SegformerDecodeHead):
    """transformers' head, its weights and its result, at a third of the work.

    It fuses the scales by a 1 x 1 convolution over their enlarged maps laid side by side. Such a
    convolution and bilinear enlargement commute: here each scale is convolved while it is small.
    """

    def forward(self, encoder_hidden_states: tuple[Tensor, ...], **_: Any) -> Tensor:
        size = encoder_hidden_states[0].shape[2:]
        # The fusing weights hold the coarsest scale first.
        shares = self.linear_fuse.weight.chunk(len(encoder_hidden_states), dim=1)[::-1]
        fused = torch.zeros(())
        for state, project, share in zip(
            encoder_hidden_states, self.linear_projections, shares, strict=True
        ):
            tokens = functional.linear(project(state), share[..., 0, 0])  # (N, h · w, D)
            scale = tokens.transpose(1, 2).unflatten(2, state.shape[2:]).float()
            fused = fused + functional.interpolate(scale, size, mode="bilinear")
        fused = self.dropout(self.activation(self.batch_norm(fused)))
        logits: Tensor = self.classifier(fused)
        return logits


class SegformerSegmenter(nn.Module):
    """transformers' SegFormer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)
        config = SegformerConfig(num_labels=len(spec.classes), **spec.config)
        self.body = SegformerForSemanticSegmentation(config)
        self.body.decode_head = _DecodeHead(config)

    def forward(self, pixels: Tensor) -> PixelLogits:
        """`pixels` (N, 3, T, T), 0-255."""
        return PixelLogits(self.body(self.pixels(pixels)).logits)
