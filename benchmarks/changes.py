"""Changes of a picture that a laboratory or a scanner could make, each with a stated strength.

They change a picture before it is calibrated and resampled, as a scanner would. Strength 0 (or the
neutral value that a function names) returns the same px.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Changing = Callable[[Pixels, float, np.random.Generator], tuple[Pixels, float]]
"""Picture uint8 RGB (rows, columns, 3), its µm per px and a generator to the changed picture and
its µm per px."""

JPEG_QUALITY = 40
BLUR_UM = 0.4
"""Sigma of the blur in µm."""
BLACK_LEVEL = 25.0
"""Gray level, of 255, to which black rises."""
WARMTH = 0.08
"""Share by which red rises and blue falls (warm), or the reverse (cool)."""
HUE_DEGREES = 6.0
SATURATION = 0.2
"""Share by which the saturation rises or falls."""
NOISE = 6.0
"""Standard deviation of the noise, of 255."""
SCANS_MPP = (0.2, 0.35, 0.5)
"""Resolutions of the simulated scans in µm per px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change with its strength, in words, and its function."""

    name: str
    changing: Changing


def all_changes() -> tuple[Change, ...]:
    """Return the changes that are judged, none of them first."""

    def here(name: str, change: Callable[[Pixels], Pixels]) -> Change:
        """Return a change that depends neither on the resolution nor on chance."""
        return Change(name=name, changing=lambda pixels, mpp, _: (change(pixels), mpp))

    return (
        here("none", lambda pixels: pixels),
        here(f"JPEG {JPEG_QUALITY}", lambda pixels: jpeg(pixels, JPEG_QUALITY)),
        Change(
            name=f"blur {BLUR_UM:g} µm",
            changing=lambda pixels, mpp, _: (blurred(pixels, BLUR_UM / mpp), mpp),
        ),
        here(f"black level {BLACK_LEVEL:g}", lambda pixels: raised_black(pixels, BLACK_LEVEL)),
        here(f"white balance warm {WARMTH:.0%}", lambda pixels: balanced(pixels, WARMTH)),
        here(f"white balance cool {WARMTH:.0%}", lambda pixels: balanced(pixels, -WARMTH)),
        here(f"hue +{HUE_DEGREES:g}°", lambda pixels: turned_hue(pixels, HUE_DEGREES)),
        here(f"hue -{HUE_DEGREES:g}°", lambda pixels: turned_hue(pixels, -HUE_DEGREES)),
        here(f"saturation +{SATURATION:.0%}", lambda pixels: saturated(pixels, 1 + SATURATION)),
        here(f"saturation -{SATURATION:.0%}", lambda pixels: saturated(pixels, 1 - SATURATION)),
        *(_scan(mpp) for mpp in SCANS_MPP),
        Change(
            name=f"noise {NOISE:g}",
            changing=lambda pixels, mpp, rng: (noisy(pixels, NOISE, rng), mpp),
        ),
    )


def _scan(to_mpp: float) -> Change:
    return Change(
        name=f"scan at {to_mpp:g} µm/px",
        changing=lambda pixels, mpp, _: (rescanned(pixels, mpp, to_mpp), to_mpp),
    )


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Encode and decode as JPEG of a quality (1-100) with halved color resolution."""
    data = imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=quality, subsampling="420")
    return np.asarray(imagecodecs.jpeg8_decode(data), dtype=np.uint8)


def blurred(pixels: Pixels, sigma_px: float) -> Pixels:
    """Blur by a Gaussian."""
    if sigma_px <= 0:
        return pixels
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px), dtype=np.uint8)


def raised_black(pixels: Pixels, level: float) -> Pixels:
    """Raise black to a gray level (0-255) and leave white, as stray light does."""
    return _rounded(level + pixels.astype(np.float32) * (1 - level / 255))


def balanced(pixels: Pixels, warmth: float) -> Pixels:
    """Multiply red by 1 + `warmth` and blue by 1 - `warmth`; what exceeds white is cut."""
    gain = np.array((1 + warmth, 1, 1 - warmth), dtype=np.float32)
    return _rounded(pixels.astype(np.float32) * gain)


def turned_hue(pixels: Pixels, degrees: float) -> Pixels:
    """Turn the hue (of hue, saturation, value); positive turns red to yellow."""
    hue, saturation, value = cv2.split(_to_hsv(pixels))
    return _from_hsv(cv2.merge(((hue + degrees) % 360, saturation, value)))


def saturated(pixels: Pixels, factor: float) -> Pixels:
    """Multiply the saturation (of hue, saturation, value); factor 1 changes nothing."""
    hue, saturation, value = cv2.split(_to_hsv(pixels))
    return _from_hsv(cv2.merge((hue, np.clip(saturation * factor, 0, 1), value)))


def noisy(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """Add normal noise of a standard deviation (of 255), independent in each channel."""
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return _rounded(pixels.astype(np.float32) + sigma * noise)


def rescanned(pixels: Pixels, mpp: float, to_mpp: float) -> Pixels:
    """Resample a picture of `mpp` to `to_mpp` µm per px.

    A picture that becomes finer gains px but no detail.
    """
    rows, columns = (max(1, round(edge * mpp / to_mpp)) for edge in pixels.shape[:2])
    how = cv2.INTER_AREA if to_mpp > mpp else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (columns, rows), interpolation=how), dtype=np.uint8)


def _to_hsv(pixels: Pixels) -> NDArray[np.float32]:
    """Hue 0-360, saturation 0-1, value 0-1."""
    scaled = pixels.astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2HSV), dtype=np.float32)


def _from_hsv(hsv: NDArray[np.float32]) -> Pixels:
    return _rounded(255 * np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.float32))


def _rounded(values: NDArray[np.float32]) -> Pixels:
    rounded: Pixels = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded
