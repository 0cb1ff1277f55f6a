"""Superpixels: outlines without gaps, proposals, and the way through QuPath's file and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fixtures.tiles import COLORS
from numpy.typing import NDArray
from shapely import Polygon, contains_xy

from models.datasets.annotated import Rules, annotated_samples
from models.datasets.geojson import Area, write_annotations
from models.datasets.rules import class_of
from models.datasets.superpixels import outlines, superpixels
from models.errors import DataSetError
from models.spec import CLASSES, TILE_MPP, Task

CLASS_MAP = np.zeros((128, 128), dtype=np.uint8)
CLASS_MAP[20:90, 30:110] = 3
CLASS_MAP[40:60, 50:90] = 4
PALETTE = np.array([COLORS[0], COLORS[2], COLORS[2], COLORS[2], COLORS[4]], dtype=np.uint8)
TILE = PALETTE[CLASS_MAP].repeat(4, axis=0).repeat(4, axis=1)


def test_outlines_follow_the_edges_of_the_px() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[1:7, 1:7] = True
    mask[2, 3] = False  # a hole
    mask[3, 4] = False  # and another, which touches it at a corner
    mask[5:7, 5:7] = False
    mask[8, 8] = True  # another piece, at the edge
    small, large = sorted(outlines(mask), key=lambda rings: len(rings[0]))
    assert small[0].tolist() == [[8, 8], [8, 9], [9, 9], [9, 8], [8, 8]]
    assert {tuple(p) for p in large[0].tolist()} == {
        (1, 1), (7, 1), (7, 5), (5, 5), (5, 7), (1, 7),
    }  # fmt: skip
    shape = Polygon(large[0], large[1:])
    assert shape.is_valid and shape.area == mask.sum() - 1


def test_superpixels_cover_the_tile_and_propose_its_classes() -> None:
    found = superpixels(TILE, CLASS_MAP, size_um=16)
    shapes = [Polygon(each.rings[0], each.rings[1:]) for each in found]
    assert all(shape.is_valid for shape in shapes)
    assert sum(shape.area for shape in shapes) == 128 * 128
    assert 40 < len(found) < 160  # 81 of 16 µm
    named = sum(s.area for s, each in zip(shapes, found, strict=True) if each.label == 4)
    assert named == pytest.approx(20 * 40, rel=0.25)
    assert {each.label for each in found} == {0, 3, 4}


def test_tumor_of_several_classes_is_no_background() -> None:
    mixed = np.zeros((128, 128), dtype=np.uint8)
    for number in range(5):  # two fifths are background, more than each class has
        mixed[number::5] = max(0, number - 1)
    assert {each.label for each in superpixels(TILE, mixed, size_um=60)} <= {1, 2, 3}


@dataclass
class OneTile:
    """Slide of a single tile; level 0 is finer than the tile."""

    width_px: int = 700
    height_px: int = 700
    mpp: float = TILE_MPP * 512 / 700
    offset_px: tuple[int, int] = (0, 0)

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        assert (column, row) == (0, 0)
        return TILE


@contextmanager
def opened(_path: Path) -> Iterator[OneTile]:
    yield OneTile()


def label_map(folder: Path, task: Task) -> object:
    table = folder / "slides.csv"
    table.write_text("slide,annotations,patient\na.svs,a.geojson,p1\n")
    (sample,) = annotated_samples(table, task, opened, Rules(names={}), lambda *_: None)
    return sample.label


def test_proposals_come_back_as_they_went_and_a_person_s_correction_counts(tmp_path: Path) -> None:
    names = CLASSES[Task.SEGMENTATION]
    found = superpixels(TILE, CLASS_MAP, size_um=16)
    areas = [
        Area(name=names[each.label], rings=tuple(4 * r * 700 / 512 for r in each.rings), number=k)
        for k, each in enumerate(found, 1)
    ]
    path = tmp_path / "a.geojson"
    colors = {name: (k, 2 * k, 3 * k) for k, name in enumerate(names)}
    write_annotations(path, areas, colors)
    expected = np.zeros((128, 128), dtype=np.uint8)
    y, x = np.mgrid[:128, :128] + 0.5
    for each in found:
        expected[contains_xy(Polygon(each.rings[0], each.rings[1:]), x, y)] = each.label
    label = label_map(tmp_path, Task.SEGMENTATION)
    assert np.array_equal(label, expected)
    # L is asked about the tumor alone.
    assert CLASSES[Task.INTENSITY][label_map(tmp_path, Task.INTENSITY)] == "weak"

    document = json.loads(path.read_text())
    feature = next(
        f for f in document["features"] if f["properties"]["classification"]["name"] == "3+"
    )
    assert feature["properties"]["classification"]["color"] == [4, 8, 12]
    feature["properties"]["classification"] = {"name": "Stroma"}
    path.write_text(json.dumps(document))
    corrected = label_map(tmp_path, Task.SEGMENTATION)
    changed = expected != corrected
    assert changed.any() and set(expected[changed]) == {4} and set(corrected[changed]) == {0}
    with pytest.raises(DataSetError, match=r"a\.geojson: is there already"):
        write_annotations(path, areas, colors)


@pytest.mark.parametrize("name", ["Blood", "blood cells", "Normal stroma", "Artifact", "Artefact"])
def test_classes_of_the_paper_are_known(name: str) -> None:
    assert class_of(Task.TUMOR, name, {}) == 0
    assert class_of(Task.SEGMENTATION, name, {}) == 0
    assert class_of(Task.INTENSITY, name, {}) is None
    assert class_of(Task.TUMOR, "Tumor cells", {}) == 1
    # A site's own word goes before.
    assert class_of(Task.TUMOR, name, {name: "tumor"}) == 1
