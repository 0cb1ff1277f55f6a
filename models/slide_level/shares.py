"""Network that counts: the share of tumor of each score, place by place, and their ratios.

A slide's class follows from shares of its tumor (10 % by the guideline). A ConvNeXt norms the
amplitude of each place away, and a mean over places of any features has no ratio. This network
gives each place of a section the shares of tumor scored 0, 1+, 2+ and 3+, sums them over the
foreground, and hands their logarithms, of which a linear layer makes ratios, to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

GRADES = 4
"""Scores that tumor of a place may have: 0, 1+, 2+, 3+."""
PLACE_PX = 4
"""Edge of a place, px of the picture."""
SHADOW = 0.01
"""Mean optical density over R, G, B from which a px is foreground; glass is 0."""
_LEAST = 3e-4
"""Share below which none is told from another."""
_AMPLITUDE = 5.0
"""Factor that brings the optical density of a section to about 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesShape:
    """Widths at a half, a quarter and an eighth of the picture; `pixel` is that of each px."""

    pixel: int = 8
    widths: tuple[int, int, int] = (24, 48, 64)
    inner: int = 32


class Shares(nn.Module):
    """Features of a section for a linear head, from the shares of its tumor and its whole look."""

    def __init__(self, shape: SharesShape) -> None:
        super().__init__()
        half, quarter, eighth = shape.widths
        self.width = shape.inner
        self.pixel = nn.Conv2d(3, shape.pixel, 1)
        self.at_half = _Block(shape.pixel, half)
        self.at_quarter = _Block(half, quarter)
        self.at_eighth = _Block(quarter, eighth)
        self.at_sixteenth = _Block(eighth, eighth)
        self.look = nn.Linear(eighth + quarter, eighth)
        self.from_eighth = nn.Conv2d(eighth, quarter, 1)
        self.from_sixteenth = nn.Conv2d(eighth, quarter, 1)
        self.mixed = nn.Conv2d(quarter, quarter, 1)
        self.grades = nn.Conv2d(quarter, 1 + GRADES, 1)
        self.inner = nn.Linear(2 * GRADES - 1 + eighth, shape.inner)

    def counted(self, density: Tensor) -> Counted:
        """Return what is counted on the optical density (N, 3, P, P) of sections; P % 16 == 0."""
        density = density.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        tissue = (density.mean(1, keepdim=True) > SHADOW).to(density.dtype)
        pixels = functional.silu(self.pixel(_AMPLITUDE * density)) * tissue
        quarter = self.at_quarter(_halved(self.at_half(_halved(pixels))))
        shown = functional.silu(quarter)
        eighth = self.at_eighth(_halved(shown))
        sixteenth = self.at_sixteenth(_halved(functional.silu(eighth)))
        near, far = (functional.avg_pool2d(tissue, edge) for edge in (PLACE_PX, 16))
        means = (_mean(functional.silu(sixteenth), far), _mean(shown, near))
        look = functional.silu(self.look(torch.cat(means, dim=1)))
        wide = self.from_sixteenth(sixteenth + look[:, :, None, None])
        places = quarter + _enlarged(self.from_eighth(eighth), 2) + _enlarged(wide, 4)
        logits = self.grades(functional.silu(self.mixed(functional.silu(places))))
        return Counted(logits, near, look)

    def laid(self, found: Counted) -> Tensor:
        """Return (N, 5 + D, P / 4, P / 4): tumor by score, tissue, and the look, everywhere."""
        tumor = found.logits.softmax(dim=1)[:, 1:] * found.tissue
        look = found.look[:, :, None, None].expand(-1, -1, *tumor.shape[2:])
        return torch.cat((tumor, found.tissue, look), dim=1)

    def places(self, density: Tensor) -> Tensor:
        """Return `laid` of the optical density (N, 3, P, P) of sections."""
        return self.laid(self.counted(density))

    def pooled(self, places: Tensor) -> Tensor:
        """Return features (N, `width`) of `places`."""
        tissue = places[:, GRADES].sum((1, 2))[:, None].clamp(min=1e-3)
        share = places[:, :GRADES].sum((2, 3)) / tissue  # (N, 4)
        above = torch.stack([share[:, k:].sum(dim=1) for k in range(1, GRADES)], dim=1)
        below = share.sum(dim=1, keepdim=True) - above
        ratio = torch.log(above + _LEAST) - torch.log(below + _LEAST)
        look = places[:, GRADES + 1 :].mean((2, 3))
        numbers = torch.cat((torch.log(share + _LEAST), ratio, look), dim=1)
        return functional.silu(self.inner(numbers))

    def forward(self, density: Tensor) -> Tensor:
        """Return features (N, `width`) of the optical density (N, 3, P, P) of sections."""
        return self.pooled(self.places(density))


class Counted(NamedTuple):
    """`logits` (N, 5, P / 4, P / 4) of other tissue and tumor scored 0, 1+, 2+, 3+ of each place;
    `tissue` (N, 1, P / 4, P / 4): share of it that is foreground; `look` (N, D) of the section."""

    logits: Tensor
    tissue: Tensor
    look: Tensor


class _Block(nn.Module):
    """Convolution of 3 x 3 places, one of each place, and a way round both."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(before, width, 3, padding=1)
        self.own = nn.Conv2d(width, width, 1)
        self.past = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.past(x) + self.own(functional.silu(self.around(x)))
        return found


def _halved(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2)


def _enlarged(x: Tensor, times: int) -> Tensor:
    return functional.interpolate(x, scale_factor=times)


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    """Mean over the places, (N, D), by a weight (N, 1, H, W)."""
    return (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-3)
