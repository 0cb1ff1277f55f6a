"""Export of a classifier for other tools: TorchScript without transformers and Tandem."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.build import build
from models.spec import ModelSpec


class _Portable(nn.Module):
    """The network for input of other tools: tiles already resized, 0-1."""

    offsets: Tensor

    def __init__(self, spec: ModelSpec, network: nn.Module) -> None:
        super().__init__()
        self.network = build(replace(spec, tile_px=spec.input_px))  # equal sizes: no resize
        self.network.load_state_dict(network.state_dict())
        self.temperature = spec.temperature
        self.scale = 1.0 if spec.site is None else spec.site.scale
        offsets = (0.0,) * len(spec.classes) if spec.site is None else spec.site.offsets
        self.register_buffer("offsets", torch.tensor(offsets))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels * 255).logits
        return self.scale * (logits.float() / self.temperature) + self.offsets


def save_torchscript(
    path: Path, spec: ModelSpec, network: nn.Module, device: str, *, half: bool
) -> None:
    """Write `network` (C or L) to `path`.

    Input: RGB float32 (N, 3, P, P), 0-1, P = `spec.input_px`. Output: calibrated logits float32
    (N, classes). `half` traces bfloat16 arithmetic into the file, as autocast chooses it for
    `device`, so that tools that know only float32 run it too.
    """
    portable = _Portable(spec, network).eval().to(device)
    example = torch.rand(2, 3, spec.input_px, spec.input_px, device=device)
    with (
        torch.no_grad(),
        # No cache: tracing would store the cached, cast weights as constants.
        torch.autocast(device, dtype=torch.bfloat16, enabled=half, cache_enabled=False),
        warnings.catch_warnings(),
    ):
        # Tracing warns of sizes that become constants. The spec fixes them.
        warnings.simplefilter("ignore")
        torch.jit.trace(portable, example, check_trace=False).save(path)
