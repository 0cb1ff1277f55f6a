"""Network M: SegFormer (Xie et al., arXiv 2105.15203), a label per 4 x 4 px of the tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers import Attention, draw_weights, shape_of
from models.pixels import Pixels
from models.spec import ModelSpec

MLP_RATIO = 4
"""Width of the inner layer of a block, in widths of the block."""


class PixelLogits(NamedTuple):
    """`logits` (N, classes, P / 4, P / 4)."""

    logits: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SegformerShape:
    """`config` of a manifest; names and defaults are those of transformers' SegformerConfig.

    One number per stage. The first stage halves the resolution twice, each other one once.
    """

    hidden_sizes: tuple[int, ...] = (32, 64, 160, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    num_attention_heads: tuple[int, ...] = (1, 2, 5, 8)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    patch_sizes: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    decoder_hidden_size: int = 256
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    drop_path_rate: float = 0.1


class SegformerSegmenter(nn.Module):
    """SegFormer with a head for the classes of `spec`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)
        self.body = _Segformer(shape_of(SegformerShape, spec), len(spec.classes))

    def forward(self, pixels: Tensor) -> PixelLogits:
        """Return logits of `pixels` (N, 3, T, T), 0-255."""
        return PixelLogits(self.body(self.pixels(pixels)))


class _Segformer(nn.Module):
    def __init__(self, shape: SegformerShape, classes: int) -> None:
        super().__init__()
        self.segformer = _Encoder(shape)
        self.decode_head = DecodeHead(shape, classes)
        draw_weights(self)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.decode_head(self.segformer(pixels))
        return logits


