"""Augmentation of whole sections: flips, rotations, affine changes (arXiv 2503.22069)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SCALE = (0.85, 1.15)
SHEAR = 0.12
SHIFT = 0.05
"""Largest shift, by the picture's edge."""


def augmented(
    density: Tensor,
    rng: np.random.Generator,
    outside: Literal["zeros", "reflection"] = "zeros",
) -> Tensor:
    """Return sections turned by any angle, flipped, scaled, sheared and shifted.

    `density` (N, 3, P, P) is optical density. What comes in at the edges of a section is glass, 0;
    a patch of tissue is reflected there.
    """
    n = len(density)
    turn = rng.uniform(0, 2 * np.pi, n)
    c, s = np.cos(turn), np.sin(turn)
    linear = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], axis=1)  # (N, 2, 2)
    flip = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    shear = np.tile(np.eye(2), (n, 1, 1))
    shear[:, 0, 0] = flip
    shear[:, 0, 1] = rng.uniform(-SHEAR, SHEAR, n)
    linear = linear @ shear / rng.uniform(*SCALE, (n, 1, 1))
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (n, 2, 1))
    theta = torch.from_numpy(np.concatenate([linear, shift], axis=2).astype(np.float32))
    grid = functional.affine_grid(
        theta.to(density.device), list(density.shape), align_corners=False
    )
    return functional.grid_sample(density, grid, padding_mode=outside, align_corners=False)
