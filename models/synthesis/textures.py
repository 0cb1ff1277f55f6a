"""Fine textures of tissue: periodic noise; each world has its own place, turn and scale.

Units: a texture is 1,024 x 1,024 px at `TEXTURE_UM`, so its period is 512 µm before scaling.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

TEXTURE_UM = 0.5
SIDE = 1024

Array = NDArray[np.float32]


class Texture(IntEnum):
    """Textures with zero mean and unit variance, except `WALLS`: 0-1."""

    CHROMATIN = 0  #: clumps within nuclei
    FIBERS = 1  #: fine collagen
    BUNDLES = 2  #: coarse collagen, with cracks between
    GRAIN = 3  #: cytoplasm
    GAPS = 4  #: unstained parts of membranes
    CLOUDS = 5  #: uneven thickness and haze
    SPECKS = 6  #: debris, granules
    WALLS = 7  #: walls of fat cells


_SIGMAS = {
    Texture.CHROMATIN: (1.5, 1.5),
    Texture.FIBERS: (14.0, 1.2),
    Texture.BUNDLES: (34.0, 4.0),
    Texture.GRAIN: (1.1, 1.1),
    Texture.GAPS: (4.5, 4.5),
    Texture.CLOUDS: (40.0, 40.0),
    Texture.SPECKS: (2.6, 2.6),
}
_WAVES = {Texture.FIBERS: (38.0, 22.0), Texture.BUNDLES: (70.0, 45.0)}
"""Waves of fibers: feature size and height of the bends, px."""


@lru_cache(maxsize=len(Texture))
def texture(which: Texture) -> Array:
    """Return the texture, float32 (1024, 1024); it is periodic."""
    rng = np.random.default_rng([0x7E, which])
    if which is Texture.WALLS:
        return _walls(rng)
    field = _noise(rng, *_SIGMAS[which])
    if which in _WAVES:
        size, height = _WAVES[which]
        bend = _noise(rng, size, size) * height
        rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
        field = cv2.remap(field, columns, rows + bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    if which is Texture.GRAIN:
        field = 0.8 * field + 0.6 * _noise(rng, 3.5, 3.5)
    return _standard(field)


def _noise(rng: np.random.Generator, sigma_x: float, sigma_y: float) -> Array:
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :]
    # A Gaussian in space is a Gaussian in frequency: a periodic blur.
    spectrum = np.exp(-2 * np.pi**2 * ((fx * sigma_x) ** 2 + (fy * sigma_y) ** 2))
    noise = np.fft.fft2(rng.standard_normal((SIDE, SIDE)))
    return _standard(np.fft.ifft2(noise * spectrum).real)


def _standard(field: NDArray[np.floating]) -> Array:
    scaled: Array = ((field - field.mean()) / field.std()).astype(np.float32)
    return scaled


def _walls(rng: np.random.Generator) -> Array:
    """Walls between the cells of a periodic Voronoi pattern: fat cells are empty between thin
    walls."""
    points = rng.uniform(0, SIDE, (46, 2))
    nearest = np.full((SIDE, SIDE), np.inf)
    second = nearest.copy()
    for x, y in points.tolist():
        distance = np.sqrt(_periodic(x)[None, :] ** 2 + _periodic(y)[:, None] ** 2)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    walls: Array = np.exp(-(((second - nearest) / 5.0) ** 2)).astype(np.float32)
    return walls


def _periodic(place: float) -> NDArray[np.float64]:
    """Distance (SIDE,) of each px of an axis from a place or its nearest copy, a period away."""
    copies = place + SIDE * np.array([[-1.0], [0.0], [1.0]])
    distance: NDArray[np.float64] = np.abs(np.arange(SIDE) - copies).min(axis=0)
    return distance
