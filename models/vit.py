"""Networks C and L: a vision transformer over one tile (Dosovitskiy et al., arXiv 2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers import DEVIATION, Attention, draw_weights, shape_of
from models.pixels import Pixels
from models.spec import ModelSpec


class TileLogits(NamedTuple):
    """`logits` (N, classes)."""

    logits: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape:
    """`config` of a manifest; names and defaults are those of transformers' ViTConfig."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    patch_size: int = 16
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0


class VitClassifier(nn.Module):
    """Vision transformer; class token into one linear layer, as in arXiv 2512.22335."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        shape = shape_of(VitShape, spec)
        self.pixels = Pixels(spec)
        self.body = VisionTransformer(shape, spec.input_px)
        self.head = nn.Linear(shape.hidden_size, len(spec.classes))

    def forward(self, pixels: Tensor) -> TileLogits:
        """Return logits of `pixels` (N, 3, T, T), 0-255."""
        tokens = self.body(self.pixels(pixels))
        return TileLogits(self.head(tokens[:, 0]))  # (N, K)


class VisionTransformer(nn.Module):
    """Tokens of the patches of an image, the class token first (arXiv 2010.11929, Eq. 1-4)."""

    def __init__(self, shape: VitShape, input_px: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape, input_px)
        self.layers = nn.ModuleList([_Layer(shape) for _ in range(shape.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        draw_weights(self)

    def forward(self, pixels: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """Return tokens (N, 1 + patches, D) of `pixels` (N, 3, P, P).

        `kept` gets the attention of each layer, (N, heads, 1 + patches, 1 + patches).
        """
        tokens = self.embeddings(pixels)
        for layer in self.layers:
            tokens = layer(tokens, kept)
        normal: Tensor = self.layernorm(tokens)
        return normal


class _Embeddings(nn.Module):
    """Patches as tokens, with their places, and the class token."""

    def __init__(self, shape: VitShape, input_px: int) -> None:
        super().__init__()
        patch, width = shape.patch_size, shape.hidden_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.empty(1, 1 + (input_px // patch) ** 2, width))
        for drawn in (self.position_embeddings, self.cls_token):
            nn.init.trunc_normal_(drawn, std=DEVIATION)
        projection = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(pixels.shape[0], -1, -1)
        placed = torch.cat((first, patches), dim=1) + self.position_embeddings
        tokens: Tensor = self.dropout(placed)
        return tokens


class _Layer(nn.Module):
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        width, inner = shape.hidden_size, shape.intermediate_size
        self.attention = Attention(
            width,
            shape.num_attention_heads,
            bias=shape.qkv_bias,
            dropout=shape.attention_probs_dropout_prob,
        )
        self.layernorm_before = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, tokens: Tensor, kept: list[Tensor] | None) -> Tensor:
        normal = self.layernorm_before(tokens)
        tokens = self.dropout(self.attention(normal, normal, kept)) + tokens
        inner = functional.gelu(self.mlp["fc1"](self.layernorm_after(tokens)))
        changed: Tensor = self.dropout(self.mlp["fc2"](inner)) + tokens
        return changed
