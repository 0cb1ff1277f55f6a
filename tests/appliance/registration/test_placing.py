"""Placing of pieces: a crumb that the IHC slide lacks is given no place on other tissue."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.assays.slide_reasons import alignment_reasons
from appliance.errors import AlignmentError
from appliance.geometry import Affine
from appliance.registration.alignment import METHOD, Alignment, measured
from appliance.registration.mapping import Piece
from appliance.registration.picture import Picture
from appliance.registration.pieces import MOST_PIECES, Part, pieces_of
from appliance.registration.placing import Placed, bend_all, place_pieces
from appliance.registration.votes import Votes
from appliance.settings.scoring import Review

MPP = 4.5
SHAPE = (700, 900)


def texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Structure of random tissue, 0-1."""
    layers = [
        cv2.GaussianBlur(rng.normal(0, 1, SHAPE).astype(np.float32), (0, 0), s) * s
        for s in (1.2, 3, 8)
    ]
    total = np.sum(layers, axis=0)
    found: NDArray[np.float32] = (total - total.mean()) / total.std() * 0.15 + 0.4
    return np.clip(found, 0.05, 1).astype(np.float32)


def disc(x: int, y: int, radius_um: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    inside: NDArray[np.bool_] = (columns - x) ** 2 + (rows - y) ** 2 <= (radius_um / MPP) ** 2
    return inside


def picture(structure: NDArray[np.float32], mask: NDArray[np.bool_]) -> Picture:
    layers = np.stack([structure * mask, mask.astype(np.float32)], axis=2)
    return Picture(layers=layers.astype(np.float32), mask=mask, mpp=MPP)


@pytest.mark.parametrize("seed", [4, 20, 21])
def test_a_crumb_that_the_ihc_slide_lacks_is_not_laid_on_control_tissue(seed: int) -> None:
    """Coarse patches find the crumb (0.31 mm²) of these seeds somewhere on other tissue."""
    rng = np.random.default_rng(seed)
    section, crumb, core = (texture(rng) for _ in range(3))
    large, small, control = disc(350, 350, 990), disc(800, 120, 314), disc(800, 560, 502)
    he = picture(np.where(small, crumb, section), large | small)
    noise = rng.normal(0, 0.05, SHAPE).astype(np.float32)
    ihc = picture(np.where(control, core, section + noise), large | control)
    coarse = place_pieces(he, ihc, pieces_of(he))
    assert [each.piece is not None for each in coarse] == [True, True]
    fine = bend_all(he, ihc, coarse)
    assert [each.piece is not None for each in fine] == [True, False]


def test_a_crumb_that_is_there_is_found(seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    section, crumb = texture(rng), texture(rng)
    large, small, there = disc(350, 350, 990), disc(800, 120, 314), disc(780, 540, 314)
    he = picture(np.where(small, crumb, section), large | small)
    moved = np.roll(crumb, (420, -20), axis=(0, 1))
    noise = rng.normal(0, 0.05, SHAPE).astype(np.float32)
    ihc = picture(np.where(there, moved, section) + noise, large | there)
    fine = bend_all(he, ihc, place_pieces(he, ihc, pieces_of(he)))
    assert all(each.piece is not None for each in fine)
    piece = fine[1].piece
    assert piece is not None
    center = piece.forward(np.array([[800.5, 120.5]]) * MPP) / MPP
    assert np.abs(center - (780.5, 540.5)).max() < 3


def test_a_crumb_is_not_laid_on_control_tissue_of_its_own_outline(seed: int = 4) -> None:
    rng = np.random.default_rng(seed)
    section, crumb, core = (texture(rng) for _ in range(3))
    large, small, control = disc(350, 350, 990), disc(800, 120, 314), disc(800, 560, 314)
    he = picture(np.where(small, crumb, section), large | small)
    noise = rng.normal(0, 0.05, SHAPE).astype(np.float32)
    ihc = picture(np.where(control, core, section + noise), large | control)
    fine = bend_all(he, ihc, place_pieces(he, ihc, pieces_of(he)))
    assert [each.piece is not None for each in fine] == [True, False]


@pytest.mark.parametrize("seed", [0, 3])
def test_other_tissue_of_a_pieces_outline_is_not_taken_for_it(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a quarter of the fine patches of seed 0 agree, and none of seed 3."""
    monkeypatch.setattr(sys.modules[__name__], "SHAPE", (800, 1300))
    rng = np.random.default_rng(seed)
    section, fragment, other = (texture(rng) for _ in range(3))
    large, second, there = disc(380, 400, 1500), disc(1040, 400, 950), disc(1055, 415, 950)
    he = picture(np.where(second, fragment, section), large | second)
    noise = rng.normal(0, 0.05, SHAPE).astype(np.float32)
    same = np.roll(fragment, (15, 15), axis=(0, 1)) * 0.6 + other * 0.4
    for tissue, placed in ((other, [True, False]), (same, [True, True])):
        shown = np.where(there, tissue, section + noise).astype(np.float32)
        ihc = picture(shown, large | there)
        fine = bend_all(he, ihc, place_pieces(he, ihc, pieces_of(he)))
        assert [each.piece is not None for each in fine] == placed
        found = measured(fine, he, ihc, METHOD)
        assert found.lost_mm2 == pytest.approx(0 if all(placed) else 2.84, abs=0.02)


def aligned(he: Picture, ihc: Picture) -> Alignment:
    return measured(bend_all(he, ihc, place_pieces(he, ihc, pieces_of(he))), he, ihc, METHOD)


def test_single_fragments_of_two_blocks_are_never_taken_for_one(seed: int = 15) -> None:
    """Their outlines agree, by more than `min_agreement` asks for; the tissue within does not."""
    rng = np.random.default_rng(seed)
    one, other = texture(rng), texture(rng)
    here, there = disc(300, 200, 400), disc(340, 230, 400)
    mixed = aligned(picture(one, here), picture(other, there))
    assert mixed.agreement > 0.4
    assert "match-unsure" in [reason.code for reason in alignment_reasons(Review(), mixed)]
    again = np.roll(one, (30, 40), axis=(0, 1)) + rng.normal(0, 0.05, SHAPE).astype(np.float32)
    right = aligned(picture(one, here), picture(again, there))
    assert right.inside > 0.9 and alignment_reasons(Review(), right) == ()


@pytest.mark.parametrize("seed", [0, 3])
def test_round_tissue_of_two_blocks_does_not_match_where_fine_patches_reject_it(seed: int) -> None:
    """Most coarse patches of 4.5 mm² lie at the rim: 12 and 14 of 28 agree by the outline."""
    rng = np.random.default_rng(seed)
    one, other = texture(rng), texture(rng)
    here, there = disc(330, 330, 1200), disc(420, 370, 1200)
    mixed = aligned(picture(one, here), picture(other, there))
    assert mixed.agreement < 0.2
    assert "slides-do-not-match" in [each.code for each in alignment_reasons(Review(), mixed)]


def test_round_tissue_of_one_block_keeps_its_place(seed: int = 0) -> None:
    """Two fifths of what the second section shows are its own."""
    rng = np.random.default_rng(seed)
    one, own = texture(rng), texture(rng)
    here, there = disc(330, 330, 1200), disc(420, 370, 1200)
    again = np.roll(one, (40, 90), axis=(0, 1)) * 0.6 + own * 0.4
    right = aligned(picture(one, here), picture(again.astype(np.float32), there))
    center = right.mapping.forward(np.array([[330.5, 330.5]]) * MPP) / MPP
    assert np.abs(center - (420.5, 370.5)).max() < 2
    assert alignment_reasons(Review(), right) == ()


def test_the_largest_piece_is_the_main_one_whatever_glass_lies_around_a_crumb(
    tmp_path: Path,
) -> None:
    large, crumb = disc(180, 350, 780), disc(480, 350, 330)  # 1.91 and 0.34 mm²
    he = picture(texture(np.random.default_rng(1)), large | crumb)
    parts = pieces_of(he)
    level, flipped = Affine.identity(), Affine((-1.0, 0.0, 0.0, 1.0), (3000.0, 0.0))
    for poses, mirrored in (
        ((flipped, level), True),
        ((level, flipped), True),
        ((level,) * 2, False),
    ):
        placed = [
            Placed(part, Piece.rigid(pose), no_votes(pose))
            for part, pose in zip(parts, poses, strict=True)
        ]
        measured(placed, he, he, METHOD).save(tmp_path)
        found = Alignment.load(tmp_path)
        assert (found.mapping.main, found.mirrored) == (poses[0], mirrored)
        assert np.bincount(found.mapping.labels.ravel())[1:].argmax() == 1


def no_votes(start: Affine) -> Votes:
    none = np.zeros((0, 2))
    odd = np.zeros(0, dtype=bool)
    return Votes(
        tried_um=np.zeros((9, 2)),
        reach_um=60.0,
        start=start,
        few=True,
        patch_um=280.0,
        he_um=none,
        ihc_um=none,
        odd=odd,
    )


def moved(structure: NDArray[np.float32], x: int, y: int) -> NDArray[np.float32]:
    """The structure, moved by px, as the next section shows it."""
    noise = np.random.default_rng(99).normal(0, 0.05, structure.shape)
    found: NDArray[np.float32] = (np.roll(structure, (y, x), axis=(0, 1)) + noise).astype(
        np.float32
    )
    return found


@pytest.mark.parametrize("there", [True, False])
def test_the_torn_half_of_a_section_is_placed_on_its_own_or_stays(there: bool) -> None:
    """The halves lie 0.4 mm apart; where the right one is not itself, it is placed by the rest."""
    rng = np.random.default_rng(7)
    section, other = texture(rng), texture(rng)
    whole = disc(350, 350, 1450)
    left = whole & (np.arange(SHAPE[1]) < 370)
    right = np.roll(whole & ~left, 90, axis=1)
    shown = np.where(right, moved(section if there else other, 90, 0), moved(section, 0, 0))
    found = aligned(picture(section, whole), picture(shown, left | right))
    places = np.array([[250.5, 350.5], [530.5, 350.5]])
    goal = found.mapping.forward(places * MPP) / MPP - places
    assert np.abs(goal[0]).max() < 2
    assert np.abs(goal[1] - ((90, 0) if there else (0, 0))).max() < (2 if there else 10)
    assert found.lost_mm2 < 0.1
    assert "slides-do-not-match" not in [r.code for r in alignment_reasons(Review(), found)]


def test_a_region_unlike_its_own_level_is_not_laid_on_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both slides show two levels of a block; half of one differs on the IHC slide."""
    monkeypatch.setattr(sys.modules[__name__], "SHAPE", (600, 1150))
    rng = np.random.default_rng(1)
    section, own, other = (texture(rng) for _ in range(3))
    one = disc(280, 300, 1150)
    two, right = np.roll(one, 570, axis=1), one & (np.arange(SHAPE[1]) >= 310)
    section = np.where(two, np.roll(section, 570, axis=1) * 0.75 + own * 0.25, section)
    shown = moved(np.where(right, other, section), 0, 0)
    found = aligned(picture(section.astype(np.float32), one | two), picture(shown, one | two))
    places = np.array([[180.5, 300.5], [420.5, 300.5], [750.5, 300.5], [990.5, 300.5]])
    goal = found.mapping.forward(places * MPP) / MPP
    assert np.abs(goal - places).max() < 10


def test_the_torn_half_of_a_level_is_found_for_both_levels_of_the_he_slide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The IHC slide shows one level, in two halves 0.4 mm apart: both levels have that place."""
    monkeypatch.setattr(sys.modules[__name__], "SHAPE", (600, 1150))
    section = texture(np.random.default_rng(1))
    one = disc(280, 300, 1150)
    two, left = np.roll(one, 570, axis=1), one & (np.arange(SHAPE[1]) < 290)
    right = np.roll(one & ~left, 90, axis=1)
    shown = np.where(right, moved(section, 90, 0), moved(section, 0, 0))
    section = np.where(two, np.roll(section, 570, axis=1), section)
    found = aligned(picture(section, one | two), picture(shown, left | right))
    places = np.array([[180.5, 300.5], [420.5, 300.5], [750.5, 300.5], [990.5, 300.5]])
    goal = found.mapping.forward(places * MPP) / MPP - places
    assert np.abs(goal - [(0, 0), (90, 0), (-570, 0), (-480, 0)]).max() < 3


def test_a_region_where_nothing_is_to_be_seen_keeps_its_place(seed: int = 8) -> None:
    """A lake of mucin (3.1 mm²), with no structure but each section's own faint noise."""
    rng = np.random.default_rng(seed)
    section, whole, lake = texture(rng), disc(350, 350, 1450), disc(350, 350, 1000)
    pair = [
        picture(np.where(lake, 0.3 + rng.normal(0, 0.01, SHAPE), shown).astype(np.float32), whole)
        for shown in (section, moved(section, 0, 0))
    ]
    found = aligned(*pair)
    assert found.lost_mm2 == 0
    center = np.array([[350.5, 350.5]]) * MPP
    assert np.abs(found.mapping.forward(center) - center).max() < 30


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_straight_core_along_the_slide_is_found(mirrored: bool) -> None:
    """All patches of a core (0.4 x 3.6 mm) lie on one line; its face is that of the pose."""
    section = texture(np.random.default_rng(6))
    core = np.zeros(SHAPE, dtype=bool)
    core[300:388, 50:850] = True
    he, ihc = picture(section, core), picture(moved(section, 0, 0), core)
    if mirrored:
        ihc = Picture(layers=ihc.layers[:, ::-1].copy(), mask=ihc.mask[:, ::-1].copy(), mpp=MPP)
    found = aligned(he, ihc)
    assert alignment_reasons(Review(), replace(found, mirrored=False)) == ()
    assert found.agreement > 0.8 and found.mirrored == mirrored
    places = np.array([[100.5, 320.5], [450.5, 344.5], [800.5, 370.5]])
    goal = places * (-1, 1) + (SHAPE[1], 0) if mirrored else places
    assert np.abs(found.mapping.forward(places * MPP) / MPP - goal).max() < 3


def test_small_cores_are_told_from_the_fragments_of_a_curettage() -> None:
    """110 areas each: cores of 0.6 mm are alike, fragments are not."""
    rng = np.random.default_rng(2)

    def section(sizes: NDArray[np.int64]) -> Picture:
        mask = np.zeros((11 * 190, 10 * 190), dtype=bool)
        for number, size in enumerate(sizes.tolist()):
            row, column = divmod(number, 10)
            core = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(bool)
            mask[row * 190 : row * 190 + size, column * 190 : column * 190 + size] = core
        return Picture(layers=np.dstack([mask, mask]).astype(np.float32), mask=mask, mpp=MPP)

    with pytest.raises(AlignmentError, match=r"110 pieces of tissue.* microarray"):
        pieces_of(section(rng.integers(125, 133, 110)))
    assert len(pieces_of(section(rng.integers(80, 137, 110)))) == 1
    islands = section(rng.integers(125, 133, 110))
    beside = np.ones((1200, islands.mask.shape[1]), dtype=bool)
    beside[-60:] = False
    mask = np.vstack([beside, islands.mask])
    resection = Picture(layers=np.dstack([mask, mask]).astype(np.float32), mask=mask, mpp=MPP)
    assert len(pieces_of(resection)) == 1


def test_a_tissue_microarray_is_no_block() -> None:
    """Its cores are of many patients."""
    core = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (149, 149))  # 0.35 mm²
    mask = np.tile(np.pad(core, 40), (11, 10)).astype(bool)
    layers = np.stack([mask, mask], axis=2).astype(np.float32)
    with pytest.raises(AlignmentError, match=f"110 pieces of tissue, more than {MOST_PIECES}"):
        pieces_of(Picture(layers=layers, mask=mask, mpp=MPP))


def test_the_parts_of_a_section_are_its_tissue() -> None:
    large, small = disc(350, 350, 990), disc(800, 120, 314)
    pieces = pieces_of(picture(texture(np.random.default_rng(1)), large | small))
    assert [(part.mask() == mask).all() for part, mask in zip(pieces, (large, small), strict=True)]
    assert sum(part.inside.nbytes for part in pieces) < (large | small).nbytes
    nothing = Part.of(np.zeros(SHAPE, dtype=bool))
    assert not nothing.mask().any() and nothing.mask().shape == SHAPE
