"""Judge weights on generated tiles that never trained them. Synthetic figures, and called so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from models.evaluation.figures import classification_figures, confusion, segmentation_figures
from models.spec import ModelSpec, Task
from models.training.data import Progress, Tiles

FIRST_HELD_OUT_SEED = 900_000_000
"""Training never draws seeds from here on."""


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


def judge(
    spec: ModelSpec, network: nn.Module, tiles: Tiles, device: str, progress: Progress = _silent
) -> dict[str, Any]:
    """Figures of a network on tiles; the intensity task is judged on tumor tiles only."""
    chosen = np.flatnonzero(tiles.tumor) if spec.task is Task.INTENSITY else np.arange(len(tiles))
    images = tiles.he if spec.task is Task.TUMOR else tiles.ihc
    matrix = np.zeros((len(spec.classes), len(spec.classes)), dtype=np.int64)
    network.eval()
    for start in range(0, len(chosen), 16):
        batch = chosen[start : start + 16]
        pixels = torch.from_numpy(images[batch]).to(device).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = network(pixels).logits.argmax(dim=1).cpu().numpy()
        truth = {
            Task.TUMOR: tiles.tumor,
            Task.INTENSITY: tiles.intensity,
            Task.SEGMENTATION: tiles.classes,
        }[spec.task][batch]
        matrix += confusion(truth, found, len(spec.classes))
        progress("judging", min(start + 16, len(chosen)), len(chosen))
    if spec.task is Task.SEGMENTATION:
        return segmentation_figures(matrix, spec.classes)
    return classification_figures(matrix, spec.classes)
