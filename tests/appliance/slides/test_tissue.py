"""Tissue and glass on made overviews with known truth, and on the real fields."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from appliance.geometry import TILE_UM, TileGrid
from appliance.slides.glass import ASSUMED_WHITE
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.tissue import SPECK_MM2, Tissue, find_tissue, tissue_share

MPP = 8.0
Bools = NDArray[np.bool_]


def glass(value: int | tuple[int, int, int], seed: int = 1) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 1.5, (600, 800, 3))
    return np.clip(np.array(value) + noise, 0, 255).astype(np.uint8)


def section(density: float, white: int | tuple[int, int, int]) -> tuple[NDArray[np.uint8], Bools]:
    """Bluish section of an optical density on glass of a gray level."""
    mask = np.zeros((600, 800), np.uint8)
    cv2.ellipse(mask, (400, 300), (200, 150), 20, 0, 360, 1, -1)
    rng = np.random.default_rng(2)
    texture = cv2.GaussianBlur(rng.standard_normal(mask.shape), (0, 0), 3)
    od = mask * np.clip(density * (1 + 0.4 * texture / texture.std()), 0.01, None)
    image = glass(white) * 10 ** (-od[..., None] * np.array([1.2, 0.9, 0.5]))
    return image.astype(np.uint8), mask.astype(bool)


def dice(a: Bools, b: Bools) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("white", [255, 240, 215, 195])
@pytest.mark.parametrize("density", [0.4, 0.15, 0.06])
def test_tissue_on_any_glass(density: float, white: int) -> None:
    image, truth = section(density, white)
    found = find_tissue(image, MPP)
    assert dice(found.mask, truth) > 0.97
    assert found.area_mm2 == pytest.approx(truth.sum() * MPP**2 / 1e6, rel=0.05)
    assert max(abs(c - white) for c in found.white_rgb) <= 2


def test_empty_slides_have_no_tissue() -> None:
    black = glass(240)
    black[200:400, 200:400] = 0
    white = np.full((600, 800, 3), 255, np.uint8)
    for image in (glass(240), black, white, np.zeros_like(white)):
        assert find_tissue(image, MPP).area_mm2 == 0


def test_pale_tissue_beside_dark_control_tissue_is_kept() -> None:
    image, truth = section(0.06, 240)
    control = np.zeros(truth.shape, np.uint8)
    cv2.circle(control, (70, 70), 50, 1, -1)
    image[control > 0] = (90, 60, 30)
    assert dice(find_tissue(image, MPP).mask, truth | (control > 0)) > 0.97


@pytest.mark.parametrize(
    "white", [240, 225, 205, (245, 241, 232), (233, 238, 244)], ids=lambda white: str(white)
)
def test_white_fill_of_unscanned_areas_is_neither_glass_nor_tissue(
    white: int | tuple[int, int, int],
) -> None:
    """Also beside the glass of a warm and of a cool lamp."""
    image, truth = section(0.15, white)
    image[:, :150] = 255
    image[:, 700:] = 255
    image[:60] = 255
    found = find_tissue(image, MPP)
    assert dice(found.mask, truth) > 0.97
    assert found.white_rgb == pytest.approx(np.broadcast_to(white, 3), abs=2)


@pytest.mark.parametrize("dense", [0.1, 0.3])
def test_pale_even_tissue_on_pure_white_glass_is_not_taken_for_glass(dense: float) -> None:
    """A white that follows the section is the glass of a scanner that clips, and no fill."""
    rng = np.random.default_rng(3)
    mask = np.zeros((600, 800), np.uint8)
    cv2.ellipse(mask, (360, 300), (250, 200), 0, 0, 360, 1, -1)
    pale = np.array([236, 232, 246]) + rng.normal(0, 1.2, (*mask.shape, 1))
    clumps = cv2.GaussianBlur(rng.standard_normal(mask.shape), (0, 0), 14)
    tumor = clumps > np.quantile(clumps[mask > 0], 1 - dense)
    pale[tumor] = [170, 150, 195]
    image = np.where(mask[..., None] > 0, pale.clip(0, 250), 255).astype(np.uint8)
    found = find_tissue(image, MPP)
    assert found.white_rgb == (255, 255, 255)
    assert dice(found.mask, mask.astype(bool)) > 0.9


def test_black_border_and_pen_are_not_tissue() -> None:
    for color in ((0, 0, 0), (30, 30, 30), (20, 130, 80)):
        image, truth = section(0.15, 240)
        image[:80] = 0
        cv2.circle(image, (400, 320), 210, color, 8)
        inside = cv2.circle(np.zeros(truth.shape, np.uint8), (400, 320), 216, 1, -1) > 0
        found = find_tissue(image, MPP).mask
        assert not (found & ~inside).any()
        assert (found & truth).sum() > 0.9 * truth.sum()


def test_dust_is_dropped_and_small_holes_are_filled() -> None:
    image, truth = section(0.3, 240)
    cv2.circle(image, (60, 60), 5, (150, 120, 170), -1)  # 0.005 mm²
    cv2.circle(image, (400, 300), 5, (240, 240, 240), -1)
    assert np.pi * 5**2 * MPP**2 / 1e6 < SPECK_MM2
    found = find_tissue(image, MPP)
    assert not found.mask[40:80, 40:80].any()
    assert found.mask[295:306, 395:406].all()
    assert dice(found.mask, truth) > 0.97


def test_real_fields_are_tissue(real: Path) -> None:
    for path in sorted((real / "her2_pairs").glob("bci-00901*.png")):
        with Image.open(path) as image:
            field = np.asarray(image.convert("RGB").resize((471, 471), Image.Resampling.BOX))
        # The field is full; at 1 µm per px its clefts are wide.
        assert find_tissue(field, 1.0).mask.mean() > 0.85, path.name


def test_colored_tissue_is_not_taken_for_the_glass_of_a_slide_without_any(real: Path) -> None:
    """Its eosin would be divided out of every tile."""
    with Image.open(real / "he_tumor_masks" / "bcss-1015.jpg") as image:
        size = image.width // 2, image.height // 2
        field = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))
    brightest = field.reshape(-1, 3)[field.min(axis=2).ravel() > 190]
    assert np.ptp(np.median(brightest, axis=0)) > 15
    assert find_tissue(field, 0.5).white_rgb == ASSUMED_WHITE
    # Colored glass is even.
    warm = np.clip(np.random.default_rng(2).normal((250, 240, 225), 1.5, (200, 200, 3)), 0, 255)
    assert find_tissue(warm.astype(np.uint8), 8.0).white_rgb == pytest.approx(
        (250, 240, 225), abs=2
    )


def test_share_of_each_tile() -> None:
    mask = np.zeros((200, 300), bool)
    mask[:, :100] = True  # x < 800 µm
    tissue = Tissue(mask=mask, mpp=MPP, white_rgb=(240, 240, 240), area_mm2=1.28)
    grid = TileGrid.of(300 * MPP, 200 * MPP)
    share = tissue_share(tissue, grid)
    assert share.shape == grid.shape
    assert share.dtype == np.float32
    edge = 800 / TILE_UM
    expected = np.clip(edge - np.arange(grid.columns), 0, 1)
    # Thumbnail px are not cut, and the last row reaches over the slide's edge.
    np.testing.assert_allclose(share[0], expected, atol=1e-5)
    assert share.max() <= 1 + 1e-6
    assert share.sum() * TILE_UM**2 == pytest.approx(tissue.area_mm2 * 1e6, rel=1e-4)


@pytest.mark.parametrize("width_px", [48_000, 98_304, 200_000])
def test_an_overview_does_not_grow_with_the_slide(width_px: int) -> None:
    mpp = thumbnail_mpp(width_px * 0.25, width_px * 0.2)
    assert width_px * 0.25 / mpp <= (1500 if mpp < 25 else 2000)
