"""Start poses of small tissue on the glass of a whole slide."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.geometry import Affine
from appliance.registration.picture import Array, Picture
from appliance.registration.rigid import find_poses, refined

MPP = 9.0
COLUMNS, ROWS = 4400, 2400
"""40 x 22 mm, as scanners of MRXS and SCN files keep it."""


def biopsy(seed: int) -> Picture:
    """Return tissue of about 1.3 x 0.9 mm on a picture of its own."""
    rng = np.random.default_rng(seed)
    shape = (150, 190)
    y, x = np.mgrid[: shape[0], : shape[1]]
    rim = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 12)
    mask = np.hypot((x - 95) / 80, (y - 75) / 55) + 2.5 * rim < 1
    fine = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 2)
    nuclei = np.clip(0.4 + 0.9 * fine, 0, 1).astype(np.float32)
    layers: Array = np.dstack([nuclei, np.ones_like(nuclei)]) * mask[..., None]
    return Picture(layers=layers.astype(np.float32), mask=mask, mpp=MPP)


def laid(tissue: Picture, degrees: float, at: tuple[float, float]) -> tuple[Picture, Affine]:
    """Lay tissue on the whole glass, turned about its middle, which comes to `at` (column, row).

    Returned is its pose, too, in µm.
    """
    rows, columns = tissue.mask.shape
    turn = cv2.getRotationMatrix2D((columns / 2 - 0.5, rows / 2 - 0.5), degrees, 1.0)
    turn[:, 2] += np.array(at) - (columns / 2 - 0.5, rows / 2 - 0.5)
    layers, mask = (
        cv2.warpAffine(layer, turn, (COLUMNS, ROWS))
        for layer in (tissue.layers, tissue.mask.astype(np.float32))
    )
    linear = turn[:, :2]
    shift = (turn[:, 2] - linear @ np.array([0.5, 0.5]) + 0.5) * MPP
    (a, b), (c, d) = linear.tolist()
    placed = replace(tissue, layers=layers, mask=mask > 0.5)
    return placed, Affine((a, b, c, d), (float(shift[0]), float(shift[1])))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_biopsy_is_found_on_the_glass_of_a_whole_slide(seed: int) -> None:
    tissue = biopsy(seed)
    moving, there = laid(tissue, 0, (1300, 1200))
    fixed, here = laid(tissue, 130, (3000, 1700))
    truth = here.after(there.inverse())
    places: NDArray[np.float64] = np.argwhere(moving.mask)[::53][:, ::-1] * MPP
    poses = find_poses(moving, fixed)
    off_um = [farthest(pose, truth, places) for pose in poses]
    assert min(off_um) < 20
    best = refined(moving, fixed, poses[int(np.argmin(off_um))])
    assert farthest(best, truth, places) < 10


def farthest(pose: Affine, truth: Affine, places: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(pose.apply(places) - truth.apply(places), axis=1).max())
