"""Pen and folds, drawn over made sections, and sections without either."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.geometry import TileGrid, TileIndex
from appliance.slides.artefacts import find_artefacts, marked_percent
from appliance.slides.tissue import find_tissue
from models.synthesis.sections import synthesize_sections

MPP = 8.0
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def slides() -> dict[str, Pixels]:
    pair = synthesize_sections(7000, mpp=MPP)
    return {"he": pair.he, "ihc": pair.ihc}


def share_marked(image: Pixels, where: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the tissue in `where` that is marked, and of that elsewhere."""
    tissue = find_tissue(image, MPP)
    marks = find_artefacts(image, tissue)
    near = cv2.dilate(where.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    inside, outside = tissue.mask & where, tissue.mask & ~near
    return float(marks[inside].mean()), float(marks[outside].mean())


def band(image: Pixels, width_um: float) -> NDArray[np.bool_]:
    """A slightly wavy line through the middle of the tissue."""
    mask = find_tissue(image, MPP).mask
    count, pieces, facts, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = 1 + int(facts[1:count, cv2.CC_STAT_AREA].argmax())
    x, y = centers[largest]
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    middle = y + 0.3 * (columns - x) + 5 * np.sin(columns / 60)
    on: NDArray[np.bool_] = np.abs(rows - middle) * MPP < width_um / 2
    return on & (pieces == largest)


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_a_clean_section_has_no_marks(slides: dict[str, Pixels], stain: str) -> None:
    image = slides[stain]
    tissue = find_tissue(image, MPP)
    assert find_artefacts(image, tissue).sum() < 0.005 * tissue.mask.sum()


@pytest.mark.parametrize("stain", ["he", "ihc"])
@pytest.mark.parametrize("ink", [(30, 60, 170), (190, 30, 40)], ids=["blue", "red"])
def test_pen_over_tissue_is_found(
    slides: dict[str, Pixels], stain: str, ink: tuple[int, int, int]
) -> None:
    where = band(slides[stain], 600)
    drawn = slides[stain].copy()
    through = 1 - 0.85 * (1 - np.array(ink) / 255)
    drawn[where] = (drawn[where] * through).astype(np.uint8)
    inside, outside = share_marked(drawn, where)
    assert inside > 0.4
    assert outside < 0.01


def test_tissue_that_green_pen_hides_is_counted(slides: dict[str, Pixels]) -> None:
    image = slides["he"]
    grid = TileGrid.of(image.shape[1] * MPP, image.shape[0] * MPP)
    assert marked_percent(image, find_tissue(image, MPP), grid, []) < 0.5
    where = band(image, 600)
    drawn = image.copy()
    drawn[where] = (60, 170, 90)
    tissue = find_tissue(drawn, MPP)
    hidden = 100 * where.sum() / find_tissue(image, MPP).mask.sum()
    assert marked_percent(drawn, tissue, grid, []) == pytest.approx(hidden, rel=0.3)


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_a_long_fold_is_found(slides: dict[str, Pixels], stain: str) -> None:
    image = slides[stain]
    white = np.array(find_tissue(image, MPP).white_rgb, dtype=np.float64)
    where = band(image, 120)
    folded = image.copy()
    light = np.clip(image[where] / white, 1 / 255, 1)
    folded[where] = (light**2.2 * white).astype(np.uint8)
    inside, outside = share_marked(folded, where)
    assert inside > 0.4
    assert outside < 0.02


def test_the_share_is_of_the_tiles_asked_for(slides: dict[str, Pixels]) -> None:
    image = slides["he"].copy()
    tissue = find_tissue(image, MPP)
    rows, columns = np.nonzero(tissue.mask)
    half = columns < np.median(columns)
    image[rows[half], columns[half]] = (image[rows[half], columns[half]] * 0.12).astype(np.uint8)
    # Darker than anything stained, but no longer glass-like black border.
    image = np.maximum(image, 45)
    tissue = find_tissue(image, MPP)
    height, width = image.shape[:2]
    grid = TileGrid.of(width * MPP, height * MPP)
    place = np.stack([columns, rows], axis=1) * MPP
    middle = float(np.median(columns)) * MPP

    def tiles(left: bool) -> list[TileIndex]:
        side = place[:, 0] < middle - 400 if left else place[:, 0] > middle + 400
        found = {(int(x // 143), int(y // 143)) for x, y in place[side][::50]}
        return [TileIndex(c, r) for c, r in sorted(found)]

    assert marked_percent(image, tissue, grid, tiles(left=True)) > 80
    assert marked_percent(image, tissue, grid, tiles(left=False)) < 5
    assert marked_percent(image, tissue, grid, []) < 1
