"""Tiles that other code draws: their truth, their stain, and the figures on them."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from fixtures import second_renderer
from fixtures.second_renderer import BROWN_P97, SecondTile, draw_second_tile

from benchmarks.second_renderer import contact_sheet, tumor_found, write_labeled
from models.deconvolution import DAB, HEMATOXYLIN, unmix
from models.evaluation.folders import find_images
from models.evaluation.truth_tiles import read_mask
from models.spec import Task

STAINS = np.array([HEMATOXYLIN, DAB, np.cross(HEMATOXYLIN, DAB)], dtype=np.float32)


@pytest.fixture(scope="module")
def tiles() -> dict[str, SecondTile]:
    """Return a strong and a faint tumor tile and one without tumor."""
    return {"3+": draw_second_tile(7), "1+": draw_second_tile(17), "none": draw_second_tile(3)}


def brown(tile: SecondTile) -> np.ndarray:
    light = np.maximum(tile.ihc, 1) / np.array(tile.white)
    return unmix(-np.log10(light).astype(np.float32), STAINS)[..., 1]


def test_class_maps_are_those_of_the_tiles(tiles: dict[str, SecondTile]) -> None:
    assert [tile.grade for tile in tiles.values()] == [3, 1, None]
    for tile in tiles.values():
        assert tile.he.shape == tile.ihc.shape == (512, 512, 3)
        counts = np.bincount(tile.classes.ravel(), minlength=5)[1:]
        assert counts.argmax() == tile.grade if counts.any() else tile.grade is None


@pytest.mark.parametrize("name", ["3+", "1+"])
def test_dab_is_as_pale_as_on_slides_and_lies_in_the_tumor(
    tiles: dict[str, SecondTile], name: str
) -> None:
    tile = tiles[name]
    amount, tumor = brown(tile), tile.classes > 0
    assert tile.grade is not None
    low, high = BROWN_P97[tile.grade]
    # Deconvolution by other vectors, blur and noise move it a little.
    assert 0.7 * low < np.percentile(amount[tumor], 97) < 1.3 * high
    assert np.percentile(amount[tumor], 97) > 2 * np.percentile(amount[~tumor], 90)


def test_a_seed_draws_one_tile_and_shares_no_code_with_the_generator(
    tiles: dict[str, SecondTile],
) -> None:
    assert np.array_equal(draw_second_tile(3).he, tiles["none"].he)
    tree = ast.parse(Path(second_renderer.__file__).read_text())
    imports = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(name and name.split(".")[0] == "models" for name in imports)


def test_share_of_the_tumor_found_counts_any_class() -> None:
    matrix = np.zeros((5, 5), dtype=np.int64)
    matrix[0] = [6, 0, 2, 0, 0]
    matrix[4] = [1, 0, 0, 3, 0]
    assert tumor_found(matrix) == {"found": 0.75, "false": 0.25}


def test_contact_sheet_shows_three_pictures_of_each_tile(tiles: dict[str, SecondTile]) -> None:
    sheet = contact_sheet(list(tiles.values()))
    assert sheet.shape == (256, 4 * 3 * 256, 3)
    assert len(np.unique(sheet[:, 2 * 256 : 3 * 256].reshape(-1, 3), axis=0)) > 1


def test_labeled_tiles_are_read_as_those_of_a_site(tmp_path: Path) -> None:
    graded = draw_second_tile(17)  # 1+; 16 has a grade, too
    for task in Task:
        (tmp_path / task).mkdir()
        write_labeled(tmp_path / task, task, 2, 16)
    tumor, intensity, masks = (find_images(tmp_path / task, task) for task in Task)
    assert [image.label for image in tumor] == [1, 1]
    assert graded.grade in [image.label for image in intensity]
    assert len(masks) == 2 and masks[1].mask is not None
    assert np.array_equal(read_mask(masks[1].mask, Task.SEGMENTATION), graded.classes)
