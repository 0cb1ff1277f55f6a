"""The torch door: the only file of the appliance that imports torch.

uint8 tiles in, numpy out. Device, precision and weights are decided here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.spec import ModelSpec
from models.weights import load_network

Device = Literal["auto", "cpu", "cuda"]


def pick_device(wanted: Device) -> str:
    """``auto`` takes the GPU where there is one."""
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


class Network:
    """A set of weights on a device, ready to answer.

    Raises
    ------
    models.errors.ManifestError
        If the weights are missing or are not those of their manifest.
    """

    def __init__(self, folder: Path, device: Device = "auto") -> None:
        self.device = pick_device(device)
        spec, module = load_network(folder, self.device)
        self.spec: ModelSpec = spec
        self._module = module
        # bf16 only where the silicon has it: emulated, it is slower than float32.
        self._half = self.device == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)

    def _logits(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        pixels = torch.from_numpy(tiles).to(self.device, non_blocking=True)
        pixels = pixels.permute(0, 3, 1, 2)  # (N, 3, T, T)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, dtype=torch.bfloat16, enabled=self._half),
        ):
            logits: torch.Tensor = self._module(pixels).logits
        return logits.float() / self.spec.temperature

    def classify(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, shape (N, classes), of tiles uint8 (N, T, T, 3), glass at 255."""
        probabilities: NDArray[np.float32] = self._logits(tiles).softmax(dim=1).cpu().numpy()
        return probabilities

    def segment(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label maps, shape (N, h, w), values 0..classes-1, covering the whole tile each."""
        labels: NDArray[np.uint8] = self._logits(tiles).argmax(dim=1).to(torch.uint8).cpu().numpy()
        return labels
