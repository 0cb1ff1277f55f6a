"""Stain concentrations to transmitted light, by Beer-Lambert.

The stain vectors of `models.deconvolution` are jittered per slide, because stains differ between
laboratories.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN


@dataclass(frozen=True, slots=True, kw_only=True)
class StainStyle:
    """Staining and scanning of one slide.

    `vectors` (3, 3): rows hematoxylin, eosin, DAB; columns R, G, B; unit length. `strength`
    multiplies each stain's concentration. `white` is the glass, RGB 0-255. `gamma`, `blur_px`
    (Gaussian sigma), `sharpen` (share of an unsharp mask) and `noise` (sigma in gray levels) belong
    to the scanner.
    """

    vectors: NDArray[np.float32]
    strength: tuple[float, float, float]
    white: tuple[int, int, int]
    gamma: float
    blur_px: float
    noise: float
    sharpen: float = 0.0


def random_style(rng: np.random.Generator, *, spread: float = 1.0) -> StainStyle:
    """Draw the style of an H&E slide; `spread` 0 gives the textbook, 1 the range of
    laboratories."""
    base = np.array([HEMATOXYLIN, EOSIN, DAB])
    # Most labs are near the textbook; colors of some scanners are far off (magenta, purple, brown).
    far = 2.4 if rng.random() < 0.3 * spread else 1.0
    vectors = np.clip(base + spread * far * rng.normal(0, 0.05, (3, 3)), 0.01, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = np.exp(spread * rng.normal(0, 0.25, 3))
    tint = rng.integers(0, 9, 3) * spread
    white = np.clip(rng.integers(232, 250) - tint, 215, 252).astype(int)
    return StainStyle(
        vectors=vectors.astype(np.float32),
        strength=(float(strength[0]), float(strength[1]), float(strength[2])),
        white=(int(white[0]), int(white[1]), int(white[2])),
        gamma=float(np.exp(spread * rng.normal(0, 0.1))),
        blur_px=float(rng.uniform(0.3, 0.3 + 0.9 * spread)),
        noise=float(rng.uniform(0.5, 0.5 + 2.0 * spread)),
        sharpen=float(rng.uniform(0, 0.8 * spread)) if rng.random() < 0.5 else 0.0,
    )


def random_ihc_style(rng: np.random.Generator, *, spread: float = 1.0) -> StainStyle:
    """Draw the style of an IHC slide as `random_style` does, with the pale counterstain of many
    protocols. DAB varies less: laboratories control it."""
    style = random_style(rng, spread=spread)
    vectors = np.array([HEMATOXYLIN, EOSIN, DAB]) + spread * rng.normal(0, 0.04, (3, 3))
    vectors = np.clip(vectors, 0.01, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hematoxylin, eosin, _ = style.strength
    pale = 1 - spread * float(rng.uniform(0, 0.65))
    dab = float(np.exp(spread * np.clip(rng.normal(0, 0.1), -0.2, 0.2)))
    return replace(
        style, vectors=vectors.astype(np.float32), strength=(hematoxylin * pale, eosin, dab)
    )


def moderated(style: StainStyle, moderate: float, seed: int) -> StainStyle:
    """Weaken DAB and counterstain of a slide, the more the nearer `moderate` (0-1) is to 1: both
    are paler on many real sections than `random_ihc_style` draws them."""
    rng = np.random.default_rng([seed, 0x40D9])
    hematoxylin, eosin, dab = style.strength
    dab *= float(np.exp(moderate * rng.uniform(np.log(0.4), np.log(1.1))))
    hematoxylin *= 1 - moderate * float(rng.uniform(0.2, 0.85))
    return replace(style, strength=(hematoxylin, eosin, dab))


def transmit(
    concentrations: NDArray[np.float32], style: StainStyle, rng: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Transmit light through stained tissue: uint8 RGB (rows, columns, 3).

    `concentrations` float32 (rows, columns, 3): hematoxylin, eosin, DAB. `rng` adds sensor noise.
    """
    amounts = np.asarray(style.strength, dtype=np.float32)[:, None] * style.vectors
    density = cv2.transform(concentrations, np.ascontiguousarray(amounts.T))
    if style.blur_px > 0.35:
        density = cv2.GaussianBlur(density, (0, 0), style.blur_px)
    light = cv2.exp(density * np.float32(-np.log(10.0) * style.gamma))
    light *= np.asarray(style.white, dtype=np.float32)
    if style.sharpen > 0:
        smooth = cv2.GaussianBlur(light, (0, 0), 1.6)
        cv2.addWeighted(light, 1 + style.sharpen, smooth, -style.sharpen, 0, light)
    if rng is not None and style.noise > 0:
        noise = np.empty(light.shape[:2], dtype=np.float32)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, 0.0, style.noise)
        light += noise[..., None]
    pixels: NDArray[np.uint8] = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    return pixels
