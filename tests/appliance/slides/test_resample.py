"""Places of the px of a resampled window, against the same arithmetic in floating point."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.slides.resample import NEAR_PX, Pixels, Raster

LEVEL_PX = 2500
COUNT = 512

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def level() -> Pixels:
    """Smoothed noise, about as sharp as tissue."""
    noise = np.random.default_rng(3).integers(0, 256, (LEVEL_PX, LEVEL_PX, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.asarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX), dtype=np.uint8)


def linear(values: Floats, at: Floats, axis: int) -> Floats:
    below = np.floor(at).astype(int)
    shape = [1, 1, 1]
    shape[axis] = -1
    weight = (at - below).reshape(shape)
    last = values.shape[axis] - 1
    one, other = (np.take(values, np.clip(i, 0, last), axis) for i in (below, below + 1))
    return one * (1 - weight) + other * weight


def expected(level: Pixels, raster: Raster, left: int, top: int) -> Floats:
    n = COUNT * raster.fine
    x, y = (
        (start * raster.scale + (np.arange(n) + 0.5) * raster.step - 0.5) for start in (left, top)
    )
    finer = linear(linear(level.astype(np.float64), y, 0), x, 1)
    shape = (COUNT, raster.fine, COUNT, raster.fine, 3)
    return np.asarray(finer.reshape(shape).mean(axis=(1, 3)))


def sampled(level: Pixels, raster: Raster, left: int, top: int) -> Pixels:
    x, y = raster.span(left, COUNT), raster.span(top, COUNT)
    window = level[y.first : y.first + y.count, x.first : x.first + x.count]
    assert window.shape[:2] == (y.count, x.count), "the window ends within this level"
    return raster.sample(window, x, y, COUNT, COUNT)


@pytest.mark.parametrize(
    "mpp", [0.12, 0.1396, 0.1725, 0.2265, 0.25, 0.2525, 0.2738, 0.2791, 0.46, 0.5, 1.0]
)
@pytest.mark.parametrize("place", [(0, 0), (1, 0), (1, 1), (2, 1)])
def test_px_lie_where_the_scale_says(level: Pixels, mpp: float, place: tuple[int, int]) -> None:
    raster = Raster(0.2793 / mpp)
    left, top = (n * COUNT for n in place)
    if place == (2, 1) and raster.scale > 1.5:
        left = 300  # the level ends
    error = np.abs(sampled(level, raster, left, top) - expected(level, raster, left, top))
    steepest = np.abs(np.diff(level.astype(int), axis=1)).max()
    # Px may be off by so much of a level px in each direction, and are rounded twice.
    assert error.max() <= 2 * NEAR_PX * steepest + 2
    assert error.mean() < 1


def test_px_of_the_wanted_size_are_the_levels_own(level: Pixels) -> None:
    for scale in (1.0, 1 - 1e-12, 1 + 1e-12):
        assert np.array_equal(sampled(level, Raster(scale), 512, 256), level[256:768, 512:1024])


def test_no_px_is_asked_for_that_lies_before_the_slide() -> None:
    for scale in np.linspace(0.28, 4.5, 200):
        for start in (0, 1, 2, 7, 64):
            assert Raster(scale).span(start, COUNT).first >= 0


def test_a_scale_near_1_is_warped_where_no_px_of_the_level_begins_with_one(level: Pixels) -> None:
    raster = Raster(1.0005)
    span = raster.span(1024, COUNT)
    assert abs(span.off) > NEAR_PX
    got, want = sampled(level, raster, 1024, 0), expected(level, raster, 1024, 0)
    assert np.abs(got - want).max() <= 2
