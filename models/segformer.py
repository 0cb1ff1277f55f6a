"""Network M: SegFormer (Xie et al., arXiv 2105.15203), a label per 4 x 4 px of the tile."""

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
    """Decode head with the weights and the result of transformers' head, at a fraction of the cost.

    transformers fuses the scales by a 1 x 1 convolution over their upsampled, concatenated maps.
    Such a convolution and bilinear upsampling commute: here each scale is convolved at its own
    size. Channels come last, as in the tokens. In evaluation the batch normalization that follows
    is folded into the convolution: operations on the upsampled maps dominate the cost.
    """

    def forward(self, encoder_hidden_states: tuple[Tensor, ...], **_: Any) -> Tensor:
        one_by_one = not self.training and encoder_hidden_states[0].device.type == "cpu"
        if not one_by_one or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return self._labels(encoder_hidden_states)
        # Upsampled maps of four tiles take 64 MiB each. Blocks of that size fragment the memory of
        # a CPU, which then grows from batch to batch: one tile at a time.
        tiles = zip(*(state.split(1) for state in encoder_hidden_states), strict=True)
        return torch.cat([self._labels(tile) for tile in tiles])

    def _labels(self, encoder_hidden_states: tuple[Tensor, ...]) -> Tensor:
        size = encoder_hidden_states[0].shape[2:]
        gain, shift = self._folded()
        # The fusing weights start with the coarsest scale.
        shares = self.linear_fuse.weight.chunk(len(encoder_hidden_states), dim=1)[::-1]
        fused = shift[:, None, None]
        for state, project, share in zip(
            encoder_hidden_states, self.linear_projections, shares, strict=True
        ):
            weight = share[..., 0, 0] * gain[:, None]
            tokens = functional.linear(project(state), weight).float()  # (N, h · w, D)
            scale = tokens.unflatten(1, state.shape[2:]).permute(0, 3, 1, 2)
            if scale.shape[2:] == size:
                fused = scale + fused
            else:
                fused += functional.interpolate(scale, size, mode="bilinear")
        fused = self.batch_norm(fused) if self.training else fused
        logits: Tensor = self.classifier(self.dropout(functional.relu(fused, inplace=True)))
        return logits

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Scale and offset of the batch normalization, per channel; 1 and 0 in training."""
        norm = self.batch_norm
        if self.training:
            return torch.ones_like(norm.weight), torch.zeros_like(norm.weight)
        gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return gain, norm.bias - norm.running_mean * gain


class SegformerSegmenter(nn.Module):
    """transformers' SegFormer with `_DecodeHead`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)
        config = SegformerConfig(num_labels=len(spec.classes), **spec.config)
        self.body = SegformerForSemanticSegmentation(config)
        self.body.decode_head = _DecodeHead(config)

    def forward(self, pixels: Tensor) -> PixelLogits:
        """Return logits of `pixels` (N, 3, T, T), 0-255."""
        return PixelLogits(self.body(self.pixels(pixels)).logits)
