"""First stage of every network: resize, optical density, normalize."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class PixelFacts(Protocol):
    """Facts of a manifest that this stage depends on, see `models.spec.ModelSpec`."""

    @property
    def input_px(self) -> int: ...

    @property
    def tile_px(self) -> int: ...

    @property
    def pixels(self) -> str: ...

    @property
    def mean(self) -> tuple[float, float, float]: ...

    @property
    def std(self) -> tuple[float, float, float]: ...


class Pixels(nn.Module):
    """Transform of tiles (N, 3, T, T), 0-255 with glass at 255, to network input (N, 3, P, P).

    Mean and standard deviation are non-persistent buffers: they come from the spec and cannot
    disagree with it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: PixelFacts) -> None:
        super().__init__()
        self.input_px = spec.input_px
        # Training crops keep their resolution; only whole tiles are resized.
        self.resize = spec.input_px != spec.tile_px
        self.density = spec.pixels == "optical-density"
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32, whatever the precision of the following layers.

        uint8 input is resized as uint8 where torch supports that (on a CPU): much faster, and
        training does the same with its tiles.
        """
        if self.resize and pixels.device.type != "cpu":
            pixels = pixels.float()
        x = pixels
        if self.resize:
            size = (self.input_px, self.input_px)
            x = functional.interpolate(x, size, mode="bilinear", antialias=True)  # (N, 3, P, P)
        x = x.float() / 255
        if self.density:
            x = -torch.log10(x.clamp(min=1 / 255))  # Beer-Lambert, 0 (glass) to 2.4
        return (x - self.mean) / self.std
