"""Augmentation of training tiles: turns, resolution, stains and camera.

Networks that learn from generated tissue must not rely on the colors and sharpness of the
generator. Tiles are changed in the space of stains (Tellez et al., Medical Image Analysis 58,
2019): the stains' colors turn, and their amounts change over the tile. L and M grade DAB, so its
amount changes least. C is changed little: it became worse on real images with what helps M
(docs/models.md).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN
from models.spec import Task

RESOLUTION_CHANCE = 0.4
ZOOM_CHANCE = 0.5
ZOOM = (0.8, 1.25)
STAIN_COLOR = {Task.TUMOR: 0.03, Task.INTENSITY: 0.07, Task.SEGMENTATION: 0.07}
"""Standard deviation that is added to each component of a stain's unit vector of density."""
STAIN_AMOUNT = {
    Task.TUMOR: (0.12, 0.12, 0.12),
    Task.INTENSITY: (0.25, 0.25, 0.08),
    Task.SEGMENTATION: (0.25, 0.25, 0.06),
}
"""Standard deviation of the logarithm of the amount of hematoxylin, eosin and DAB of a tile."""
UNEVEN = {Task.TUMOR: 0.0, Task.INTENSITY: 0.06, Task.SEGMENTATION: 0.10}
"""The same within a tile, smooth over a sixth of its edge."""
PALE_CHANCE = {Task.TUMOR: 0.0, Task.INTENSITY: 0.5, Task.SEGMENTATION: 0.5}
PALEST = {Task.TUMOR: 1.0, Task.INTENSITY: 0.2, Task.SEGMENTATION: 0.2}
"""Least share of a tile's optical density that remains, for a pale laboratory or scanner. L must
tell weak staining from strong staining shown weakly: by the counterstain, which is then pale too,
and by the membranes' completeness."""
BLACK_CHANCE = {Task.TUMOR: 0.0, Task.INTENSITY: 0.3, Task.SEGMENTATION: 0.3}
BLACK_LEVEL = 0.4
"""Most by which the black level rises, as a share of the range."""
NOISE_CHANCE = 0.5
NOISE = 6.0
"""Largest standard deviation of noise, of 255."""


def augment(
    pixels: Tensor, labels: Tensor, rng: np.random.Generator, task: Task
) -> tuple[Tensor, Tensor]:
    """Augment tiles; return them with their labels.

    `pixels` float (N, 3, H, W), 0-255 with glass at 255; `labels` (N,) or (N, h, w): maps turn with
    their tiles.
    """
    pixels, labels = _turned(pixels, labels, rng)
    if labels.ndim == 1 and rng.random() < ZOOM_CHANCE:
        pixels = _zoomed(pixels, rng)
    if rng.random() < RESOLUTION_CHANCE:
        pixels = _blurred(pixels, rng)
    pixels = _stained(pixels, rng, task)
    return _photographed(pixels, rng, task), labels


def _turned(pixels: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels = torch.rot90(pixels, turns, (2, 3))
    if labels.ndim == 3:
        labels = torch.rot90(labels, turns, (1, 2))
    if flip:
        pixels = pixels.flip(3)
        labels = labels.flip(2) if labels.ndim == 3 else labels
    return pixels, labels


def _zoomed(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Scale each tile about its center; what is missing at the edge is mirrored."""
    n = len(pixels)
    theta = np.zeros((n, 2, 3))
    theta[:, 0, 0] = theta[:, 1, 1] = rng.uniform(*ZOOM, n)
    grid = functional.affine_grid(_on(theta, pixels), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _blurred(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    size = pixels.shape[-1]
    coarse = int(size / rng.uniform(1.1, 2.0))
    small = functional.interpolate(pixels, (coarse, coarse), mode="bilinear", antialias=True)
    return functional.interpolate(small, (size, size), mode="bicubic").clamp(0, 255)


def _stained(pixels: Tensor, rng: np.random.Generator, task: Task) -> Tensor:
    """Change color and amount of hematoxylin, eosin and DAB (Beer-Lambert)."""
    n = len(pixels)
    basis = np.array([HEMATOXYLIN, EOSIN, DAB])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    turned = basis + rng.normal(0, STAIN_COLOR[task], (n, 3, 3))
    turned /= np.linalg.norm(turned, axis=2, keepdims=True)
    pale = rng.random((n, 1)) < PALE_CHANCE[task]
    left = np.where(pale, rng.uniform(PALEST[task], 1, (n, 1)), 1)
    amount = np.exp(rng.normal(0, 1, (n, 3)) * STAIN_AMOUNT[task]) * left
    uneven = _on(rng.normal(0, UNEVEN[task], (n, 3, 6, 6)), pixels)
    field = functional.interpolate(uneven, pixels.shape[-2:], mode="bicubic").exp()
    density = -torch.log10(pixels.clamp(1, 255) / 255)
    stains = torch.einsum("nchw,cs->nshw", density, _on(np.linalg.inv(basis), pixels))
    stains = stains * field * _on(amount, pixels)[:, :, None, None]
    density = torch.einsum("nshw,nsc->nchw", stains, _on(turned, pixels))
    return 255 * torch.pow(10.0, -density.clamp(min=0))


def _photographed(pixels: Tensor, rng: np.random.Generator, task: Task) -> Tensor:
    """Raise the black level, shift the colors by a little, add noise."""
    n = len(pixels)
    raised = rng.random((n, 1, 1, 1)) < BLACK_CHANCE[task]
    contrast = np.where(raised, rng.uniform(1 - BLACK_LEVEL, 1, (n, 1, 1, 1)), 1)
    pixels = 255 - (255 - pixels) * _on(contrast, pixels)
    pixels = pixels * _on(np.exp(rng.normal(0, 0.015, (n, 3, 1, 1))), pixels)
    noisy = (rng.random((n, 1, 1, 1)) < NOISE_CHANCE) * rng.uniform(0, NOISE, (n, 1, 1, 1))
    return (pixels + torch.randn_like(pixels) * _on(noisy, pixels)).clamp(0, 255)


def _on(values: NDArray[np.float64], like: Tensor) -> Tensor:
    """Return values as float32 on the device of `like`."""
    return torch.from_numpy(values.astype(np.float32)).to(like.device)
