"""Alignment against known truth; the one-to-one mapping as a property."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, Affine, TileGrid, TileIndex
from appliance.registration import placing
from appliance.registration.alignment import Alignment, align, alignment_mpp
from appliance.registration.mapping import Piece, SlideMapping
from appliance.registration.tile_plan import map_tumor
from appliance.settings.scoring import Review
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import Tissue, find_tissue
from models.synthesis.slides import SyntheticCase, synthesize_case


def thumbnails(case: SyntheticCase) -> list[tuple[NDArray[np.uint8], Tissue]]:
    found = []
    for path in (case.he_path, case.ihc_path):
        with SlideReader.open(path) as slide:
            width, height = slide.facts.width_px, slide.facts.height_px
            mpp = alignment_mpp(width * slide.facts.mpp, height * slide.facts.mpp)
            image = slide.thumbnail(mpp)
        found.append((image, find_tissue(image, mpp)))
    return found


def errors_um(found: Alignment, case: SyntheticCase, tissue: Tissue) -> NDArray[np.float64]:
    """Target registration error over the H&E tissue."""
    raw = json.loads(case.truth_path.read_text())["he_to_ihc"]
    truth = Affine(tuple(raw["matrix"]), tuple(raw["shift_um"]))
    rows, columns = np.nonzero(tissue.mask)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1)[::97] * tissue.mpp
    error: NDArray[np.float64] = np.linalg.norm(
        found.mapping.forward(points) - truth.apply(points), axis=1
    )
    return error


@pytest.mark.parametrize(("seed", "score"), [(1, "0"), (2, "3+")])
def test_turned_and_shifted_section_with_control_tissue(
    seed: int, score: str, tmp_path: Path
) -> None:
    case = synthesize_case(
        tmp_path, seed=seed, score=score, width_px=4096, height_px=3072, rotation_degrees=180
    )
    (he, he_tissue), (ihc, ihc_tissue) = thumbnails(case)
    found = align(he, he_tissue, ihc, ihc_tissue, he_tissue.mpp)
    assert np.median(errors_um(found, case, he_tissue)) < 20
    assert found.error_um < 20
    assert found.overlap > 0.8
    assert found.agreement > 2 * Review().min_agreement
    again = align(he, he_tissue, ihc, ihc_tissue, he_tissue.mpp)
    points = np.random.default_rng(0).uniform(0, 900, (50, 2))
    # Equal slides, equal result.
    assert np.array_equal(found.mapping.forward(points), again.mapping.forward(points))
    assert (found.error_um, found.agreement) == (again.error_um, again.agreement)


def test_another_blocks_slide_does_not_fit(
    small_case: SyntheticCase, other_case: SyntheticCase
) -> None:
    (he, he_tissue), _ = thumbnails(small_case)
    _, (ihc, ihc_tissue) = thumbnails(other_case)
    found = align(he, he_tissue, ihc, ihc_tissue, he_tissue.mpp)
    assert found.agreement < Review().min_agreement


REAL_MPP = 0.46


def real_field(folder: Path, name: str, stain: str) -> NDArray[np.uint8]:
    image = cv2.cvtColor(cv2.imread(str(folder / "her2_pairs" / f"{name}_{stain}.png")), 4)
    return image.astype(np.uint8)


def aligned_fields(
    he: NDArray[np.uint8], her2: NDArray[np.uint8], degrees: float
) -> tuple[Alignment, float]:
    """Align a crop of the H&E field with the rotated HER2 field; also the median error in µm."""
    top, left, side = 100, 60, 1500
    he = he[top:900, left:980]
    glass = np.percentile(her2, 99.5, axis=(0, 1)).tolist()
    turn = cv2.getRotationMatrix2D((511.5, 511.5), -degrees, 1.0)
    turn[:, 2] += (side / 2 - 480, side / 2 - 540)
    her2 = cv2.warpAffine(her2, turn, (side, side), borderValue=glass)
    images = [
        cv2.resize(image, None, fx=REAL_MPP, fy=REAL_MPP, interpolation=cv2.INTER_AREA)
        for image in (he, her2)
    ]
    tissues = [find_tissue(image, 1.0) for image in images]
    found = align(images[0], tissues[0], images[1], tissues[1], 1.0)
    px = np.random.default_rng(3).uniform((100, 100), (820, 700), (200, 2))
    truth = np.column_stack([px + np.array([left, top]), np.ones(len(px))]) @ turn.T
    there = found.mapping.forward((px + 0.5) * REAL_MPP)
    error = float(np.median(np.linalg.norm(there - (truth + 0.5) * REAL_MPP, axis=1)))
    return found, error


@pytest.mark.parametrize(
    ("name", "degrees"),
    [
        ("bci-00672_3+", 0.0),
        ("bci-00672_3+", 35.0),
        ("bci-00672_3+", -120.0),
        ("bci-00672_3+", 170.0),
        # Faintly stained and solid to every edge: nothing but single nuclei to go by.
        ("bci-00901_1+", 170.0),
    ],
)
def test_real_fields_cut_and_turned_are_found_again(real: Path, name: str, degrees: float) -> None:
    he, her2 = (real_field(real, name, stain) for stain in ("he", "her2"))
    found, error = aligned_fields(he, her2, degrees)
    assert error < 20
    assert found.agreement > Review().min_agreement


@pytest.mark.parametrize("name", ["bci-00672_3+", "bci-00901_1+"])
def test_real_fields_that_lie_on_each_other_are_left_there(
    real: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutual information alone lays the faint field face down; no search of angles is needed."""

    def searched(*_: object) -> None:
        raise AssertionError("all angles were searched")

    monkeypatch.setattr(placing, "pose_by_nuclei", searched)
    fields = (real_field(real, name, stain)[324:, 324:] for stain in ("he", "her2"))
    he, her2 = (
        cv2.resize(field, None, fx=REAL_MPP, fy=REAL_MPP, interpolation=cv2.INTER_AREA)
        for field in fields
    )
    found = align(he, find_tissue(he, 1.0), her2, find_tissue(her2, 1.0), 1.0)
    points = np.random.default_rng(3).uniform(20, 700 * REAL_MPP - 20, (200, 2))
    assert np.median(np.linalg.norm(found.mapping.forward(points) - points, axis=1)) < 5
    assert not found.mirrored
    assert found.agreement > Review().min_agreement


