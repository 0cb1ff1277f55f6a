"""What every network does to its tiles first: resize, optical density, normalise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spec import ModelSpec


class Pixels(nn.Module):
    """Tiles (N, 3, T, T), 0-255 with glass at 255, to what the network sees (N, 3, P, P).

    Mean and standard deviation are non-persistent buffers: they come from the spec, so they cannot
    drift from the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.input_px = spec.input_px
        # Crops, as training takes them, keep their resolution where whole tiles would.
        self.resize = spec.input_px != spec.tile_px
        self.density = spec.pixels == "optical-density"
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Float32 whatever the precision of what follows.

        Bytes are made smaller as bytes where torch can do so (on a CPU): training does the same
        with its tiles, and it is much faster.
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
