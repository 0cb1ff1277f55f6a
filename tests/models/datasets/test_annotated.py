"""Annotated slides: the 5 % rule, white and black tiles, holes, overlaps, places of tiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.tiles import tile
from numpy.typing import NDArray

from models.datasets.annotated import (
    Rules,
    annotated_samples,
    samples_of_slides,
    slides_of_folder,
    slides_of_table,
)
from models.datasets.build import Sample
from models.datasets.geojson import Area
from models.datasets.rules import class_of, labels_nothing
from models.errors import DataSetError
from models.patch_counts.quality import clahe
from models.spec import Task


@dataclass
class PlainSlide:
    """4 x 3 tiles; level 0 is twice as fine as they. Tile (3, 0) is glass, (3, 1) is ink."""

    width_px: int = 4096
    height_px: int = 3072
    mpp: float = 0.2793 / 2
    offset_px: tuple[int, int] = (0, 0)

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        if (column, row) == (3, 0):
            return np.full((512, 512, 3), 250, dtype=np.uint8)
        pixels = tile(1, 10 * column + row)
        if (column, row) == (3, 1):
            pixels[:110] = 20
        return pixels


@contextmanager
def opened(_path: Path) -> Iterator[PlainSlide]:
    yield PlainSlide()


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """A closed ring in tiles of the grid, as level-0 px."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [[1024 * x, 1024 * y] for x, y in corners]


