"""Pictures of a case: what they show, where, and what they are called."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from fixtures.findings import some_findings

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery.pictures.case import OTHER, PicturedCase, words_of
from appliance.delivery.pictures.choice import BLOCK_TILES, chosen_blocks, chosen_tiles
from appliance.delivery.pictures.drawing import CAPTION, MARGIN, TITLE, View, framed, picture
from appliance.delivery.pictures.layers import with_attention, with_classes
from appliance.delivery.pictures.whole import slide_picture
from appliance.findings.findings import Findings
from appliance.findings.measured import TileFinding
from appliance.findings.overlay import OUTLINE, PROBABILITY_COLORS
from appliance.geometry import TILE_UM, TileIndex

CLASSES = HER2_ASSAY.classes
GRAY = np.full((64, 64, 3), 128, dtype=np.uint8)


@cache
def known() -> Findings:
    return some_findings()


def tile(column: int, row: int, percent: tuple[float, ...], **facts: object) -> TileFinding:
    grade = int(np.argmax(percent)) if sum(percent) else 0
    places = {"column": column, "row": row, "he_column": column + 2, "he_row": row + 1}
    return replace(known().tiles[0], **places | {"percent": percent, "grade": grade} | facts)


def case_of(*tiles: TileFinding) -> PicturedCase:
    findings = replace(known(), tiles=tiles or known().tiles)
    return PicturedCase(name="case-7", findings=findings, assay=HER2_ASSAY)


def test_tiles_with_most_of_their_class_are_shown_and_some_without_tumor() -> None:
    tiles = [tile(10 + k, 12, (0.0, 40.0 + k, 0.0, 0.0)) for k in range(4)]
    strong = tile(20, 20, (5.0, 0.0, 0.0, 60.0))
    nothing = [tile(30 + k, 9, (0.0,) * 4, label="N") for k in range(3)]
    case = case_of(strong, *tiles, *nothing)
    shown = [TileIndex(13, 12), TileIndex(12, 12), TileIndex(20, 20)]
    assert chosen_tiles(case, "ihc") == [*shown, TileIndex(30, 9), TileIndex(31, 9)]
    partners = chosen_tiles(case, "he")
    assert partners[:3] == [TileIndex(index.column + 2, index.row + 1) for index in shown]
    said = [words_of(case, "he", index)[0] for index in partners[3:]]
    assert [words[0] for words in said] == ["N", "N"] and all("no tumor 0.0" in w for _, w in said)


def test_words_are_the_papers_label_and_what_each_network_says() -> None:
    scored = tile(20, 16, (20.0, 20.0, 50.0, 10.0), label="NFWS/2+", intensity=3)
    bare = tile(5, 5, (0.0,) * 4, label="N")
    case = case_of(scored, bare)
    weak = CLASSES[2].color
    assert words_of(case, "ihc", TileIndex(20, 16)) == (("NFWS/2+", "M 2+, L strong"), weak)
    assert words_of(case, "ihc", TileIndex(5, 5)) == (("N",), OTHER)
    assert words_of(case, "ihc", TileIndex(0, 0)) == ((), OTHER)
    words, color = words_of(case, "he", TileIndex(22, 17))
    assert (words[0], color) == ("NFWS/2+", OUTLINE) and words[1].startswith("tumor ")
    # Tumor that no tile of the target slide belongs to is not called free of tumor.
    words, color = words_of(case, "he", TileIndex(18, 16))
    assert (words[0], color) == ("no pair", OTHER) and words[1].startswith("tumor ")


def test_blocks_are_of_144_tiles_and_lie_on_the_same_tissue_of_both_slides() -> None:
    few = [tile(2, 3, (50.0, 0.0, 0.0, 0.0))]
    many = [tile(12 + k, 13, (50.0, 0.0, 0.0, 0.0)) for k in range(5)]
    empty = [tile(26 + k, 2, (0.0,) * 4) for k in range(9)]
    case = case_of(*few, *many, *empty)
    first, second = chosen_blocks(case, "ihc")
    assert (first.number, first.first) == (1, TileIndex(12, 12))
    assert (second.number, second.first) == (2, TileIndex(0, 0))
    assert len(first.tiles()) == 144 and first.tiles()[-1] == TileIndex(23, 23)
    assert chosen_blocks(case, "he")[0].first == TileIndex(14, 13)
    assert chosen_blocks(case_of(replace(few[0], row=31)), "ihc")[0].rows < BLOCK_TILES
    nothing = PicturedCase(
        name="case-7", findings=replace(case.findings, tiles=()), assay=HER2_ASSAY
    )
    assert chosen_blocks(nothing, "ihc") == []


def test_classes_lie_where_the_label_map_has_them_and_end_with_the_slide() -> None:
    case = case_of()
    labels = np.zeros_like(case.findings.rasters.ihc_classes)
    mpp = case.findings.rasters.ihc_mpp
    middle = round((20.5 * TILE_UM) / mpp)
    labels[:, :middle] = 4
    rasters = replace(case.findings.rasters, ihc_classes=labels)
    case = replace(case, findings=replace(case.findings, rasters=rasters))
    shown = with_classes(case, GRAY, TileIndex(20, 16), (1, 1))
    assert (shown[:, :31] != 128).any(axis=-1).all()  # the left half is 3+
    assert (shown[:, 33:] == 128).all()
    toward = np.sign(shown[0, 0].astype(int) - 128)
    assert (toward == np.sign(np.array(CLASSES[3].color) - 128)).all()
    labels[:] = 4
    bottom = int(case.findings.ihc.size_um[1] / TILE_UM)
    shown = with_classes(case, GRAY, TileIndex(20, bottom), (1, 1))
    on_slide = 64 * (case.findings.ihc.size_um[1] / TILE_UM - bottom)
    assert (shown[: int(on_slide) - 1] != 128).any()
    assert (shown[int(on_slide) + 1 :] == 128).all()


def test_heat_is_drawn_on_gray_where_it_is_high() -> None:
    colored = np.broadcast_to(np.uint8([200, 60, 120]), (64, 64, 3)).copy()
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 3] = 1.0
    shown = with_attention(colored, heat).astype(int)
    hot, cold = shown[2, 61], shown[61, 2]
    assert abs(hot - PROBABILITY_COLORS[-1][1]).sum() < 90
    assert np.ptp(cold) < 30  # hardly colored
    assert np.ptp(with_attention(colored, None), axis=-1).max() == 0


def test_a_picture_has_a_scale_bar_of_its_length_and_the_notice() -> None:
    view = View(title="Original", pixels=np.full((300, 400, 3), 250, np.uint8), mpp=0.5)
    drawn = picture("a", [view], [], columns=1)
    # The longest round length of at most a quarter of 400 px of 0.5 µm is 50 µm: 100 px.
    bar = drawn[MARGIN + TITLE + CAPTION + 300 + 4 :]
    assert (bar[12, MARGIN : MARGIN + 100].max(axis=-1) < 60).all()
    assert bar[12, MARGIN + 101].min() > 200
    red = (drawn[..., 0].astype(int) - drawn[..., 1] > 80).sum()
    assert red > 200  # research use only


def test_a_frame_and_words_leave_the_rest_of_a_tile_as_it_is() -> None:
    shown = framed(GRAY, ["N"], (255, 0, 0), size=13, line=2)
    assert (shown[-1] == (255, 0, 0)).all() and (shown[30:-2, 2:-2] == 128).all()
    assert (shown[3, 3] == 255).all() and (GRAY == 128).all()


def test_a_slide_shows_each_tile_in_the_color_of_its_class() -> None:
    case = case_of(tile(20, 16, (0.0, 0.0, 10.0, 60.0)))
    thumbnail = np.full((450, 600, 3), 255, dtype=np.uint8)
    views = slide_picture(case, "ihc", thumbnail)
    width_um = case.findings.ihc.size_um[0]
    # The third view, at the tile's center.
    x = MARGIN + 2 * (600 + 16) + round(20.5 * TILE_UM / width_um * 600)
    y = MARGIN + TITLE + CAPTION + round(16.5 * TILE_UM / width_um * 600)
    red = np.array(CLASSES[3].color)
    assert abs(views[y, x] - (255 + (red - 255) * 0.55)).max() < 3
    assert (views[y, x - 2 * (600 + 16)] == 255).all()  # the original
    he = slide_picture(case, "he", thumbnail)
    dx, dy = round(2 * TILE_UM / width_um * 600), round(TILE_UM / width_um * 600)
    assert abs(he[y + dy, x + dx] - (255 + (red - 255) * 0.55)).max() < 3


def test_a_slide_shows_the_weight_of_each_tile_in_a_readers_answer() -> None:
    case = case_of(tile(20, 16, (0.0, 0.0, 10.0, 60.0)))
    thumbnail = np.full((450, 600, 3), 255, dtype=np.uint8)
    weights = np.full(case.findings.rasters.ihc_read.shape, np.nan, dtype=np.float32)
    weights[16, 20], weights[16, 21] = 0.9, 0.1
    rasters = replace(case.findings.rasters, attention={"multiple_instance": weights})
    weighed = replace(case, findings=replace(case.findings, rasters=rasters))
    views = slide_picture(weighed, "ihc", thumbnail)
    assert len(views) > len(slide_picture(case, "ihc", thumbnail))
    # The fourth view, first of the second row: the heaviest tile, its neighbor, a tile not read.
    width_um = case.findings.ihc.size_um[0]
    below = views[MARGIN + TITLE + CAPTION + 450 :]
    px = 600 * TILE_UM / width_um
    places = [(round(16.5 * px), round((column + 0.5) * px)) for column in (20, 21, 22)]
    top = next(
        y for y in range(len(below) - 450)
        if tuple(below[y, MARGIN]) == tuple(below[y + 400, MARGIN + 599]) == (254, 254, 254)
    )  # fmt: skip
    heavy, light, unread = (below[top + y, MARGIN + x].astype(int) for y, x in places)
    assert tuple(unread) == (254, 254, 254)
    assert heavy.sum() < light.sum() < unread.sum()
    he = slide_picture(weighed, "he", thumbnail)
    assert he.shape == slide_picture(case, "he", thumbnail).shape
