"""Patches: cut from annotated slides, stored, excluded and equalized."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.painted_patches import paint_patch
from fixtures.small_disk import small_files
from numpy.typing import NDArray
from PIL import Image

from models.datasets.drawn_patches import drawn_patches, patches_of_draw
from models.datasets.geojson import Area, write_annotations
from models.datasets.slide_patches import cut_patches
from models.errors import DataSetError, SynthesisError
from models.patch_counts.examples import prepared
from models.patch_counts.patches import UNLABELED, PatchSet, coded, load_patches, save_patches
from models.patch_counts.quality import clahe
from models.patch_counts.resolutions import PATCH_PX, RESOLUTIONS, SLIDE_PX
from models.slide_level.cohort import CohortSlide, read_cohort, write_cohort
from models.slide_level.tasks import SlideLabel
from models.synthesis.slide_cohort import draw_slides
from models.synthesis.slide_overview import slide_width_um

MPP = RESOLUTIONS["low"] / 4
LEVEL_0_PX = 4 * PATCH_PX


@dataclass
class PaintedSlide:
    """3 x 2 patches of low resolution, level 0 four times as fine; patch (2, 0) is glass."""

    width_px: int = 3 * LEVEL_0_PX
    height_px: int = 2 * LEVEL_0_PX
    mpp: float = MPP
    offset_px: tuple[int, int] = (0, 0)

    def picture(self, mpp: float) -> NDArray[np.uint8]:
        rng = np.random.default_rng(3)
        low = np.full((2 * PATCH_PX, 3 * PATCH_PX, 3), 255, dtype=np.uint8)
        for column, row, score in ((0, 0, 0), (1, 0, 3), (0, 1, 1), (1, 1, 2), (2, 1, 0)):
            corner = slice(row * PATCH_PX, (row + 1) * PATCH_PX)
            low[corner, column * PATCH_PX : (column + 1) * PATCH_PX] = paint_patch(score, rng)
        scale = RESOLUTIONS["low"] / mpp
        size = round(low.shape[1] * scale), round(low.shape[0] * scale)
        large: NDArray[np.uint8] = cv2.resize(low, size, interpolation=cv2.INTER_NEAREST)
        return large

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        return np.full((512, 512, 3), 100 + column + row, dtype=np.uint8)


def box(name: str, left: float, top: float, right: float, bottom: float) -> Area:
    """Return an area whose corners are given in patches of low resolution."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return Area(name=name, rings=(np.array(corners) * LEVEL_0_PX,), number=1)


def cut(folder: Path, *areas: Area, resolution: str = "low") -> PatchSet:
    path = folder / f"{len(list(folder.iterdir()))}.geojson"
    colors = dict.fromkeys([area.name for area in areas], (1, 2, 3))
    write_annotations(path, areas, colors)
    return cut_patches("s", PaintedSlide(), path, resolution, {})


def labels_of(patches: PatchSet) -> dict[tuple[int, int], int]:
    places = [(column, row) for column, row in patches.places.tolist()]
    return dict(zip(places, patches.labels.tolist(), strict=True))


def test_resolutions_keep_the_ratios_that_are_printed() -> None:
    widths = [SLIDE_PX[name][0] * mpp for name, mpp in RESOLUTIONS.items()]
    assert widths == pytest.approx([widths[0]] * 3, rel=1e-3)
    assert PATCH_PX * RESOLUTIONS["high"] == pytest.approx(143.0, abs=0.01)


def test_a_patch_inherits_the_class_that_covers_five_percent(tmp_path: Path) -> None:
    just, less = 0.055, 0.045
    found = labels_of(
        cut(
            tmp_path,
            box("3+", 1, 0, 1 + just, 1),
            box("1+", 0, 1, less, 2),
            box("2+", 1, 1, 1.3, 2),
            box("Stroma", 0, 0, 1, 1),
            box("1+", 1.3, 1, 1.5, 2),
        )
    )
    # Stroma is no score; of two classes the larger share wins; glass is no patch.
    assert found == {
        (0, 0): UNLABELED,
        (1, 0): 3,
        (0, 1): UNLABELED,
        (1, 1): 2,
        (2, 1): UNLABELED,
    }


def test_patches_are_cut_at_each_resolution(tmp_path: Path) -> None:
    low = cut(tmp_path, box("3+", 1, 0, 2, 1))
    moderate = cut(tmp_path, box("3+", 1, 0, 2, 1), resolution="moderate")
    assert len(moderate) > 5 * len(low) and (moderate.labels == 3).sum() >= 7
    high = cut(tmp_path, box("3+", 1, 0, 1.1, 0.1), resolution="high")
    column, row = high.places[0].tolist()
    assert abs(int(high.pixels(0).mean()) - (100 + column + row)) <= 1  # a tile, shrunk
    unmarked = cut_patches("s", PaintedSlide(), None, "low", {})
    assert (unmarked.labels == UNLABELED).all() and len(unmarked) == 5
    brown = [float(low.pixels(k)[..., 2].mean()) for k in range(len(low))]
    assert np.argmin(brown) == low.places.tolist().index([1, 0])


