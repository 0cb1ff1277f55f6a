"""One section in both slots is told from two sections, whatever lies between the scans."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.registration.alignment import align, alignment_mpp
from appliance.registration.likeness import SAME_SECTION
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue
from models.synthesis.slides import SyntheticCase

Pixels = NDArray[np.uint8]


def picture(path: Path) -> tuple[Pixels, float]:
    with SlideReader.open(path) as slide:
        mpp = alignment_mpp(*slide.facts.size_um)
        return slide.thumbnail(mpp), mpp


def likeness(first: Pixels, second: Pixels, mpp: float) -> float:
    return align(first, find_tissue(first, mpp), second, find_tissue(second, mpp), mpp).likeness


def test_two_stains_of_one_block_are_not_alike(small_case: SyntheticCase) -> None:
    (he, mpp), (ihc, _) = picture(small_case.he_path), picture(small_case.ihc_path)
    assert likeness(he, ihc, mpp) < SAME_SECTION


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_the_same_pixels_are_alike(stain: str, small_case: SyntheticCase) -> None:
    image, mpp = picture(small_case.he_path if stain == "he" else small_case.ihc_path)
    assert likeness(image, image, mpp) > 0.99


def test_a_second_scan_of_the_same_slide_is_alike(small_case: SyntheticCase) -> None:
    image, mpp = picture(small_case.he_path)
    rows, columns = image.shape[:2]
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), 3.0, 1.0)
    turn[:, 2] += (4.3, -2.7)
    white = tuple(int(v) for v in image[2, 2])
    again = cv2.warpAffine(image, turn, (columns, rows), flags=cv2.INTER_CUBIC, borderValue=white)
    again = np.clip(again * 0.96 + np.random.default_rng(1).normal(0, 2, image.shape), 0, 255)
    assert likeness(image, again.astype(np.uint8), mpp) >= SAME_SECTION


def test_a_real_pair_is_two_sections(real: Path) -> None:
    he, ihc = (
        cv2.cvtColor(
            cv2.imread(str(real / "her2_pairs" / f"bci-00672_3+_{stain}.png")), cv2.COLOR_BGR2RGB
        )
        for stain in ("he", "her2")
    )
    small = [
        cv2.resize(image, None, fx=0.46, fy=0.46, interpolation=cv2.INTER_AREA).astype(np.uint8)
        for image in (he, ihc)
    ]
    assert likeness(small[0], small[1], 1.0) < SAME_SECTION
