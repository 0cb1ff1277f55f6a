"""A network compiled by OpenVINO for this CPU: the same layers in another order of arithmetic."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spec import ModelSpec

AT_ONCE = 4
"""Tiles in one pass: OpenVINO is much faster where their number is fixed."""


class CompiledLogits(NamedTuple):
    """`logits` as the network's own."""

    logits: Tensor


class CompiledNetwork(nn.Module):
    """Stands in for a network in evaluation mode; any number of threads may ask at once.

    What comes before the layers (resize, density, normalise) stays torch's.
    """

    pixels: nn.Module

    def __init__(self, spec: ModelSpec, network: Any, *, lanes: int, half: bool) -> None:
        """`lanes` threads will ask; `half`: bfloat16, which pays where the CPU has it."""
        super().__init__()
        self.pixels = network.pixels
        core, model = _converted(network, torch.zeros(1, 3, spec.input_px, spec.input_px))
        model.reshape([AT_ONCE, 3, spec.input_px, spec.input_px])
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
                "NUM_STREAMS": lanes,
                "INFERENCE_NUM_THREADS": lanes * torch.get_num_threads(),
            },
        )
        self._own = threading.local()

    def forward(self, pixels: Tensor) -> CompiledLogits:
        """`pixels` (N, 3, T, T), 0-255."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        seen = self.pixels(pixels)
        passes = []
        for some in seen.split(AT_ONCE):
            missing = AT_ONCE - len(some)
            whole = functional.pad(some, (0, 0, 0, 0, 0, 0, 0, missing)).contiguous()
            answer = self._own.request.infer([whole.numpy()])[0]
            passes.append(torch.from_numpy(answer)[: len(some)])
        return CompiledLogits(torch.cat(passes))


class _Layers(nn.Module):
    """A network without its `pixels`, answering with a plain tensor."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Tensor) -> Tensor:
        logits: Tensor = self.network(seen).logits
        return logits


def _converted(network: Any, example: Tensor) -> tuple[Any, Any]:
    # Importing OpenVINO tells its makers so over the network where this package is found: a
    # laboratory's appliance reports to nobody.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    pixels, network.pixels = network.pixels, nn.Identity()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Sizes become constants: they are those of the spec.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(_Layers(network), example, check_trace=False)
    finally:
        network.pixels = pixels
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # named: it has to outlive the conversion
    return openvino.Core(), frontend.convert(frontend.load(decoder))