@pytest.mark.parametrize(
    ("one", "other"), [("bci-00672_3+", "bci-00901_1+"), ("bci-00901_1+", "bci-00672_3+")]
)
def test_real_fields_of_two_patients_do_not_match(real: Path, one: str, other: str) -> None:
    """Single nuclei agree somewhere in any tissue, so the best angle must stand out."""
    found, _ = aligned_fields(real_field(real, one, "he"), real_field(real, other, "her2"), 35.0)
    assert found.agreement < Review().min_agreement


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-180, 180),
    st.floats(-400, 400),
    st.floats(-400, 400),
    st.floats(0.97, 1.03),
    st.integers(0, 2**16),
)
def test_mapping_is_one_to_one(
    degrees: float, dx: float, dy: float, scale: float, seed: int
) -> None:
    """Eq. 3-4: no two H&E tiles map to one IHC tile, and the inverse undoes the map."""
    rng = np.random.default_rng(seed)
    he_grid, ihc_grid = TileGrid(12, 9), TileGrid(13, 10)
    turn = Affine.rotation(degrees, (6 * TILE_UM, 4.5 * TILE_UM))
    a, b, c, d = (scale * v for v in turn.matrix)
    affine = Affine((a, b, c, d), (turn.shift_um[0] + dx, turn.shift_um[1] + dy))
    tumor = rng.random(he_grid.shape).astype(np.float32)
    tissue = (rng.random(ihc_grid.shape) < 0.8).astype(np.float32)
    plan = map_tumor(tumor, SlideMapping.of(affine), he_grid, ihc_grid, tissue, threshold=0.5)
    partners = list(plan.partner.values())
    assert len(set(partners)) == len(partners)
    inverse = {he: ihc for ihc, he in plan.partner.items()}
    assert all(inverse[plan.partner[ihc]] == ihc for ihc in plan.ihc_tiles)
    assert len(partners) + len(plan.unscored_he) == int((tumor >= 0.5).sum())
    centers = affine.apply(he_grid.centers_um())
    for ihc, he in plan.partner.items():
        place = centers[he.row, he.column] / TILE_UM - 0.5
        assert np.hypot(place[0] - ihc.column, place[1] - ihc.row) <= 1.0
        assert tissue[ihc.row, ihc.column] > 0


