"""Pairs that cannot be scored well: each ends in a stated outcome, none in an unmarked score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pytest
from fixtures.daemon import tandem_here
from numpy.typing import NDArray

from models.synthesis.blocks import MASK_STEP
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slides import SyntheticCase

Pixels = NDArray[np.uint8]
BLANK = "blank"


@pytest.fixture(scope="module")
def sections(small_case: SyntheticCase) -> dict[str, Pixels]:
    """Return level 0 of both slides, and variants of them."""
    he, ihc = (_level_0(path) for path in (small_case.he_path, small_case.ihc_path))
    glass = ihc[2, 2]
    stem = str(small_case.truth_path.with_suffix(""))
    mask = cv2.imread(f"{stem}_ihc_tumor.png", cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    mask = cv2.dilate(mask, np.ones((25, 25), np.uint8))
    tumor = np.kron(mask, np.ones((MASK_STEP, MASK_STEP), np.uint8))[: ihc.shape[0]] > 0
    without_tumor, half = ihc.copy(), ihc.copy()
    without_tumor[tumor[:, : ihc.shape[1]]] = glass
    half[:, ihc.shape[1] // 2 :] = glass
    return {
        "he": he,
        "ihc": ihc,
        BLANK: np.full_like(he, 240),
        "without tumor": without_tumor,
        "half": half,
        "inverted": 255 - ihc,
        "inverted he": 255 - he,
    }


def _level_0(path: Path) -> Pixels:
    with openslide.OpenSlide(str(path)) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def _written(folder: Path, he: Pixels, ihc: Pixels) -> tuple[Path, Path]:
    paths = folder / "S26-1_A1_HE.svs", folder / "S26-1_A1_HER2.svs"
    for path, pixels in zip(paths, (he, ihc), strict=True):
        rows, columns = pixels.shape[:2]
        write_pyramid(
            path, [pixels], width_px=columns, height_px=rows, mpp=0.2793, file_format="svs"
        )
    return paths


@pytest.mark.parametrize("he", [BLANK, "inverted he"])
def test_an_he_slide_without_tissue_is_refused(
    he: str, sections: dict[str, Pixels], tmp_path: Path
) -> None:
    paths = _written(tmp_path, sections[he], sections["ihc"])
    done = tandem_here("process", *paths, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "No tissue was found" in done.stderr and "scan it again" in done.stderr
    assert f"{paths[0]}: " in done.stderr and str(paths[1]) not in done.stderr
    assert not (tmp_path / "out" / "findings.json").exists()


def test_an_ihc_slide_of_impossible_colors_is_refused(
    sections: dict[str, Pixels], tmp_path: Path
) -> None:
    paths = _written(tmp_path, sections["he"], sections["inverted"])
    done = tandem_here("process", *paths, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "looks like another stain" in done.stderr
    assert not (tmp_path / "out" / "findings.json").exists()


@pytest.mark.parametrize(
    ("ihc", "wanted"),
    [
        ("without tumor", "tumor-disagrees"),
        ("half", "tissue-missing"),
    ],
)
def test_what_the_ihc_slide_lacks_is_said(
    ihc: str, wanted: str, sections: dict[str, Pixels], tmp_path: Path
) -> None:
    paths = _written(tmp_path, sections["he"], sections[ihc])
    tandem_here("process", *paths, "--out", tmp_path / "out")
    findings: dict[str, Any] = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert wanted in [reason["code"] for reason in findings["review"]]
    if ihc == "half":
        assert findings["unscored_tumor_area_mm2"] > 0.02