class _Encoder(nn.Module):
    """Maps of an image at a quarter of its resolution, an eighth, and so on."""

    def __init__(self, shape: SegformerShape) -> None:
        super().__init__()
        blocks = sum(shape.depths)
        rates = [shape.drop_path_rate * block / max(blocks - 1, 1) for block in range(blocks)]
        widths = (3, *shape.hidden_sizes)
        self.stages = nn.ModuleList(
            [
                _Stage(shape, stage, widths[stage], [rates.pop(0) for _ in range(depth)])
                for stage, depth in enumerate(shape.depths)
            ]
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return (N, D, h, w) of each stage."""
        states, state = [], pixels
        for stage in self.stages:
            state = stage(state)
            states.append(state)
        return states


class _Stage(nn.Module):
    """Overlapping patches of the map before, and blocks (arXiv 2105.15203, section 3.1)."""

    def __init__(
        self, shape: SegformerShape, stage: int, width_before: int, rates: list[float]
    ) -> None:
        super().__init__()
        width, patch = shape.hidden_sizes[stage], shape.patch_sizes[stage]
        proj = nn.Conv2d(width_before, width, patch, shape.strides[stage], padding=patch // 2)
        self.patch_embeddings = nn.ModuleDict({"proj": proj, "layer_norm": nn.LayerNorm(width)})
        self.blocks = nn.ModuleList([_Block(shape, stage, rate) for rate in rates])
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, state: Tensor) -> Tensor:
        patches = self.patch_embeddings["proj"](state)  # (N, D, h, w)
        size = patches.shape[2:]
        tokens = self.patch_embeddings["layer_norm"](patches.flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens, size)
        return _as_map(self.layer_norm(tokens), size).contiguous()


def _as_map(tokens: Tensor, size: torch.Size) -> Tensor:
    """Turn tokens (N, h · w, D) into a map (N, D, h, w)."""
    rows: Tensor = tokens.transpose(1, 2).unflatten(2, size)
    return rows


class _Block(nn.Module):
    def __init__(self, shape: SegformerShape, stage: int, rate: float) -> None:
        super().__init__()
        width = shape.hidden_sizes[stage]
        self.layernorm_before = nn.LayerNorm(width)
        self.attention = _ReducedAttention(shape, stage)
        self.drop_path = _DropPath(rate)
        self.layernorm_after = nn.LayerNorm(width)
        self.mlp = _MixMLP(width, shape.hidden_dropout_prob)
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        normal = self.layernorm_before(tokens)
        found = self.dropout(self.attention(normal, self.attention.context(normal, size)))
        tokens = self.drop_path(found) + tokens
        changed: Tensor = self.drop_path(self.mlp(self.layernorm_after(tokens), size)) + tokens
        return changed


class _ReducedAttention(Attention):
    """Attention to a coarser map, which costs 1 / ratio² (arXiv 2105.15203, Eq. 2)."""

    def __init__(self, shape: SegformerShape, stage: int) -> None:
        width, ratio = shape.hidden_sizes[stage], shape.sr_ratios[stage]
        heads, dropout = shape.num_attention_heads[stage], shape.attention_probs_dropout_prob
        super().__init__(width, heads, bias=True, dropout=dropout)
        self.reduces = ratio > 1
        if self.reduces:
            reduce = nn.Conv2d(width, width, kernel_size=ratio, stride=ratio)
            parts = {"sequence_reduction": reduce, "layer_norm": nn.LayerNorm(width)}
            self.sequence_reduction = nn.ModuleDict(parts)

    def context(self, tokens: Tensor, size: torch.Size) -> Tensor:
        """Return the tokens (N, S, D) of the coarser map that `tokens` (N, h · w, D) attend to."""
        if not self.reduces:
            return tokens
        coarse = self.sequence_reduction["sequence_reduction"](_as_map(tokens, size))
        reduced: Tensor = self.sequence_reduction["layer_norm"](coarse.flatten(2).transpose(1, 2))
        return reduced


class _MixMLP(nn.Module):
    """Two layers with a 3 x 3 convolution between, which tells places (arXiv 2105.15203, Eq. 3)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        inner = MLP_RATIO * width
        self.fc1 = nn.Linear(width, inner)
        self.dwconv = nn.ModuleDict({"dwconv": nn.Conv2d(inner, inner, 3, padding=1, groups=inner)})
        self.fc2 = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        placed = self.dwconv["dwconv"](_as_map(self.fc1(tokens), size)).flatten(2).transpose(1, 2)
        changed: Tensor = self.dropout(self.fc2(self.dropout(functional.gelu(placed))))
        return changed


class _DropPath(nn.Module):
    """Leave a branch out for some tiles of a training batch (arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.rate)
        return branch * kept / (1 - self.rate)


class _Projection(nn.Module):
    """Tokens (N, h · w, D) of a map, in the width of the decode head."""

    def __init__(self, width: int, wanted: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, wanted)

    def forward(self, state: Tensor) -> Tensor:
        tokens: Tensor = self.proj(state.flatten(2).transpose(1, 2))
        return tokens


class DecodeHead(nn.Module):
    """Decode head with the weights and the result of transformers' head, at a fraction of the cost.

    transformers fuses the scales by a 1 x 1 convolution over their upsampled, concatenated maps.
    Such a convolution and bilinear upsampling commute: here each scale is convolved at its own
    size. Channels come last, as in the tokens. In evaluation the batch normalization that follows
    is folded into the convolution: operations on the upsampled maps dominate the cost.
    """

    def __init__(self, shape: SegformerShape, classes: int) -> None:
        super().__init__()
        width, stages = shape.decoder_hidden_size, len(shape.hidden_sizes)
        self.linear_projections = nn.ModuleList(
            [_Projection(each, width) for each in shape.hidden_sizes]
        )
        self.linear_fuse = nn.Conv2d(width * stages, width, kernel_size=1, bias=False)
        self.batch_norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(shape.classifier_dropout_prob)
        self.classifier = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, states: list[Tensor]) -> Tensor:
        """Return logits (N, classes, h, w) of maps (N, D, h, w), the finest first."""
        one_by_one = not self.training and states[0].device.type == "cpu"
        if not one_by_one or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return self._labels(states)
        # Upsampled maps of four tiles take 64 MiB each. Blocks of that size fragment the memory of
        # a CPU, which then grows from batch to batch: one tile at a time.
        tiles = zip(*(state.split(1) for state in states), strict=True)
        return torch.cat([self._labels(list(tile)) for tile in tiles])

    def _labels(self, states: list[Tensor]) -> Tensor:
        size = states[0].shape[2:]
        gain, shift = self._folded()
        # The fusing weights start with the coarsest scale.
        shares = self.linear_fuse.weight.chunk(len(states), dim=1)[::-1]
        fused = shift[:, None, None]
        for state, project, share in zip(states, self.linear_projections, shares, strict=True):
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
        norm: Any = self.batch_norm  # running figures are always tracked, which types do not say
        if self.training:
            return torch.ones_like(norm.weight), torch.zeros_like(norm.weight)
        gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return gain, norm.bias - norm.running_mean * gain
