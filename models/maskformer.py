"""Network M, second architecture: MaskFormer (Cheng et al., arXiv 2107.06278)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import MaskFormerConfig, MaskFormerForInstanceSegmentation, SwinConfig

from models.pixels import Pixels
from models.segformer import PixelLogits
from models.spec import ModelSpec


class MaskformerSegmenter(nn.Module):
    """transformers' MaskFormer over a Swin backbone, read out as a label map.

    Semantic inference of the paper: per pixel and class the sum over queries of class probability
    times mask probability, without "no object". Its logarithm serves as logit, so that the
    pixel-wise cross-entropy can train both segmenters; the paper's matching loss can train this one
    (`models.training.losses`).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.pixels = Pixels(spec)
        numbers = dict(spec.config)
        backbone = SwinConfig(
            image_size=spec.input_px,
            out_features=["stage1", "stage2", "stage3", "stage4"],
            **numbers.pop("backbone"),
        )
        config = MaskFormerConfig(backbone_config=backbone, num_labels=len(spec.classes), **numbers)
        self.body = MaskFormerForInstanceSegmentation(config)
        _begin_decoder(self.body.model.transformer_module)

    def forward(self, pixels: Tensor) -> PixelLogits:
        """Return logits of `pixels` (N, 3, T, T), 0-255."""
        out = self.body(self.pixels(pixels))
        classes = out.class_queries_logits.softmax(dim=-1)[..., :-1]  # (N, Q, K)
        masks = out.masks_queries_logits.sigmoid()  # (N, Q, P / 4, P / 4)
        seen = torch.einsum("nqk,nqhw->nkhw", classes, masks)  # (N, K, P / 4, P / 4)
        return PixelLogits(seen.clamp(min=1e-6).log())


def _begin_decoder(module: Any) -> None:
    """Give the decoder the chance weights of DETR's and MaskFormer's own code.

    These are Xavier's for all matrices, and a standard deviation of 1 for the queries. That of
    transformers is 0.02 for all: attention is flat then, and all queries give one answer, so that
    each pixel of a tile gets the same mixture of classes. Weights that are read replace them.
    """
    for weight in module.decoder.parameters():
        if weight.dim() > 1:
            nn.init.xavier_uniform_(weight)
    nn.init.normal_(module.queries_embedder.weight)
