"""Parts of vision transformers: attention, the beginning of weights, shapes from a manifest.

Names of parameters are those of transformers 5, so that its checkpoints begin a training and
weights of earlier editions load. That library is not imported to read a slide: importing it costs
a process some three seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from models.errors import ManifestError
from models.spec import ModelSpec

Shape = TypeVar("Shape")
DEVIATION = 0.02
"""Standard deviation of weights before training (arXiv 2010.11929, and transformers)."""


def shape_of(kind: Callable[..., Shape], spec: ModelSpec) -> Shape:
    """Return the numbers of a network, `kind`, from `spec.config`.

    Raises
    ------
    ManifestError
        If a key of it is unknown.
    """
    try:
        return kind(**spec.config)
    except TypeError as err:
        raise ManifestError(f"{spec.name}: config of a {spec.architecture}: {err}") from err


def draw_weights(network: nn.Module) -> None:
    """Draw the weights of a network that was never trained: normal, biases 0."""
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.normal_(part.weight, std=DEVIATION)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class Attention(nn.Module):
    """Attention of tokens (N, T, D) with `heads` heads (arXiv 1706.03762, Eq. 1).

    Raises
    ------
    ManifestError
        If the heads do not divide the width D.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ManifestError(f"{heads} attention heads cannot share {width} features evenly.")
        self.heads, self.dropout = heads, dropout
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.o_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """Return (N, T, D): what `tokens` find in `context` (N, S, D).

        `kept` gets the weights after the softmax, (N, heads, T, S). The fused kernel that is used
        otherwise computes none.
        """
        query = self._by_head(self.q_proj(tokens))
        key, value = self._by_head(self.k_proj(context)), self._by_head(self.v_proj(context))
        if kept is None:
            lost = self.dropout if self.training else 0.0
            found = functional.scaled_dot_product_attention(query, key, value, dropout_p=lost)
        else:
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            weights = scores.softmax(dim=-1)
            kept.append(weights)
            found = weights @ value
        answer: Tensor = self.o_proj(found.transpose(1, 2).flatten(2))
        return answer

    def _by_head(self, tokens: Tensor) -> Tensor:
        """Turn (N, T, D) into (N, heads, T, D / heads)."""
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1))  # (N, T, heads, D / heads)
        return heads.transpose(1, 2)
