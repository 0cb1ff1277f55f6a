"""DenseNet (Huang et al., arXiv 1608.06993): each layer sees the features of all before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseNetShape:
    """Sizes of a network (Table 1 of the paper); the defaults are DenseNet-201."""

    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 48, 32)
    first: int = 64


class DenseNet(nn.Module):
    """DenseNet-BC: bottlenecks of four times the growth, transitions that halve the features."""

    def __init__(self, shape: DenseNetShape) -> None:
        super().__init__()
        width = shape.first
        parts: list[nn.Module] = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        for number, count in enumerate(shape.blocks):
            for _ in range(count):
                parts.append(_DenseLayer(width, shape.growth))
                width += shape.growth
            if number < len(shape.blocks) - 1:
                parts.append(_transition(width, width // 2))
                width //= 2
        self.body = nn.Sequential(*parts)
        self.norm = nn.BatchNorm2d(width)
        self.width = width
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def places(self, pixels: Tensor) -> Tensor:
        """Return features (N, D, H / 32, W / 32) of `pixels` (N, 3, H, W)."""
        return functional.relu(self.norm(self.body(pixels)))

    def pooled(self, places: Tensor) -> Tensor:
        """Return features (N, D) of `places`."""
        return places.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (N, D) of `pixels` (N, 3, H, W)."""
        return self.pooled(self.places(pixels))


class _DenseLayer(nn.Module):
    """Features, and `growth` more of them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


def _transition(width: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, after, 1, bias=False), nn.AvgPool2d(2)
    )
