"""Convolutional encoder of ours: four stages, each at half the resolution of the one before.

It is small enough to encode a slide's tiles on one core while they are decoded. Normalization is by
group (Wu and He, arXiv 1803.08494), which does not depend on the other tiles of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8
"""Groups of channels that are normalized together; each width is a multiple of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionalShape:
    """`config` of a manifest: channels of the stages, of which the last is the vector's length."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    stem_px: int = 4
    """Edge of the squares that the first layer reads, side by side."""


class ConvolutionalEncoder(nn.Module):
    """Stages of two 3 x 3 convolutions with a skip; mean over the places of the last."""

    def __init__(self, shape: ConvolutionalShape) -> None:
        super().__init__()
        widths = shape.widths
        self.stem = nn.Conv2d(3, widths[0], shape.stem_px, stride=shape.stem_px)
        self.downs = nn.ModuleList(
            [nn.Identity()] + [nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths)]
        )
        self.stages = nn.ModuleList([_Stage(width) for width in widths])
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (N, D) of normalized `pixels` (N, 3, P, P)."""
        x = self.stem(pixels)  # (N, widths[0], P / stem, P / stem)
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = stage(down(x))
        vector: Tensor = self.norm(x.mean(dim=(2, 3)))  # (N, D)
        return vector


class _Stage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.gelu(self.first(self.norm(x)))
        changed: Tensor = x + self.second(inner)
        return changed