def test_bad_annotations_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"feature 1: class 'strong-ish' is unknown"):
        cut(tmp_path, box("strong-ish", 0, 0, 1, 1))
    path = tmp_path / "outside.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    with pytest.raises(DataSetError, match="no annotated area"):
        cut_patches("s", PaintedSlide(), path, "low", {})
    with pytest.raises(DataSetError, match="none of low, moderate, high"):
        cut_patches("s", PaintedSlide(), None, "medium", {})


def some_patches() -> PatchSet:
    """Return tissue, tissue with 75 % glass, tissue with 25 % ink, and tissue."""
    rng = np.random.default_rng(5)
    pixels = [paint_patch(score, rng) for score in (0, 1, 2, 3)]
    pixels[1][: PATCH_PX * 3 // 4] = 255
    pixels[2][: PATCH_PX // 4] = 10
    return PatchSet(
        slide="s",
        resolution="low",
        coded=tuple(map(coded, pixels)),
        places=np.array([[0, 0], [1, 0], [2, 0], [3, 0]], np.int32),
        labels=np.array([0, 1, 2, 3], np.int8),
    )


def test_white_and_black_patches_are_excluded_and_others_equalized() -> None:
    patches = some_patches()
    pixels, numbers = prepared(patches, 224)
    assert numbers.tolist() == [0, 3]
    assert np.array_equal(pixels[1], clahe(patches.pixels(3)))
    assert not np.array_equal(pixels[1], patches.pixels(3))
    none, no_numbers = prepared(replace(patches, coded=(patches.coded[1],) * 4), 32)
    assert none.shape == (0, 32, 32, 3) and len(no_numbers) == 0


def test_patches_are_read_as_they_were_written(tmp_path: Path) -> None:
    patches = some_patches()
    save_patches(patches, tmp_path / "p" / "s.safetensors")
    again = load_patches(tmp_path / "p" / "s.safetensors")
    assert again.coded == patches.coded and again.slide == "s" and again.truth is None
    assert np.array_equal(again.labels, patches.labels)
    with small_files(64), pytest.raises(DataSetError, match=f"{tmp_path}: File too large"):
        save_patches(patches, tmp_path / "t.safetensors")
    with pytest.raises(NotADirectoryError):  # more room would not help
        save_patches(patches, tmp_path / "p" / "s.safetensors" / "none" / "t.safetensors")
    (tmp_path / "s.safetensors").write_bytes(b"none")
    with pytest.raises(DataSetError, match="no file of patches"):
        load_patches(tmp_path / "s.safetensors")
    with pytest.raises(DataSetError, match="a label is none of"):
        replace(patches, labels=np.array([0, 1, 2, 4], np.int8))
    with pytest.raises(DataSetError, match="no picture"):
        replace(patches, coded=(b"no",) * 4).pixels(0)


def test_the_score_of_a_drawn_patch_is_the_guidelines() -> None:
    """More than 10 % of the tumor cells decide; patches with hardly any tumor have none."""
    truth = np.zeros((5, 5))
    truth[0, 1:] = 0.30, 0.0, 0.0, 0.04
    truth[1, 1:] = 0.30, 0.0, 0.03, 0.02  # 2+ or more: 14 %
    truth[2, 1:] = 0.38, 0.02, 0.0, 0.0
    truth[3, 1:] = 0.0, 0.0, 0.0, 0.01
    truth[4, 1:] = 0.0, 0.0, 0.0, 0.9
    patches = some_patches()
    made = PatchSet(
        slide="s",
        resolution="low",
        coded=patches.coded[:1] * 5,
        places=np.array([[k, 0] for k in range(5)], np.int32),
        labels=np.array([0, 0, 0, 0, UNLABELED], np.int8),
        truth=truth.astype(np.float16),
    )
    assert made.own_labels().tolist() == [3, 2, 0, UNLABELED, UNLABELED]


def test_a_drawn_cohort_has_patches_whose_classes_mostly_are_their_own(tmp_path: Path) -> None:
    """The narrowest of 20 slides are enough."""
    draws = sorted(draw_slides(6, 20), key=slide_width_um)[:8]
    Image.new("RGB", (8, 8)).save(tmp_path / "overview.png")
    slides = [
        CohortSlide(slide=d.patient, patient=d.patient, overview=tmp_path / "overview.png",
                    label=SlideLabel(her2=d.label.her2))
        for d in draws
    ]  # fmt: skip
    write_cohort(tmp_path, slides)
    slides = drawn_patches(tmp_path, draws, ["low"], lambda *_: None)
    assert slides == read_cohort(tmp_path)
    sets = [load_patches(dict(slide.patches)["low"]) for slide in slides]
    assert all(len(one) for one in sets)
    labels = np.concatenate([one.labels for one in sets])
    own = np.concatenate([one.own_labels() for one in sets])
    known = own != UNLABELED
    assert 0 < (labels != UNLABELED).sum() < len(labels)
    assert known.sum() >= 8 and (labels[known] == own[known]).mean() > 0.6
    again = patches_of_draw(draws[0], slides[0].slide, "low", tmp_path / "again.geojson")
    assert again.coded == sets[0].coded and np.array_equal(again.labels, sets[0].labels)
    marks = dict(slides[0].patches)["low"].with_suffix(".geojson")
    assert marks.exists() == (tmp_path / "again.geojson").exists()
    with pytest.raises(SynthesisError, match="high resolution are not drawn"):
        drawn_patches(tmp_path, draws, ["high"], lambda *_: None)