def area(name: str, *rings: list[list[float]]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def cut(
    folder: Path, *areas: dict[str, Any], task: Task = Task.TUMOR, rules: Rules | None = None
) -> list[Sample]:
    (folder / "a.geojson").write_text(json.dumps(list(areas)))
    (folder / "slides.csv").write_text("slide,annotations,patient\na.svs,a.geojson,p1\n")
    return list(
        annotated_samples(
            folder / "slides.csv", task, opened, rules or Rules(names={}), lambda *_: None
        )
    )


def places(samples: list[Sample]) -> dict[tuple[int, int], Any]:
    """(column, row) → label."""
    words = [s.origin.replace(",", "").split() for s in samples]
    return {
        (int(w[w.index("column") + 1]), int(w[w.index("row") + 1])): s.label
        for w, s in zip(words, samples, strict=True)
    }


def test_five_percent_count(tmp_path: Path) -> None:
    samples = cut(tmp_path, area("Tumor", box(0, 0, 1.06, 1)), area("Stroma", box(0, 1, 1.04, 2)))
    assert places(samples) == {(0, 0): 1, (1, 0): 1, (0, 1): 0}
    assert (samples[0].pixels == tile(1, 0)).all()
    assert samples[0].patient == "p1"


def test_tumor_goes_before_the_rest_of_a_tile(tmp_path: Path) -> None:
    samples = cut(tmp_path, area("Stroma", box(0, 0, 0.9, 1)), area("tumor", box(0.9, 0, 1, 1)))
    assert places(samples) == {(0, 0): 1}


def test_of_intensities_the_widest_counts(tmp_path: Path) -> None:
    samples = cut(
        tmp_path,
        area("1+", box(0, 0, 0.3, 1)),
        area("3+", box(0.3, 0, 0.9, 1)),
        task=Task.INTENSITY,
    )
    assert places(samples) == {(0, 0): 3}


def test_glass_and_ink_are_left_out(tmp_path: Path) -> None:
    samples = cut(tmp_path, area("Tumor", box(2, 0, 4, 2)))
    assert set(places(samples)) == {(2, 0), (2, 1)}


def test_a_hole_is_not_annotated(tmp_path: Path) -> None:
    samples = cut(tmp_path, area("Tumor", box(0, 0, 3, 3), box(1, 1, 2, 2)))
    assert (1, 1) not in places(samples)
    assert len(samples) == 8


def test_rest_is_what_nobody_annotated_nor_passed_over(tmp_path: Path) -> None:
    samples = cut(
        tmp_path,
        area("Tumor", box(0, 0, 1, 1)),
        area("Ignore*", box(0, 2, 4, 3)),
        rules=Rules(names={"ignore*": "ignore"}, rest="other"),
    )
    assert places(samples) == {(0, 0): 1, (1, 0): 0, (2, 0): 0, (0, 1): 0, (1, 1): 0, (2, 1): 0}


def test_the_smaller_area_counts_and_lies_where_it_was_drawn(tmp_path: Path) -> None:
    samples = cut(
        tmp_path,
        area("3+", box(1.25, 1.5, 1.5, 1.75)),
        area("1+", box(1, 1, 2, 2)),
        task=Task.SEGMENTATION,
    )
    (label,) = places(samples).values()
    expected = np.full((128, 128), 2, dtype=np.uint8)
    expected[64:96, 32:64] = 4
    assert float((label == expected).mean()) > 0.995  # an outline's own px belong to it
    assert (label[66:94, 34:62] == 4).all()


def test_what_is_to_be_ignored_is_no_background(tmp_path: Path) -> None:
    areas = [area("3+", box(0, 0, 3, 1)), area("Ignore*", box(0.5, 0, 1.04, 1))]
    samples = cut(tmp_path, *areas, task=Task.SEGMENTATION)
    # Half of the first tile is to be ignored, of the second 4 %.
    assert set(places(samples)) == {(1, 0), (2, 0)}
    slides = slides_of_table(tmp_path / "slides.csv")
    rules = Rules(names={})
    (first, *_) = samples_of_slides(
        slides, Task.SEGMENTATION, opened, rules, lambda *_: None, ignored=255
    )
    assert isinstance(first.label, np.ndarray)
    assert (first.label[:, :63] == 4).all() and (first.label[:, 65:] == 255).all()


def test_clahe_changes_pixels_only(tmp_path: Path) -> None:
    drawn = area("Tumor", box(0, 0, 1, 1))
    (plain,) = cut(tmp_path, drawn)
    (equal,) = cut(tmp_path, drawn, rules=Rules(names={}, equalise=True))
    assert (equal.pixels == clahe(plain.pixels)).all()
    assert not (equal.pixels == plain.pixels).all()
    assert equal.label == plain.label


@pytest.mark.parametrize(
    ("areas", "says"),
    [
        ([area("Tumor", box(3.5, 0, 4.5, 1))], r"a\.geojson, feature 1: .*outside the slide"),
        ([area("Nerve", box(0, 0, 1, 1))], r"a\.geojson, feature 1: class 'Nerve' is unknown"),
        ([area("Tumor", box(3, 0, 4, 1))], r"a\.svs: no tile"),
        ([area("Tumor", box(0, 0, 0.1, 0.1))], r"a\.svs: no tile"),
    ],
)
def test_errors_name_the_file(areas: list[Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=says):
        cut(tmp_path, *areas)


def test_rest_is_for_tumor_alone(tmp_path: Path) -> None:
    rules = Rules(names={}, rest="none")
    with pytest.raises(DataSetError, match="--rest is for tumor"):
        cut(tmp_path, area("1+", box(0, 0, 1, 1)), task=Task.INTENSITY, rules=rules)


def test_classes_with_an_asterisk_are_no_labels() -> None:
    """As in QuPath; what `Ignore*` covers is skipped, and a site's own words come first."""
    assert labels_nothing("Region*", {}) and not labels_nothing("Tumor", {})
    assert not labels_nothing("Region*", {"region*": "tumor"})
    assert not labels_nothing("Ignore*", {})
    assert class_of(Task.TUMOR, "Ignore*", {}) is None


def test_a_slide_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svs").touch()
    (tmp_path / "b.svs").symlink_to("a.svs")
    table = tmp_path / "slides.csv"
    round_about = f"../{tmp_path.name}/a.svs"
    for second in ("a.svs,other.geojson,p1", f"{round_about},a.geojson,p2", "b.svs,b.geojson,p2"):
        table.write_text(f"slide,annotations,patient\na.svs,a.geojson,p1\n{second}\n")
        with pytest.raises(DataSetError, match=r"slides\.csv, line 3: .*slides\.csv, line 2, too"):
            slides_of_table(table)
    (tmp_path / "b.svs").unlink()
    table.write_text("slide,annotations,patient\na.svs,a.geojson,p1\nb.svs,a.geojson,p2\n")
    with pytest.raises(DataSetError, match=r"line 3: the annotations a\.geojson are those of"):
        slides_of_table(table)
    for name in ("a.geojson", "a.svs.geojson"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "slides.csv").unlink()
    with pytest.raises(DataSetError, match=r"a\.svs\.geojson: the slide a\.svs is in .*a\.geojson"):
        slides_of_folder(tmp_path)


def test_areas_of_other_tiles_cost_a_tile_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QuPath writes cells by the ten thousand; the box of each was made for each tile."""
    made: list[int] = []
    measured = Area.box_px.fget
    assert measured is not None
    monkeypatch.setattr(Area, "box_px", property(lambda a: made.append(a.number) or measured(a)))
    areas = [area("Tumor", box(k % 3, k // 3, k % 3 + 1, k // 3 + 1)) for k in range(9)]
    assert len(cut(tmp_path, *areas)) == 9
    assert max(made.count(number) for number in set(made)) <= 3


def test_a_class_may_be_translated_to_the_other_way_to_write_a_score(tmp_path: Path) -> None:
    samples = cut(
        tmp_path,
        area("Site strong", box(0, 0, 1, 1)),
        task=Task.INTENSITY,
        rules=Rules(names={"Site strong": "3+"}),
    )
    assert places(samples) == {(0, 0): 3}
    assert class_of(Task.SEGMENTATION, "x", {"X": "strong"}) == 4
    # What L skips is no class of L: a name that means it would be skipped unseen.
    for meant in ("stroma", "other"):
        with pytest.raises(DataSetError, match="class 'x' is unknown"):
            class_of(Task.INTENSITY, "x", {"X": meant})
