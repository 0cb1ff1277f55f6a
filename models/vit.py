"""Networks C and L: a vision transformer over one tile (Dosovitskiy et al., arXiv 2010.11929)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from models.pixels import Pixels
from models.spec import ModelSpec


class TileLogits(NamedTuple):
    """`logits` (N, classes)."""

    logits: Tensor


class VitClassifier(nn.Module):
    """transformers' ViT; class token into one linear layer, as in arXiv 2512.22335."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)
        config = ViTConfig(image_size=spec.input_px, **spec.config)
        config._attn_implementation = "sdpa"
        self.body = ViTModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, len(spec.classes))

    def forward(self, pixels: Tensor) -> TileLogits:
        """Return logits of `pixels` (N, 3, T, T), 0-255."""
        tokens = self.body(self.pixels(pixels)).last_hidden_state  # (N, 1 + patches, D)
        return TileLogits(self.head(tokens[:, 0]))  # (N, K)
