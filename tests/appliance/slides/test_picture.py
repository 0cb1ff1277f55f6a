"""The picture of a slide file: drawn slides of every stain, real images, glass alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.assays.registry import stains
from appliance.domain import HE, HER2
from appliance.errors import WeightsUnusableError
from appliance.line.analyze_slide import inspect_slide, open_facts, wrong_picture
from appliance.settings.settings import Settings
from appliance.slides.picture import SlidePicture, load_picture
from models.errors import ManifestError
from models.picture.features import TILE_MPP
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slide_fields import draw_fields
from models.synthesis.slides import SyntheticCase

Pixels = NDArray[np.uint8]


def seen(path: Path, folder: Path) -> SlidePicture:
    return inspect_slide(open_facts(path), Settings(state_dir=folder / "state")).picture


def as_slide(path: Path, pixels: Pixels, mpp: float) -> Path:
    """Write pixels as a slide, each edge a multiple of 256 px."""
    rows, columns = (edge // 256 * 256 for edge in pixels.shape[:2])
    part = np.ascontiguousarray(pixels[:rows, :columns])
    write_pyramid(path, [part], width_px=columns, height_px=rows, mpp=mpp, file_format="svs")
    return path


def test_each_slide_of_a_case_looks_like_what_it_is(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    he, ihc = (seen(path, tmp_path) for path in (small_case.he_path, small_case.ihc_path))
    assert wrong_picture(he, HE) == "" and wrong_picture(ihc, HER2) == ""
    assert min(he.match(stains()[HE].pictures).percent, ihc.match(["membrane"]).percent) > 80
    assert he.match(["membrane"]).percent < 5
    # An inspected slide of an earlier edition has no file of its picture.
    assert load_picture(tmp_path) is None
    assert SlidePicture().match(["membrane"]).percent == 0 < SlidePicture().match([]).percent
    assert wrong_picture(he, HER2) == "this looks like an H&E slide, not like HER2 IHC"
    assert "brown membranes" in wrong_picture(ihc, HE)


def test_a_picture_that_is_not_sure_names_the_other_kind() -> None:
    picture = SlidePicture(
        kind="membrane",
        certainty=0.45,
        probabilities={"membrane": 0.45, "nuclear": 0.3, "other-dab": 0.25},
        tiles=20,
    )
    match = picture.match(["membrane"])
    assert (match.percent, match.looks_like) == (45.0, "IHC with brown nuclei")


@pytest.mark.parametrize("stain", ["receptor", "trichrome", "none"])
def test_other_stains_fit_neither_slot(stain: str, tmp_path: Path) -> None:
    drawn = next(
        field
        for seed in range(66_000_000, 66_000_020)
        for field in draw_fields(seed, wild=0.3)
        if field.stain == stain
    )
    path = as_slide(tmp_path / "slide.svs", drawn.pixels, TILE_MPP)
    picture = seen(path, tmp_path)
    assert wrong_picture(picture, HE) and wrong_picture(picture, HER2), picture


def test_real_fields_are_in_their_own_slot_alone(real: Path, tmp_path: Path) -> None:
    for path in sorted((real / "her2_pairs").glob("*.png")):
        pixels = np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)
        picture = seen(as_slide(tmp_path / f"{path.stem}.svs", pixels, 0.46), tmp_path)
        own, wrong = (HE, HER2) if path.stem.endswith("_he") else (HER2, HE)
        assert wrong_picture(picture, own) == "", (path.stem, picture)
        assert wrong_picture(picture, wrong), (path.stem, picture)


def test_real_ihc_is_no_he(tmp_path: Path) -> None:
    from skimage.data import immunohistochemistry

    path = as_slide(tmp_path / "slide.svs", immunohistochemistry(), 0.5)
    assert wrong_picture(seen(path, tmp_path), HE)


def test_glass_alone_is_no_contradiction(tmp_path: Path) -> None:
    path = as_slide(tmp_path / "slide.svs", np.full((1024, 1024, 3), 243, np.uint8), 0.5)
    assert seen(path, tmp_path) == SlidePicture()
    assert all(wrong_picture(SlidePicture(), stain) == "" for stain in stains())


def test_damaged_weights_are_the_sites_trouble(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = open_facts(small_case.he_path)

    def refuse() -> str:
        raise ManifestError("weights.json is not what was written")

    monkeypatch.setattr("appliance.line.analyze_slide.picture_version", refuse)
    with pytest.raises(WeightsUnusableError):
        inspect_slide(facts, Settings(state_dir=tmp_path))
