"""Generator: deterministic, readable by OpenSlide; pixels and truth agree."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
from numpy.typing import NDArray

from models.deconvolution import unmix
from models.errors import SynthesisError
from models.synthesis import blocks
from models.synthesis.slides import SyntheticCase, synthesize_case
from models.synthesis.stain import StainStyle, random_style, transmit
from models.synthesis.tile_pairs import synthesize_tile_pair


def optical_density(pixels: NDArray[np.uint8], white: tuple[int, int, int]) -> NDArray[np.float32]:
    """-log10(I / I0) per channel, float32 (rows, columns, 3), not below 0; I0 is the glass."""
    ratio = np.maximum(pixels, 1).astype(np.float32) / np.asarray(white, dtype=np.float32)
    return np.maximum(-np.log10(ratio), 0).astype(np.float32)


def test_beer_lambert_there_and_back() -> None:
    rng = np.random.default_rng(0)
    style = random_style(rng, spread=0.0)
    style = StainStyle(
        vectors=style.vectors,
        strength=(1.0, 1.0, 1.0),
        white=(245, 245, 245),
        gamma=1.0,
        blur_px=0.0,
        noise=0.0,
    )
    amounts = rng.uniform(0, 0.5, (32, 32, 3)).astype(np.float32)
    light = transmit(amounts, style)
    found = unmix(optical_density(light, style.white), style.vectors)
    assert np.abs(found - amounts).max() < 0.05


def test_tiles_are_deterministic_and_balanced() -> None:
    first, second = synthesize_tile_pair(11), synthesize_tile_pair(11)
    np.testing.assert_array_equal(first.ihc, second.ihc)
    np.testing.assert_array_equal(first.he, second.he)
    np.testing.assert_array_equal(first.class_map, second.class_map)
    tiles = [synthesize_tile_pair(seed) for seed in range(100, 140)]
    assert 0.35 < np.mean([tile.tumor for tile in tiles]) < 0.85
    assert {tile.intensity for tile in tiles if tile.tumor} == {0, 1, 2, 3}
    for tile in tiles:
        assert tile.he.shape == tile.ihc.shape == (512, 512, 3)
        assert tile.tumor == ((tile.class_map > 0).mean() >= 0.1)


def test_stronger_classes_hold_more_dab() -> None:
    density: dict[int, list[float]] = {k: [] for k in range(1, 5)}
    for seed in range(60):
        tile = synthesize_tile_pair(seed)
        # Brown absorbs blue.
        blue = optical_density(tile.ihc, tile.white)[..., 2]
        for k, values in density.items():
            where = tile.class_map == k
            if where.sum() > 4000:
                values.append(float(blue[where].mean()))
    medians = [np.median(values) for values in density.values()]
    assert medians == sorted(medians)
    assert medians[3] > 2 * medians[1]


def test_slides_open_as_what_they_claim_to_be(small_case: SyntheticCase, tmp_path: Path) -> None:
    slide = openslide.OpenSlide(small_case.he_path)
    assert slide.properties["openslide.vendor"] == "aperio"
    assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2793)
    assert slide.dimensions == (4096, 3072)
    assert slide.level_count >= 2
    assert "thumbnail" in slide.associated_images
    # Glass is glass-colored: a wrong color space would be magenta.
    glass = np.asarray(slide.read_region((4, 4), 0, (64, 64)))[..., :3].reshape(-1, 3).mean(0)
    slide.close()
    assert glass.min() > 215
    assert np.ptp(glass) < 15
    generic = synthesize_case(
        tmp_path, seed=1, score="0", width_px=2048, height_px=1536, file_format="tiff"
    )
    other = openslide.OpenSlide(generic.he_path)
    assert other.properties["openslide.vendor"] == "generic-tiff"
    assert float(other.properties["openslide.mpp-x"]) == pytest.approx(0.2793, rel=1e-4)
    other.close()


def test_equal_seeds_make_equal_slides_whoever_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = []
    for few in (blocks.FEW_BLOCKS, 0):  # this process, then two others
        monkeypatch.setattr(blocks, "FEW_BLOCKS", few)
        size = {"width_px": 2048, "height_px": 1536}
        cases.append(synthesize_case(tmp_path / str(few), seed=3, score="1+", workers=2, **size))
    assert cases[0].ihc_path.read_bytes() == cases[1].ihc_path.read_bytes()
    assert cases[0].truth_path.read_text() == cases[1].truth_path.read_text()


def test_tumor_of_both_slides_is_the_same_under_the_stated_transform(
    small_case: SyntheticCase,
) -> None:
    truth = json.loads(small_case.truth_path.read_text())
    stem = str(small_case.truth_path.with_suffix(""))
    he, ihc, control = (
        cv2.imread(f"{stem}_{name}.png", cv2.IMREAD_GRAYSCALE) > 0
        for name in ("he_tumor", "ihc_tumor", "ihc_control")
    )
    mpp = truth["masks_mpp"]
    linear = np.array(truth["he_to_ihc"]["matrix"]).reshape(2, 2)
    half = np.array([0.5, 0.5])
    shift = np.array(truth["he_to_ihc"]["shift_um"]) / mpp + linear @ half - half
    mapped = cv2.warpAffine(
        he.astype(np.float32), np.column_stack([linear, shift]), ihc.shape[::-1]
    )
    overlap = (mapped > 0.5) & ihc
    assert 2 * overlap.sum() / ((mapped > 0.5).sum() + ihc.sum()) > 0.95
    assert control.sum() > 100
    assert not (control & ihc).any()


@pytest.mark.parametrize(("score", "deciding", "low"), [("0", "0", 90), ("3+", "3+", 50)])
def test_shares_decide_the_score_with_a_margin(
    score: str, deciding: str, low: float, tmp_path: Path
) -> None:
    case = synthesize_case(tmp_path, seed=9, score=score, width_px=2048, height_px=1536)
    truth = json.loads(case.truth_path.read_text())
    assert truth["percent"][deciding] > low
    assert sum(truth["percent"].values()) == pytest.approx(100, abs=0.01)


def test_impossible_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match="4\\+"):
        synthesize_case(tmp_path, seed=1, score="4+")
    with pytest.raises(SynthesisError, match="2,048"):
        synthesize_case(tmp_path, seed=1, score="0", width_px=100)