def test_two_levels_of_a_biopsy_are_scored_once() -> None:
    """The H&E slide has the same tissue twice, the IHC slide once."""
    he_grid, ihc_grid = TileGrid(20, 8), TileGrid(10, 8)
    tumor = np.full(he_grid.shape, np.nan, dtype=np.float32)
    tumor[2:6, 3:7] = tumor[2:6, 13:17] = 0.9
    shift = Affine((1.0, 0.0, 0.0, 1.0), (-10 * TILE_UM + 40, 25.0))
    labels = np.ones(he_grid.shape, dtype=np.uint8)
    labels[:, 10:] = 2
    pieces = (Piece.rigid(Affine.identity()), Piece.rigid(shift))
    mapping = SlideMapping(pieces=pieces, labels=labels, labels_mpp=TILE_UM)
    tissue = np.ones(ihc_grid.shape, dtype=np.float32)
    plan = map_tumor(tumor, mapping, he_grid, ihc_grid, tissue, threshold=0.5)
    assert set(plan.ihc_tiles) == {TileIndex(c, r) for c in range(3, 7) for r in range(2, 6)}
    assert plan.unscored_he == ()
    tumor[3, 18] = 0.9  # the second level has a focus that the first one lacks
    plan = map_tumor(tumor, mapping, he_grid, ihc_grid, tissue, threshold=0.5)
    assert set(plan.ihc_tiles) > {TileIndex(8, 3)} and len(plan.ihc_tiles) == 17


def test_identity_maps_each_tile_to_itself_and_control_tissue_has_no_partner() -> None:
    grid = TileGrid(6, 5)
    tumor = np.full(grid.shape, np.nan, dtype=np.float32)
    tumor[1:4, 2:5] = 0.9
    tissue = np.ones(grid.shape, dtype=np.float32)
    mapping = SlideMapping.of(Affine.identity())
    plan = map_tumor(tumor, mapping, grid, grid, tissue, threshold=0.5)
    assert all(ihc == he for ihc, he in plan.partner.items())
    assert len(plan.ihc_tiles) == 9
    assert all(index.column >= 2 for index in plan.ihc_tiles)  # column 0: control tissue


def test_the_margin_is_tissue_around_the_tumor_and_is_not_scored() -> None:
    grid = TileGrid(8, 6)
    tumor = np.full(grid.shape, np.nan, dtype=np.float32)
    tumor[2, 3:5] = 0.9
    tissue = np.ones(grid.shape, dtype=np.float32)
    tissue[:, 2] = 0
    mapping = SlideMapping.of(Affine.identity())
    plan = map_tumor(tumor, mapping, grid, grid, tissue, threshold=0.5, margin_tiles=1)
    assert set(plan.ihc_tiles) == {TileIndex(3, 2), TileIndex(4, 2)} == set(plan.partner)
    around = {TileIndex(c, r) for r in (1, 2, 3) for c in (3, 4, 5)} - set(plan.ihc_tiles)
    assert set(plan.margin) == around
    assert map_tumor(tumor, mapping, grid, grid, tissue, threshold=0.5).margin == ()
    whole = map_tumor(tumor, mapping, grid, grid, tissue, threshold=0.5, margin_tiles=None)
    assert whole.ihc_tiles == plan.ihc_tiles
    others = {TileIndex(c, r) for r in range(6) for c in (0, 1, 3, 4, 5, 6, 7)}
    assert set(whole.margin) == others - set(plan.ihc_tiles)
    assert list(whole.margin) == sorted(whole.margin, key=lambda tile: (tile.row, tile.column))
