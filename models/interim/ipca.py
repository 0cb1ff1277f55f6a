"""Network of the interim reader: IHC-prompted cross-attention (IPCA) on H&E, Eq. 1-7.

K_IHC, the prompts, are parameters of each block. The IHC branch shapes them in training; H&E
patches attend to the prompts themselves, not to what they became on an IHC slide, or inference
would need that slide (Eq. 6). The query of Eq. 1 is printed as X; the shapes say K.

Patches of both stains attend to the prompts by the same weights W (Eq. 5 and 6). Prompts begin with
a deviation of 1, as normalized tokens have. With 0.02, as class tokens often begin, they stay alike
in a short training: all patches get one update, and nothing that IHC taught.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.interim.attention import CrossAttention, Feedforward, hidden
from models.interim.pama import HePlaces, Nothing, PositionAwareBlock
from models.interim.shape import InterimShape


class HeBatch(NamedTuple):
    """H&E slides: `tokens` float32 (B, A, F) of the anchors, `patches` float32 (B, N, F)."""

    tokens: Tensor
    patches: Tensor
    places: HePlaces


class IhcBatch(NamedTuple):
    """IHC slides: `patches` float32 (B, N, F); `no_patch` bool (B, N) is true for padding."""

    patches: Tensor
    no_patch: Tensor


class InterimLogits(NamedTuple):
    """Logits of both class tokens, (B, classes); `ihc` is None where no IHC slide was given."""

    he: Tensor
    ihc: Tensor | None


class Prompted(nn.Module):
    """Update of the H&E patches by the prompts (Eq. 6)."""

    def __init__(self, prompts: nn.Parameter, width: int, heads: int) -> None:
        super().__init__()
        self.prompts = prompts
        self.attention = CrossAttention(width, heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the update (B, T, D) of normalized patches."""
        found: Tensor = self.attention(tokens, self.prompts)
        return found


class IhcBlock(nn.Module):
    """IHC patches through the prompts (Eq. 4-5); training alone uses it."""

    def __init__(self, he: Prompted, width: int, heads: int) -> None:
        super().__init__()
        self.prompts = he.prompts
        self.gather = CrossAttention(width, heads)
        self.spread = he.attention
        self.norm, self.mlp = nn.LayerNorm(width), Feedforward(width)

    def forward(self, patches: Tensor, no_patch: Tensor) -> Tensor:
        """Return patches (B, 1 + N, D) of the next block; `no_patch` is bool (B, 1 + N)."""
        tokens = self.norm(patches)
        kernel = self.gather(self.prompts, tokens, hidden(no_patch)[:, None, None])  # Eq. 4
        updated: Tensor = self.mlp(patches + self.spread(tokens, kernel))  # Eq. 5
        return updated


class InterimNetwork(nn.Module):
    """HER2 class of a slide from its H&E tiles; from its IHC tiles too, in training.

    The first linear layer, which brings an encoder's features to the width of the tokens, and the
    last LayerNorm are ours.
    """

    def __init__(self, shape: InterimShape) -> None:
        super().__init__()
        self.shape = shape
        width, heads = shape.width, shape.heads
        self.he_entry = nn.Linear(shape.features, width)
        self.he_class = nn.Parameter(torch.zeros(1, 1, width))
        self.he_blocks = nn.ModuleList([PositionAwareBlock(shape) for _ in range(shape.blocks)])
        self.he_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, shape.classes))
        prompts = [nn.Parameter(torch.empty(1, shape.prompts, width)) for _ in self.he_blocks]
        for each in prompts:
            nn.init.normal_(each)
        prompted = [Prompted(each, width, heads) for each in prompts] if shape.prompts else []
        self.prompted = nn.ModuleList(prompted or [Nothing() for _ in self.he_blocks])
        self.ihc_entry = nn.Linear(shape.features, width)
        self.ihc_class = nn.Parameter(torch.zeros(1, 1, width))
        self.ihc_blocks = nn.ModuleList([IhcBlock(each, width, heads) for each in prompted])
        self.ihc_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, shape.classes))

    def forward(
        self, he: HeBatch, ihc: IhcBatch | None = None, masked: Tensor | None = None
    ) -> InterimLogits:
        """Return the logits; those of H&E are the same with and without `ihc`.

        `masked` bool (B, A): anchors that the patches do not see (kernel masking); None: none.
        """
        anchors, patches = self._enter(he)
        if masked is None:
            masked = torch.zeros_like(he.places.no_anchor)
        for block, more in zip(self.he_blocks, self.prompted, strict=True):
            anchors, patches = block(anchors, patches, he.places, masked, more)
        logits = self.he_head(patches[:, 0])
        return InterimLogits(logits, None if ihc is None else self.read_ihc(ihc))

    def attention(self, he: HeBatch) -> Tensor:
        """Return the attention of the class token to the anchors in the last block, (B, A)."""
        anchors, patches = self._enter(he)
        masked = torch.zeros_like(he.places.no_anchor)
        *earlier, last = zip(self.he_blocks, self.prompted, strict=True)
        for block, more in earlier:
            anchors, patches = block(anchors, patches, he.places, masked, more)
        return cast(PositionAwareBlock, last[0]).class_weights(anchors, patches, he.places)

    def _enter(self, he: HeBatch) -> tuple[Tensor, Tensor]:
        patches = self.he_entry(he.patches)
        first = self.he_class.expand(len(patches), -1, -1)
        return self.he_entry(he.tokens), torch.cat((first, patches), dim=1)

    def read_ihc(self, ihc: IhcBatch) -> Tensor:
        """Return the logits (B, classes) of IHC slides, the proxy task."""
        patches = self.ihc_entry(ihc.patches)
        first = self.ihc_class.expand(len(patches), -1, -1)
        tokens = torch.cat((first, patches), dim=1)
        padded = torch.cat((torch.zeros_like(ihc.no_patch[:, :1]), ihc.no_patch), dim=1)
        for block in self.ihc_blocks:
            tokens = block(tokens, padded)
        logits: Tensor = self.ihc_head(tokens[:, 0])
        return logits
