"""M: SegFormer (Xie et al., arXiv 2105.15203), a label per 4 x 4 px of the tile."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from models.pixels import Pixels
from models.spec import ModelSpec


class PixelLogits(NamedTuple):
    """`logits` (N, classes, P / 4, P / 4)."""

    logits: Tensor


class SegformerSegmenter(nn.Module):
    """transformers' SegFormer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)
        config = SegformerConfig(num_labels=len(spec.classes), **spec.config)
        self.body = SegformerForSemanticSegmentation(config)

    def forward(self, pixels: Tensor) -> PixelLogits:
        """`pixels` (N, 3, T, T), 0-255."""
        return PixelLogits(self.body(self.pixels(pixels)).logits)
