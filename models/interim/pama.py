"""Position-aware cross-attention (PACA), the block of PAMA: H&E patches and anchors (Eq. 1-3).

Added by us, and in no equation: residual connections, and LayerNorm before each attention and
perceptron. The paper prints LayerNorm and MLP for the anchors alone. Without a residual connection
a patch would be nothing but a mean of anchors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.interim.attention import CrossAttention, Feedforward, hidden
from models.interim.shape import InterimShape


class HePlaces(NamedTuple):
    """Geometry of a batch of H&E slides, padded to A anchors and N patches.

    `distance`, `angle` int64 (B, A, N); `no_anchor` bool (B, A) and `no_patch` bool (B, N) are true
    for padding.
    """

    distance: Tensor
    angle: Tensor
    no_anchor: Tensor
    no_patch: Tensor


class PositionAwareBlock(nn.Module):
    """Anchors collect from the patches, then patches from the anchors, by their relative places.

    Patches see the anchors as Eq. 1 made them, as the paper has it. If they saw the anchors of the
    block before, prompts of the last two blocks would not reach the class token by any patch.

    The class token stands before the patches. It has no place: its distance and its angle are
    steps of their own.
    """

    def __init__(self, shape: InterimShape) -> None:
        super().__init__()
        self.distance = nn.Embedding(shape.distance_bins + 1, shape.heads)
        self.angle = nn.Embedding(shape.angle_bins + 1, shape.heads)
        for embedding in (self.distance, self.angle):
            nn.init.zeros_(embedding.weight)
        self.of_class = (shape.distance_bins, shape.angle_bins)
        self.gather = CrossAttention(shape.width, shape.heads)
        self.spread = CrossAttention(shape.width, shape.heads)
        self.anchor_norm, self.patch_norm = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.kernel_norm = nn.LayerNorm(shape.width)
        self.anchor_mlp, self.patch_mlp = Feedforward(shape.width), Feedforward(shape.width)

    def forward(
        self, anchors: Tensor, patches: Tensor, places: HePlaces, masked: Tensor, more: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Return anchors (B, A, D) and patches (B, 1 + N, D) of the next block.

        `masked` bool (B, A): anchors that patches do not see. `more` gives what is added to the
        update of the normalized patches (Eq. 7).
        """
        terms, tokens = self._terms(places), self.patch_norm(patches)
        anchors = self._gathered(anchors, tokens, terms, places)
        unseen = hidden(masked | places.no_anchor)[:, None, None]
        kernel = self.kernel_norm(anchors)
        spread = self.spread(tokens, kernel, terms.transpose(2, 3) + unseen)  # Eq. 3
        return anchors, self.patch_mlp(patches + spread + more(tokens))

    def class_weights(self, anchors: Tensor, patches: Tensor, places: HePlaces) -> Tensor:
        """Return the attention of the class token to the anchors, (B, A); each row sums to 1."""
        terms, tokens = self._terms(places), self.patch_norm(patches)
        kernel = self.kernel_norm(self._gathered(anchors, tokens, terms, places))
        unseen = hidden(places.no_anchor)[:, None, None]
        of_class = terms.transpose(2, 3)[:, :, :1] + unseen
        found: Tensor = self.spread.weights(tokens[:, :1], kernel, of_class)[:, 0]
        return found

    def _gathered(self, anchors: Tensor, tokens: Tensor, terms: Tensor, places: HePlaces) -> Tensor:
        """Return anchors (B, A, D) after they collected from normalized patches (Eq. 1)."""
        found = self.gather(self.anchor_norm(anchors), tokens, terms + _no_patch(places))
        updated: Tensor = self.anchor_mlp(anchors + found)
        return updated

    def _terms(self, places: HePlaces) -> Tensor:
        """Φ = φ_d(D) + φ_p(P) (Eq. 2): (B, heads, A, 1 + N)."""
        parts = []
        for embedding, steps, own in zip(
            (self.distance, self.angle), (places.distance, places.angle), self.of_class, strict=True
        ):
            first = torch.full_like(steps[..., :1], own)
            parts.append(embedding(torch.cat((first, steps), dim=-1)))
        total: Tensor = (parts[0] + parts[1]).permute(0, 3, 1, 2)
        return total


class Nothing(nn.Module):
    """No update by prompts: a network with this alone is PAMA."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return zeros of the shape of `tokens`."""
        return torch.zeros_like(tokens)


def _no_patch(places: HePlaces) -> Tensor:
    padded = torch.cat((torch.zeros_like(places.no_patch[:, :1]), places.no_patch), dim=1)
    return hidden(padded)[:, None, None]
