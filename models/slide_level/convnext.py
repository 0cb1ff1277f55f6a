"""ConvNeXt (Liu et al., arXiv 2201.03545): depthwise 7 x 7, LayerNorm, inverted bottleneck, GELU.

Names of parameters are those of transformers 5, so that its checkpoints begin a training. That
library is not imported to read a slide: importing it costs a process some three seconds.
arXiv 2503.22069 says that ConvNeXt has GroupNorm; its paper and its code have LayerNorm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers import DEVIATION


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvNextShape:
    """Sizes of a network; the defaults are ConvNeXt-S. `layer_scale` is where it begins."""

    depths: tuple[int, ...] = (3, 3, 27, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch_px: int = 4
    layer_scale: float = 1e-6


class ConvNext(nn.Module):
    """Features of an image: the mean over its places after the last stage."""

    def __init__(self, shape: ConvNextShape) -> None:
        super().__init__()
        self.width = shape.widths[-1]
        self.embeddings = _Stem(shape.widths[0], shape.patch_px)
        self.encoder = _Encoder(shape)
        self.layernorm = nn.LayerNorm(self.width, eps=1e-12)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.normal_(part.weight, std=DEVIATION)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def places(self, pixels: Tensor) -> Tensor:
        """Return features (N, D, H / 32, W / 32) of `pixels` (N, 3, H, W)."""
        x: Tensor = self.embeddings(pixels)
        for stage in self.encoder.stages:
            x = stage(x)
        return x

    def pooled(self, places: Tensor) -> Tensor:
        """Return features (N, D) of `places`."""
        found: Tensor = self.layernorm(places.mean((2, 3)))
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (N, D) of `pixels` (N, 3, H, W)."""
        return self.pooled(self.places(pixels))


class _Stem(nn.Module):
    """Patches of the image, each one a place."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_embeddings = nn.Conv2d(3, width, patch_px, patch_px)
        self.layernorm = _ChannelNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.layernorm(self.patch_embeddings(pixels))
        return found


class _Encoder(nn.Module):
    def __init__(self, shape: ConvNextShape) -> None:
        super().__init__()
        before = (shape.widths[0], *shape.widths)
        self.stages = nn.ModuleList(
            _Stage(before[k], width, depth, halve=k > 0, scale=shape.layer_scale)
            for k, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True))
        )


class _Stage(nn.Module):
    """Halving of the raster, but in the first stage, and blocks."""

    def __init__(self, before: int, width: int, depth: int, *, halve: bool, scale: float) -> None:
        super().__init__()
        halving = [_ChannelNorm(before), nn.Conv2d(before, width, 2, 2)] if halve else []
        self.downsampling_layer = nn.ModuleList(halving)
        self.layers = nn.ModuleList(_Block(width, scale) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for part in (*self.downsampling_layer, *self.layers):
            x = part(x)
        return x


class _Block(nn.Module):
    """Depthwise convolution, then a bottleneck four times as wide inside, beside a residual."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.layernorm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.layer_scale_parameter = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)  # (N, H, W, D)
        y = self.pwconv2(self.act(self.pwconv1(self.layernorm(y))))
        found: Tensor = x + (self.layer_scale_parameter * y).permute(0, 3, 1, 2)
        return found


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, D, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized tensor, (N, D, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
