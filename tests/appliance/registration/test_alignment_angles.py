"""Alignment of two differently stained phantoms, turned by known angles; no generator needed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.geometry import Affine
from appliance.registration.alignment import Alignment, align
from appliance.settings.scoring import Review
from appliance.slides.tissue import find_tissue

MPP = 4.0
ROWS, COLUMNS = 600, 800
Raster = NDArray[np.float32]


def blurred(rng: np.random.Generator, sigma: float) -> Raster:
    field = cv2.GaussianBlur(rng.standard_normal((ROWS, COLUMNS)), (0, 0), sigma)
    return np.asarray(field / field.std(), dtype=np.float32)


def layers(seed: int) -> tuple[Raster, Raster, Raster]:
    """Optical density of haematoxylin, eosin and DAB of one section."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    radius = np.hypot((x - COLUMNS / 2) / (0.34 * COLUMNS), (y - ROWS / 2) / (0.34 * ROWS))
    tissue = (1 - radius + 0.25 * blurred(rng, 50) > 0).astype(np.float32)
    nests = cv2.GaussianBlur((blurred(rng, 8) > 0.6).astype(np.float32), (0, 0), 1)
    blue = tissue * np.clip(0.12 + 0.25 * nests + 0.05 * blurred(rng, 1.5), 0.01, None)
    pink = tissue * np.clip(0.25 - 0.15 * nests + 0.05 * blurred(rng, 5), 0, None)
    brown = tissue * nests * 0.4 * np.clip(0.6 + 0.5 * blurred(rng, 40), 0, None)
    return tuple(np.asarray(a, dtype=np.float32) for a in (blue, pink, brown))  # type: ignore[return-value]


def paint(blue: Raster, other: Raster, color: tuple[float, float, float]) -> NDArray[np.uint8]:
    density = blue[..., None] * np.array([1.2, 1.3, 0.5]) + other[..., None] * np.array(color)
    noise = np.random.default_rng(0).normal(0, 2, density.shape)
    return np.clip(242 * 10**-density + noise, 0, 255).astype(np.uint8)


def aligned(he_seed: int, ihc_seed: int, truth: Affine) -> Alignment:
    blue, pink, _ = layers(he_seed)
    he = paint(blue, pink, (0.1, 1.6, 0.2))
    blue, _, brown = (
        cv2.warpAffine(a, truth.to_raster(MPP, MPP), (COLUMNS, ROWS)) for a in layers(ihc_seed)
    )
    cv2.circle(brown, (60, 60), 40, 0.6, -1)  # control tissue, on the IHC slide alone
    ihc = paint(0.6 * blue, brown, (0.5, 1.1, 1.4))
    return align(he, find_tissue(he, MPP), ihc, find_tissue(ihc, MPP), MPP)


def turn(degrees: float, scale: float = 1.0) -> Affine:
    center = np.array([COLUMNS, ROWS]) * MPP / 2
    a, b, c, d = (scale * v for v in Affine.rotation(degrees, (0.0, 0.0)).matrix)
    shift = center + np.array([70.0, -50.0]) - np.array([[a, b], [c, d]]) @ center
    return Affine((a, b, c, d), (float(shift[0]), float(shift[1])))


@pytest.mark.parametrize(
    ("degrees", "scale"), [(0, 1.0), (90, 1.0), (-90, 1.0), (180, 1.0), (37, 0.97), (-143, 1.03)]
)
def test_any_turn_is_found(degrees: float, scale: float) -> None:
    truth = turn(degrees, scale)
    found = aligned(3, 3, truth)
    x = np.linspace(0.3, 0.7, 9) * COLUMNS * MPP
    y = np.linspace(0.3, 0.7, 9) * ROWS * MPP
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    error = np.linalg.norm(found.mapping.forward(points) - truth.apply(points), axis=-1)
    assert np.median(error) < 20
    assert found.error_um < 20
    assert found.overlap > 0.85


def test_a_section_that_lies_face_down_is_found_and_said() -> None:
    flip = Affine((-1.0, 0.0, 0.0, 1.0), (COLUMNS * MPP, 0.0))
    truth = turn(37).after(flip)
    found = aligned(3, 3, truth)
    assert found.mirrored
    points = np.array([[1200.0, 900.0], [1800.0, 1500.0], [1600.0, 1100.0]])
    assert np.linalg.norm(found.mapping.forward(points) - truth.apply(points), axis=1).max() < 20


def test_unrelated_tissue_is_far_worse_than_any_true_pair() -> None:
    assert aligned(3, 4, turn(30)).agreement < 0.5 * Review().min_agreement
    assert aligned(3, 3, turn(30)).agreement > 2 * Review().min_agreement
