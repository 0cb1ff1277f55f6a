"""Control tissue: found where the H&E slide has no partner, judged by its strongest part."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, Affine, TileGrid, TileIndex
from appliance.readers.control import ControlTissue, find_control, judge_control
from appliance.registration.mapping import Piece, SlideMapping
from appliance.slides.tissue import Tissue

MPP = 8.0


def tissue(*discs: tuple[float, float, float]) -> Tissue:
    """Return discs (x, y, radius in µm) on a slide of 8 x 6 mm."""
    mask = np.zeros((750, 1000), dtype=np.uint8)
    for x, y, radius in discs:
        cv2.circle(mask, (round(x / MPP), round(y / MPP)), round(radius / MPP), 1, -1)
    return Tissue(mask=mask > 0, mpp=MPP, white_rgb=(240, 240, 240), area_mm2=0.0)


NO_PEN = np.zeros((750, 1000), dtype=bool)


def found(
    he: Tissue,
    ihc: Tissue,
    shift_um: tuple[float, float] = (0.0, 0.0),
    pen: NDArray[np.bool_] = NO_PEN,
) -> ControlTissue:
    mapping = SlideMapping.of(Affine((1.0, 0.0, 0.0, 1.0), shift_um))
    return find_control(mapping, he, ihc, pen)


def counts(grade: int, stained: float = 0.5) -> NDArray[np.int64]:
    px = np.zeros(5, dtype=np.int64)
    px[grade + 1], px[0] = round(1000 * stained), round(1000 * (1 - stained))
    return px


def test_what_the_ihc_slide_alone_shows_is_control_tissue() -> None:
    section, core = (4000.0, 3000.0, 1500.0), (900.0, 1000.0, 400.0)
    control = found(tissue(section), tissue(section, core))
    assert control.area_mm2 == pytest.approx(np.pi * 0.4**2, rel=0.05)
    assert control.pieces[round(1000 / MPP), round(900 / MPP)]
    assert not control.pieces[round(3000 / MPP), round(4000 / MPP)]


def test_the_section_is_no_control_where_the_mapping_puts_it() -> None:
    he, ihc = tissue((4000, 3000, 1000)), tissue((6000, 3500, 1000))
    assert found(he, ihc, (2000.0, 500.0)).area_mm2 == 0
    # Without the shift the H&E section lies elsewhere, and all tissue would be without partner.
    assert found(he, ihc).area_mm2 > 3


def test_a_piece_that_lies_elsewhere_on_the_ihc_slide_is_no_control() -> None:
    """Core biopsies drift apart on the slide: the second lies nearer to the first's H&E place."""
    he = tissue((2000, 3000, 600), (6000, 3000, 600))
    ihc = tissue((2000, 3000, 600), (3900, 3000, 600))
    labels = np.ones((6, 8), dtype=np.uint8)
    labels[:, 4:] = 2
    mapping = SlideMapping(
        pieces=(
            Piece.rigid(Affine.identity()),
            Piece.rigid(Affine((1.0, 0.0, 0.0, 1.0), (-2100.0, 0.0))),
        ),
        labels=labels,
        labels_mpp=1000.0,
    )
    assert find_control(mapping, he, ihc, NO_PEN).area_mm2 == 0
    # A piece that the IHC slide lacks claims no other tissue.
    lost = SlideMapping(
        pieces=mapping.pieces[:1], labels=np.where(labels == 2, 0, labels), labels_mpp=1000.0
    )
    core = find_control(lost, he, tissue((2000, 3000, 600), (6000, 1000, 300)), NO_PEN)
    assert core.area_mm2 == pytest.approx(np.pi * 0.3**2, rel=0.05)


def test_pen_on_the_glass_is_no_control_tissue() -> None:
    section, stroke = tissue((4000, 3000, 1500)), tissue((900, 1000, 400))
    both = tissue((4000, 3000, 1500), (900, 1000, 400))
    assert found(section, both, pen=stroke.mask).area_mm2 == 0


def test_a_small_core_across_four_tiles_is_read() -> None:
    grid = TileGrid.of(8000.0, 6000.0)
    corner = 7 * TILE_UM
    core = found(tissue(), tissue((corner, corner, 95)))
    assert 0.02 < core.area_mm2 < 0.033
    assert core.tiles(grid)


def test_only_control_px_of_a_tile_count() -> None:
    labels = np.full((128, 128), 4, dtype=np.uint8)
    labels[32:96, 32:96] = 1
    disc = tissue((7.5 * TILE_UM, 7.5 * TILE_UM, 50)).mask.astype(np.int32)
    inside = ControlTissue(pieces=disc, mpp=MPP).within(TileIndex(7, 7), labels)
    assert inside.size == pytest.approx(np.pi * 50**2 / TILE_UM**2 * 128**2, rel=0.15)
    assert (inside == 1).mean() == pytest.approx(64**2 / inside.size, abs=0.02)
    assert ControlTissue(pieces=disc, mpp=MPP).within(TileIndex(0, 0), labels).size == 0


def test_crumbs_and_ragged_rims_are_no_control_tissue() -> None:
    section = (4000.0, 3000.0, 1500.0)
    assert found(tissue(section), tissue((4000, 3000, 1560), (900, 900, 70))).area_mm2 == 0


def test_few_tiles_stand_for_much_control_tissue() -> None:
    grid = TileGrid.of(8000.0, 6000.0)
    core = found(tissue(), tissue((1000, 1000, 110)))
    assert 1 <= len(core.tiles(grid)) <= 4
    assert all(abs(tile.column - 7) <= 1 and abs(tile.row - 7) <= 1 for tile in core.tiles(grid))
    large = found(tissue(), tissue((4000, 3000, 2500))).tiles(grid)
    assert 33 <= len(large) <= 64
    rows = [tile.row for tile in large]
    assert rows == sorted(rows) and max(rows) - min(rows) > 28
    assert ControlTissue(pieces=np.zeros((9, 9), dtype=np.int32), mpp=MPP).tiles(grid) == ()
    assert isinstance(large[0], TileIndex)


def test_a_run_worked_when_the_strongest_part_is_strong() -> None:
    works = judge_control(0.1, [counts(3), counts(0), counts(0)], 3)
    assert works is not None and works.works and works.strongest == "3+"
    assert works.percent["0"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(("grade", "strongest"), [(0, "0"), (1, "1+"), (2, "2+")])
def test_a_weak_run_failed(grade: int, strongest: str) -> None:
    failed = judge_control(0.1, [counts(grade), counts(0)], 3)
    assert failed is not None and not failed.works and failed.strongest == strongest
    # A site whose strongest control is weaker sets the class.
    weaker = judge_control(0.1, [counts(grade), counts(0)], grade)
    assert weaker is not None and weaker.works


def test_a_stray_tile_or_stray_px_do_not_make_a_run_work() -> None:
    stray = judge_control(1.0, [counts(3)] + [counts(0)] * 19, 3)
    assert stray is not None and not stray.works
    px = judge_control(1.0, [counts(0) + counts(3, 0.05)] * 5, 3)
    assert px is not None and not px.works


def test_no_control_tissue_says_nothing() -> None:
    assert judge_control(0.0, [], 3) is None
    assert judge_control(0.1, [np.zeros(5, dtype=np.int64)], 3) is None
    blank = judge_control(0.1, [counts(0, 0.0)] * 3, 3)
    assert blank is not None and not blank.works and blank.strongest == "0"
    # Tiles without control tissue do not count.
    mixed = judge_control(0.1, [np.zeros(5, dtype=np.int64), counts(0)], 3)
    assert mixed is not None and mixed.tiles == 1 and not mixed.works
