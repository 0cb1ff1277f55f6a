"""Cross-attention with an additive term, of which all equations of the paper are cases."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossAttention(nn.Module):
    """softmax((Q W_q (X W_k)ᵀ + Φ) / √d_e) X W_v, by heads; without Φ it is Eq. 4, 5 and 6.

    The paper writes the same W for all equations; here Eq. 5 and 6 share them, and the others have
    their own. The layer after the heads are joined is ours, as in arXiv 1706.03762.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.joined = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor, given: Tensor | None = None) -> Tensor:
        """Return (B, T, D): what `tokens` (B, T, D) find in `context` (B, S, D).

        One of the two may be (1, …), the same for the whole batch: it is projected once. `given` is
        Φ, (B, heads or 1, T, S); -inf where a token must not see the context's.
        """
        bias = None if given is None else given * self.scale
        batch = max(len(tokens), len(context))
        query, key, value = (
            self._by_head(part).expand(batch, -1, -1, -1)
            for part in (self.query(tokens), self.key(context), self.value(context))
        )
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        answer: Tensor = self.joined(found.transpose(1, 2).flatten(2))
        return answer

    def weights(self, tokens: Tensor, context: Tensor, given: Tensor) -> Tensor:
        """Return the attention of `tokens` to `context`, mean over the heads: (B, T, S)."""
        query, key = self._by_head(self.query(tokens)), self._by_head(self.key(context))
        scores = (query @ key.transpose(2, 3) + given) * self.scale
        mean: Tensor = scores.softmax(dim=-1).mean(dim=1)
        return mean

    def _by_head(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads


class Feedforward(nn.Module):
    """LayerNorm and a perceptron of one hidden layer, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (B, T, D)."""
        added: Tensor = self.outer(functional.gelu(self.inner(self.norm(tokens))))
        return tokens + added


def hidden(where: Tensor) -> Tensor:
    """Return a term Φ of -inf where `where` (bool) is true, else 0."""
    return torch.zeros_like(where, dtype=torch.float32).masked_fill(where, -torch.inf)
