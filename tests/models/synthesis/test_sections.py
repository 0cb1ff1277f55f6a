"""Whole sections with exact correspondence: the truth fits the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from models.synthesis.overview import MASK_UM
from models.synthesis.placement import SIZE_UM
from models.synthesis.sections import SectionPair, synthesize_sections

MPP = 16.0
LOST_PIECE = 7001


@pytest.fixture(scope="module")
def pair() -> SectionPair:
    return synthesize_sections(LOST_PIECE, mpp=MPP)


def density(image: np.ndarray) -> np.ndarray:
    """Darkness against the brightest px, 0-1."""
    gray = image.astype(np.float32).min(axis=2)
    darkness: np.ndarray = 1 - gray / np.quantile(gray, 0.99)
    return darkness


def test_places_of_the_truth_lie_on_tissue_of_both_slides(pair: SectionPair) -> None:
    assert pair.he.shape == pair.ihc.shape
    assert pair.he.shape[:2] == (round(SIZE_UM[1] / MPP), round(SIZE_UM[0] / MPP))
    for image, points in ((pair.he, pair.he_um), (pair.ihc, pair.ihc_um)):
        column, row = (points / MPP).astype(int).T
        assert (density(image)[row, column] > 0.03).mean() > 0.9


def test_a_lost_piece_is_on_one_slide_only(pair: SectionPair) -> None:
    assert pair.torn and pair.pieces == 2
    tissue = [float((density(image) > 0.06).sum()) for image in (pair.he, pair.ihc)]
    assert tissue[1] < 0.8 * tissue[0]
    assert pair.ihc_tumor.sum() < 0.8 * pair.he_tumor.sum()


def test_control_tissue_lies_beside_the_section(pair: SectionPair) -> None:
    assert pair.control
    step = int(MASK_UM / MPP)
    assert step == 1
    rows, columns = (min(n) for n in zip(pair.ihc_control.shape, pair.ihc.shape[:2], strict=True))
    core = pair.ihc_control[:rows, :columns]
    assert core.sum() * MASK_UM**2 / 1e6 > 0.5  # mm²
    assert (density(pair.ihc[:rows, :columns])[core] > 0.03).mean() > 0.9
    assert (density(pair.he[:rows, :columns])[core] > 0.06).mean() < 0.01
    assert not (core & pair.ihc_tumor[:rows, :columns]).any()


def test_tumor_cells_are_counted_by_grade(pair: SectionPair) -> None:
    assert len(pair.tumor_cells) == 4
    assert sum(pair.tumor_cells) > 1000


def test_equal_seeds_make_equal_sections(pair: SectionPair) -> None:
    again = synthesize_sections(LOST_PIECE, mpp=MPP)
    assert np.array_equal(again.ihc, pair.ihc) and np.array_equal(again.ihc_um, pair.ihc_um)
