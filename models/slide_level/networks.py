"""Networks that see a whole slide at low resolution (arXiv 2503.22069, approach 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.errors import ManifestError
from models.slide_level.convnext import ConvNext, ConvNextShape
from models.slide_level.densenet import DenseNet, DenseNetShape
from models.slide_level.shares import GRADES, Shares, SharesShape
from models.vit import VisionTransformer, VitShape

NETWORKS: dict[str, dict[str, Any]] = {
    "reference": {"kind": "shares"},
    "small-convnext": {
        "kind": "convnext",
        "depths": (1, 1, 1),
        "widths": (32, 64, 128),
        "patch_px": 8,
        "layer_scale": 0.1,
    },
    "convnext-s": {"kind": "convnext"},
    "resnet-50": {"kind": "resnet"},
    "densenet-201": {"kind": "densenet"},
    "vit-b": {"kind": "vit"},
}
"""Configurations by name; without numbers they have the paper's sizes."""
MEAN, STD = 0.10, 0.15
"""Mean and standard deviation of the optical density of a section's px, glass at 0."""


class SlideLogits(NamedTuple):
    """`logits` (N, classes)."""

    logits: Tensor


class SlideNetwork(nn.Module):
    """Optical density, a network's features, one linear layer."""

    def __init__(self, config: Mapping[str, Any], classes: int, px: int) -> None:
        super().__init__()
        self.body = _body(config, px)
        self.head = nn.Linear(self.body.width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, density: Tensor) -> SlideLogits:
        """Return logits of the optical density (N, 3, P, P) of sections, 0 for glass."""
        return SlideLogits(self.head(self.body(self._given(density))))

    def _given(self, density: Tensor) -> Tensor:
        return density if isinstance(self.body, Shares) else (density - MEAN) / STD

    def explained(self, density: Tensor, number: int) -> Tensor:
        """Return what speaks for a class place by place: (N, H, W), >= 0.

        Grad-CAM (Selvaraju et al., arXiv 1610.02391): the last features, weighted by the mean
        gradient of the class's logit, without negative values.

        Raises
        ------
        ManifestError
            If the network is no convolutional one.
        """
        if isinstance(self.body, _Vit):
            raise ManifestError("a vision transformer has no map of this kind")
        with torch.enable_grad():
            places = self.body.places(self._given(density)).detach().requires_grad_()
            logits = self.head(self.body.pooled(places))
            (slope,) = torch.autograd.grad(logits[:, number].sum(), places)
        weighted = slope.mean((2, 3), keepdim=True) * places.detach()
        if isinstance(self.body, Shares):  # the rest is of the whole section
            weighted = weighted[:, :GRADES]
        return weighted.sum(dim=1).clamp(min=0)


def density_of(pictures: Tensor) -> Tensor:
    """Return the optical density, float32 (N, 3, P, P), of uint8 (N, P, P, 3) with glass at 255."""
    light = pictures.permute(0, 3, 1, 2).float() / 255
    return -torch.log10(light.clamp(min=1 / 255))


class _ResNet(nn.Module):
    """ResNet-50 (He et al., arXiv 1512.03385) by transformers; its defaults are those sizes."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel  # costs seconds; others do without

        config = ResNetConfig(**numbers)
        self.network = ResNetModel(config)
        self.width = int(config.hidden_sizes[-1])

    def places(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.network(pixels).last_hidden_state
        return found

    def pooled(self, places: Tensor) -> Tensor:
        return places.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.pooled(self.places(pixels))


class _Vit(nn.Module):
    """Class token of a vision transformer (`models.vit`); its defaults are ViT-B/16."""

    def __init__(self, shape: VitShape, px: int) -> None:
        super().__init__()
        self.network = VisionTransformer(shape, px)
        self.width = shape.hidden_size

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.network(pixels)
        return tokens[:, 0]


def _body(config: Mapping[str, Any], px: int) -> ConvNext | DenseNet | Shares | _ResNet | _Vit:
    numbers: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    kind = numbers.pop("kind", None)
    try:
        match kind:
            case "convnext":
                return ConvNext(ConvNextShape(**numbers))
            case "densenet":
                return DenseNet(DenseNetShape(**numbers))
            case "resnet":
                return _ResNet(numbers)
            case "shares":
                return Shares(SharesShape(**numbers))
            case "vit":
                return _Vit(VitShape(**numbers), px)
    except TypeError as err:
        raise ManifestError(f"config of a {kind}: {err}") from err
    raise ManifestError(f"unknown network {kind!r}: convnext, densenet, resnet, shares, vit")
