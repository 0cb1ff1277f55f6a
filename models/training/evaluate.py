"""Evaluation of weights on generated tiles outside the training set; figures marked synthetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from models.datasets.generated_tiles import Tiles
from models.datasets.progress import Progress
from models.evaluation.confusion import classification_figures, confusion, segmentation_figures
from models.spec import ModelSpec, Task
from models.training.material import Examples, judged_tiles


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


def judge(
    spec: ModelSpec, network: nn.Module, tiles: Tiles, device: str, progress: Progress = _silent
) -> dict[str, Any]:
    """Figures of a network on generated tiles; networks of IHC are judged on tumor tiles only."""
    return judge_examples(spec, network, judged_tiles(spec.task, tiles), device, progress)


def judge_examples(
    spec: ModelSpec,
    network: nn.Module,
    examples: Examples,
    device: str,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """Figures of a network on the examples of its task."""
    chosen = examples.chosen
    matrix = np.zeros((len(spec.classes), len(spec.classes)), dtype=np.int64)
    network.eval()
    for start in range(0, len(chosen), 16):
        batch = chosen[start : start + 16]
        pixels = torch.from_numpy(examples.images[batch]).to(device).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = network(pixels).logits.argmax(dim=1).cpu().numpy()
        matrix += confusion(examples.labels[batch], found, len(spec.classes))
        progress("judging", min(start + 16, len(chosen)), len(chosen))
    if spec.task is Task.SEGMENTATION:
        return segmentation_figures(matrix, spec.classes)
    return classification_figures(matrix, spec.classes)
