"""Changes of a picture do what their names say, and nothing at the neutral strength."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.changes import (
    Pixels,
    all_changes,
    balanced,
    blurred,
    jpeg,
    noisy,
    raised_black,
    rescanned,
    saturated,
    turned_hue,
)

BROWN, BLUE, WHITE = (150, 100, 60), (90, 100, 160), (255, 255, 255)


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def picture() -> Pixels:
    """Return brown and blue disks on white with some grain, 128 x 96 px."""
    image = np.full((96, 128, 3), WHITE, dtype=np.uint8)
    for k, (x, y) in enumerate(((30, 30), (80, 40), (50, 70), (105, 75))):
        cv2.circle(image, (x, y), 15, (BROWN, BLUE)[k % 2], -1)
    grain = generator().integers(-8, 9, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def hsv(pixels: Pixels) -> np.ndarray:
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2HSV))


def flat(color: tuple[int, int, int]) -> Pixels:
    return np.full((8, 8, 3), color, dtype=np.uint8)


def test_the_neutral_strength_changes_nothing(picture: Pixels) -> None:
    unchanged = (
        blurred(picture, 0),
        raised_black(picture, 0),
        balanced(picture, 0),
        turned_hue(picture, 0),
        turned_hue(picture, 360),
        saturated(picture, 1),
        noisy(picture, 0, generator()),
        rescanned(picture, 0.25, 0.25),
    )
    for changed in unchanged:
        np.testing.assert_array_equal(changed, picture)


@pytest.mark.parametrize("color", [BROWN, BLUE])
@pytest.mark.parametrize("degrees", [6, -6])
def test_the_hue_turns_by_the_angle(color: tuple[int, int, int], degrees: int) -> None:
    before, after = hsv(flat(color))[0, 0], hsv(turned_hue(flat(color), degrees))[0, 0]
    assert after[0] - before[0] == pytest.approx(degrees, abs=0.5)
    assert after[1:] == pytest.approx(before[1:], abs=0.01)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_the_saturation_changes_by_the_factor(factor: float) -> None:
    before, after = hsv(flat(BROWN))[0, 0], hsv(saturated(flat(BROWN), factor))[0, 0]
    assert after[1] / before[1] == pytest.approx(factor, abs=0.02)
    assert after[0] == pytest.approx(before[0], abs=1)
    assert saturated(flat(WHITE), factor).min() == 255


def test_black_rises_and_white_stays() -> None:
    assert raised_black(flat((0, 0, 0)), 25).max() == 25
    assert raised_black(flat(WHITE), 25).min() == 255


def test_red_rises_and_blue_falls() -> None:
    assert tuple(balanced(flat((100, 100, 100)), 0.08)[0, 0]) == (108, 100, 92)
    assert tuple(balanced(flat(WHITE), 0.08)[0, 0]) == (255, 255, 235)


def test_a_lower_quality_loses_more(picture: Pixels) -> None:
    lost = [np.abs(jpeg(picture, q).astype(int) - picture).mean() for q in (95, 40)]
    assert 0 < lost[0] < lost[1]


def test_blur_loses_detail_and_keeps_the_mean(picture: Pixels) -> None:
    after = blurred(picture, 1.5)
    assert cv2.Laplacian(after, cv2.CV_32F).var() < 0.2 * cv2.Laplacian(picture, cv2.CV_32F).var()
    assert after.mean() == pytest.approx(picture.mean(), abs=1)


def test_noise_has_the_stated_deviation() -> None:
    gray = np.full((200, 200, 3), 128, dtype=np.uint8)
    once = noisy(gray, 6, generator())
    assert once.std() == pytest.approx(6, abs=0.2)
    np.testing.assert_array_equal(once, noisy(gray, 6, generator()))


def test_a_coarser_scan_has_fewer_px_of_the_same_tissue(picture: Pixels) -> None:
    assert rescanned(picture, 0.25, 0.5).shape == (48, 64, 3)
    assert rescanned(picture, 0.25, 0.2).shape == (120, 160, 3)
    assert rescanned(picture, 0.25, 0.5).mean() == pytest.approx(picture.mean(), abs=1)


def test_each_change_but_none_changes_the_picture_and_repeats(picture: Pixels) -> None:
    for change in all_changes():
        after, mpp = change.changing(picture, 0.25, generator())
        again, _ = change.changing(picture, 0.25, generator())
        np.testing.assert_array_equal(after, again, err_msg=change.name)
        assert np.array_equal(after, picture) == (change.name == "none"), change.name
        assert (mpp == 0.25) == ("scan" not in change.name)
