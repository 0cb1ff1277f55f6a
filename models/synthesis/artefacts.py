"""Artefacts on a slide: folds, bubbles, pen, dust, defocus. Functions from pixels to pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.fields import Array

Pixels = NDArray[np.uint8]
White = tuple[int, int, int]

CHANCES = {"fold": 0.04, "bubble": 0.02, "pen": 0.02, "dust": 0.06, "defocus": 0.06}
"""Probability of each artefact on a tile."""


def random_artefacts(pixels: Pixels, white: White, rng: np.random.Generator) -> Pixels:
    """Apply each artefact with its probability to a tile, uint8 RGB; `white` is the glass."""
    for name, chance in CHANCES.items():
        if rng.random() < chance:
            pixels = _ARTEFACTS[name](pixels, white, rng)
    return pixels


def fold(pixels: Pixels, white: White, rng: np.random.Generator) -> Pixels:
    """Add two or three layers of tissue along a wavy band: a multiple of the optical density."""
    distance = _line(pixels.shape[:2], rng)
    layers = 1 + rng.uniform(0.7, 1.6) * np.exp(-((distance / rng.uniform(8, 40)) ** 4))
    glass = np.asarray(white, dtype=np.float32)
    light = np.clip(pixels / glass, 1 / 255, 1) ** layers[..., None]
    return _bytes(light * glass)


def bubble(pixels: Pixels, white: White, rng: np.random.Generator) -> Pixels:
    """Add an air bubble under the cover slip: a dark edge with a bright line, dull inside."""
    rows, columns = pixels.shape[:2]
    center = rng.uniform(-0.2, 1.2, 2) * (columns, rows)
    radius = rng.uniform(0.2, 0.9) * columns
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    d = np.hypot(x - center[0], y - center[1]) - radius
    dull = cv2.GaussianBlur(pixels, (0, 0), 2.5)
    mixed = np.where((d < 0)[..., None], dull * 0.9 + 0.08 * np.asarray(white), pixels)
    edge = 1 - 0.75 * np.exp(-((d / 4) ** 2)) + 0.2 * np.exp(-(((d + 9) / 4) ** 2))
    return _bytes(mixed * edge[..., None])


def pen(pixels: Pixels, white: White, rng: np.random.Generator) -> Pixels:
    """Add a marker's stroke over the tissue: blue, green, black or red."""
    ink = np.array([(30, 60, 170), (20, 120, 70), (30, 30, 35), (190, 30, 40)])[rng.integers(4)]
    stroke = np.exp(-((_line(pixels.shape[:2], rng) / rng.uniform(20, 90)) ** 6))
    through = 1 - stroke[..., None] * rng.uniform(0.5, 0.95) * (1 - ink / 255.0)
    return _bytes(pixels * through)


def dust(pixels: Pixels, white: White, rng: np.random.Generator) -> Pixels:
    """Add specks on the glass: dark, slightly out of focus."""
    layer = np.zeros(pixels.shape[:2], dtype=np.float32)
    for _ in range(int(rng.integers(1, 12))):
        at = rng.integers(0, pixels.shape[0], 2).tolist()
        axes = rng.integers(1, 9, 2).tolist()
        cv2.ellipse(layer, at, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    layer = cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(0.8, 3)))
    return _bytes(pixels * (1 - 0.8 * layer[..., None]))


def defocus(pixels: Pixels, white: White, rng: np.random.Generator) -> Pixels:
    """Blur the tile as at some µm out of focus."""
    blurred: Pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(1.5, 4.0)))
    return blurred


_ARTEFACTS = {"fold": fold, "bubble": bubble, "pen": pen, "dust": dust, "defocus": defocus}


def _line(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Distance in px to a wavy line through the tile."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = c * x + s * y, c * y - s * x
    offset = rng.uniform(0.2, 0.8) * (c * shape[0] - s * shape[1]) + 12 * np.sin(along / 60)
    distance: Array = (across - offset).astype(np.float32)
    return distance


def _bytes(light: NDArray[np.floating]) -> Pixels:
    clipped: Pixels = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    return clipped
