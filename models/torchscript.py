"""A classifier as a file that other tools run: TorchScript, free of transformers and of Tandem."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.build import build
from models.spec import ModelSpec


class _Portable(nn.Module):
    """The same weights for tiles as other tools bring them: resized, 0-1."""

    def __init__(self, spec: ModelSpec, network: nn.Module) -> None:
        super().__init__()
        self.network = build(replace(spec, tile_px=spec.input_px))  # which resizes nothing
        self.network.load_state_dict(network.state_dict())
        self.temperature = spec.temperature

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels * 255).logits
        return logits.float() / self.temperature


def save_torchscript(
    path: Path, spec: ModelSpec, network: nn.Module, device: str, *, half: bool
) -> None:
    """Write `network` (C or L) to `path`: RGB float32 (N, 3, P, P), 0-1, `spec.input_px` wide, to
    calibrated logits float32 (N, classes).

    `half` writes bfloat16 arithmetic into the file itself, as autocast chooses it for `device`, so
    that a tool which knows float32 alone runs it too.
    """
    portable = _Portable(spec, network).eval().to(device)
    example = torch.rand(2, 3, spec.input_px, spec.input_px, device=device)
    with (
        torch.no_grad(),
        # Without its cache: cast weights that it keeps would be written as constants.
        torch.autocast(device, dtype=torch.bfloat16, enabled=half, cache_enabled=False),
        warnings.catch_warnings(),
    ):
        # Of transformers: sizes it checks, which are the same for each batch, and old properties,
        # which the tracer looks at.
        warnings.simplefilter("ignore")
        torch.jit.trace(portable, example, check_trace=False).save(path)
