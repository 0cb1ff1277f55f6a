"""Networks compiled by OpenVINO for this CPU: same layers, another order of arithmetic."""

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
"""Tiles per pass. OpenVINO is much faster with a fixed batch size."""


class CompiledLogits(NamedTuple):
    """`logits` of the same shape as the network's."""

    logits: Tensor


class CompiledNetwork(nn.Module):
    """Replacement for a network in evaluation mode. Threads may call it concurrently.

    The steps before the layers (resize, density, normalize) stay in torch.
    """

    pixels: nn.Module

    def __init__(self, spec: ModelSpec, network: Any, *, lanes: int, half: bool) -> None:
        """Compile for `lanes` concurrent threads; `half`: bfloat16, for CPUs that support it."""
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
        """Return logits of `pixels` (N, 3, T, T), 0-255."""
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
    """A network without its `pixels`; gives a plain tensor of logits."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Tensor) -> Tensor:
        logits: Tensor = self.network(seen).logits
        return logits


def _converted(network: Any, example: Tensor) -> tuple[Any, Any]:
    # OpenVINO reports each import to its makers if this package is installed. A laboratory's
    # appliance reports to nobody: block it.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    pixels, network.pixels = network.pixels, nn.Identity()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Tracing warns of sizes that become constants. The spec fixes them.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(_Layers(network), example, check_trace=False)
    finally:
        network.pixels = pixels
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # named: must outlive the conversion
    return openvino.Core(), frontend.convert(frontend.load(decoder))
