"""TransMIL: a transformer over the tiles of a bag (Shao et al., arXiv 2106.00908).

Attention between thousands of tiles is approximated by Nyström's method (Xiong et al., arXiv
2102.03902): tokens attend through some landmarks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.mil.attention import Aggregate

INVERSE_STEPS = 6
"""Steps of the iteration to the pseudo-inverse (arXiv 2102.03902)."""
RESIDUAL_TOKENS = 33
"""Tokens that the convolution beside the attention spans, as in that paper's code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmilShape:
    """Width of the tokens, heads, and landmarks; the paper has 512, 8 and 256."""

    width: int = 128
    heads: int = 4
    landmarks: int = 32
    dropout: float = 0.1


class Transmil(nn.Module):
    """TPT module of the paper: attention, PPEG, attention; the class token into a linear layer.

    Deviations: landmarks are the means of nearly equal runs of tokens, without padding by zeros.
    The attention over tiles is the class token's in the last layer, mean over the heads. Nyström's
    product can be slightly negative, so that it is cut at 0 and made to sum to 1; where nothing is
    left, it is even.
    """

    def __init__(self, dimension: int, classes: int, shape: TransmilShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)
        self.linear = nn.Linear(dimension, shape.width)
        self.token = nn.Parameter(torch.randn(1, shape.width) * 0.02)
        self.first = _Layer(shape)
        self.places = _Ppeg(shape.width)
        self.second = _Layer(shape)
        self.last_norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, classes)

    def forward(self, vectors: Tensor) -> Aggregate:
        """Return the answer on `vectors` (n, D), in the order of the tiles on the slide."""
        tiles = torch.relu(self.linear(self.norm(vectors)))  # (n, width)
        count = len(tiles)
        edge = math.ceil(math.sqrt(count))
        # The first tiles fill the sequence up to a square (in the paper, too).
        source = torch.arange(edge * edge, device=tiles.device) % count
        tokens = torch.cat((self.token, tiles[source]))  # (1 + edge², width)
        tokens, _ = self.first(tokens)
        tokens = self.places(tokens, edge)
        tokens, seen = self.second(tokens)
        logits = self.head(self.last_norm(tokens[0]))
        weights = seen[1:].clamp(min=0)
        attention = torch.zeros(count, dtype=weights.dtype, device=weights.device)
        attention = attention.index_add(0, source, weights)
        total = attention.sum()
        even = torch.full_like(attention, 1 / count)
        return Aggregate(logits, torch.where(total > 0, attention / total.clamp(min=1e-12), even))


class _Layer(nn.Module):
    """Normalization and Nyström attention with a skip."""

    def __init__(self, shape: TransmilShape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.landmarks = shape.heads, shape.landmarks
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(shape.dropout)
        self.residual = nn.Conv1d(
            shape.heads, shape.heads, RESIDUAL_TOKENS,
            padding=RESIDUAL_TOKENS // 2, groups=shape.heads, bias=False,
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (t, width), and what the first token attends to, (t,)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (heads, t, d)
            for part in self.queries_keys_values(self.norm(tokens)).chunk(3, dim=-1)
        )
        q = q * q.shape[-1] ** -0.5
        count = min(self.landmarks, len(tokens))
        q_marks, k_marks = _landmarks(q, count), _landmarks(k, count)  # (heads, m, d)
        from_tokens = (q @ k_marks.transpose(1, 2)).softmax(dim=-1)  # (heads, t, m)
        inverse = _inverse((q_marks @ k_marks.transpose(1, 2)).softmax(dim=-1))
        to_tokens = (q_marks @ k.transpose(1, 2)).softmax(dim=-1)  # (heads, m, t)
        bridge = from_tokens @ inverse  # (heads, t, m)
        found = bridge @ (to_tokens @ v)  # (heads, t, d)
        d = v.shape[-1]
        beside = self.residual(v.permute(2, 0, 1).reshape(d, self.heads, -1))  # (d, heads, t)
        found = found + beside.permute(1, 2, 0)
        joined = found.transpose(0, 1).flatten(1)  # (t, width)
        seen = (bridge[:, :1] @ to_tokens)[:, 0].mean(dim=0)  # (t,)
        return tokens + self.dropout(self.out(joined)), seen


def _landmarks(values: Tensor, count: int) -> Tensor:
    """Return means (heads, count, d) of nearly equal runs of `values` (heads, t, d)."""
    return torch.stack([part.mean(dim=1) for part in values.tensor_split(count, dim=1)], dim=1)


def _inverse(a: Tensor) -> Tensor:
    """Return the pseudo-inverse of (heads, m, m) by iteration (arXiv 2102.03902)."""
    scale = a.abs().sum(dim=-2).amax(dim=-1) * a.abs().sum(dim=-1).amax(dim=-1)  # (heads,)
    z = a.transpose(1, 2) / scale[:, None, None]
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(INVERSE_STEPS):
        az = a @ z
        z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
    return z


class _Ppeg(nn.Module):
    """Places of tiles by three depthwise convolutions over the square, the paper's PPEG."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)]
        )

    def forward(self, tokens: Tensor, edge: int) -> Tensor:
        grid = tokens[1:].T.unflatten(-1, (edge, edge))[None]  # (1, width, edge, edge)
        placed = grid + sum(convolution(grid) for convolution in self.convolutions)
        return torch.cat((tokens[:1], placed[0].flatten(1).T))
