"""Calibration by temperature scaling (Guo et al., arXiv 1706.04599).

One number divides the logits. Answers stay the same; only their probabilities change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.errors import DataSetError
from models.spec import ModelSpec

MAX_TEMPERATURE = 20.0
TOLERANCE = 1e-5
"""Width of the interval of the logarithm of the temperature at the end of the search."""
STARTS = 25
"""Points at which the search is verified, from the least to the largest temperature."""
BATCH = 16
SHARPER_SPREAD = 0.3
"""Standard deviation of the normal penalty on the logarithm of a temperature below 1: a few tiles
that are all right would ask for any. A network that is too sure is believed at once."""
PIXEL_STEP = 8
"""Step in px, in both directions, between the px of M's label map in the fit; neighbors agree."""


def with_calibration(
    spec: ModelSpec,
    network: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    device: str,
) -> ModelSpec:
    """Return the spec with the temperature of least negative log-likelihood of `labels`, held near
    1 from below by `SHARPER_SPREAD`.

    `images` uint8 (N, T, T, 3), glass at 255, not used in training; `labels` (N,) classes of tiles,
    or (N, h, w) label maps at the resolution of the network's answer.

    Raises
    ------
    DataSetError
        If there are no tiles.
    """
    if len(images) == 0:
        raise DataSetError("no tiles to calibrate on: take more, or another seed.")
    logits, truth = _answers(network, images, labels, device)

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(logits / np.exp(log_temperature), truth))

    def held(log_temperature: float) -> float:
        sharper = min(log_temperature, 0.0) / SHARPER_SPREAD
        return loss(log_temperature) + sharper**2 / (2 * len(images))

    bound = float(np.log(MAX_TEMPERATURE))
    best = lowest(held, -bound, bound)
    facts = {
        "tiles": len(images),
        "nll_before": round(loss(0.0), 4),
        "nll": round(loss(best), 4),
    }
    return replace(
        spec,
        temperature=round(float(np.exp(best)), 4),
        trained=spec.trained | {"calibration": facts},
    )


def lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function is lowest, to `TOLERANCE`: golden-section search.

    The likelihood has one valley, as it is convex in the inverse temperature. With the penalty it
    may have two: where one of `STARTS` points is lower than what was found, the search is around
    that point.
    """
    found = _in_valley(function, low, high)
    starts, step = np.linspace(low, high, STARTS, retstep=True)
    best = min((float(start) for start in starts), key=function)
    if function(best) < function(found):
        found = _in_valley(function, max(low, best - step), min(high, best + step))
    return found


def _in_valley(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is lowest."""
    golden = (5**0.5 - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > TOLERANCE:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _answers(
    network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.uint8], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float64 (n, classes) and labels int64 (n,), of tiles or of single px."""
    logits, truth = [], []
    network.eval()
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
        target = torch.from_numpy(labels[start : start + BATCH].astype(np.int64))
        with torch.inference_mode():
            answer: torch.Tensor = network(pixels.permute(0, 3, 1, 2)).logits
        if answer.ndim == 4:
            step = slice(PIXEL_STEP // 2, None, PIXEL_STEP)
            answer = answer[..., step, step].permute(0, 2, 3, 1).flatten(0, 2)
            target = target[:, step, step].flatten()
        logits.append(answer.double().cpu())
        truth.append(target)
    return torch.cat(logits), torch.cat(truth)
