"""Strong stain outside the tumor: drawn overviews, and tiles of M, with one focus or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, Affine, TileGrid, TileIndex
from appliance.readers.outside import STRONG_OD, focus_on_overview, focus_on_tiles
from appliance.readers.plain import PlainReader
from appliance.readers.reader import AnatomySlide, TileInput
from appliance.registration.mapping import SlideMapping
from appliance.settings.settings import Settings
from appliance.slides.tissue import Tissue, find_tissue
from models.deconvolution import DAB, HEMATOXYLIN

SIZE_UM = (9000.0, 7000.0)
WHITE = (242, 240, 241)
MPP = 20.0
SECTION = (4500.0, 3500.0, 2500.0)
"""Disc (x, y, radius in µm) of tissue that both slides show."""
TUMOR = [TileIndex(column, row) for row in range(20, 28) for column in range(20, 28)]
"""Tumor tiles, x and y from 2.9 to 4.0 mm."""
PALE = 0.08
STRONG = 1.6 * STRONG_OD

Disc = tuple[float, float, float]


def disc_mask(disc: Disc, mpp: float) -> NDArray[np.bool_]:
    x, y, radius = disc
    rows, columns = (round(um / mpp) for um in SIZE_UM[::-1])
    r, c = np.ogrid[:rows, :columns]
    found: NDArray[np.bool_] = np.hypot((c + 0.5) * mpp - x, (r + 0.5) * mpp - y) <= radius
    return found


def drawn(
    *stained: tuple[NDArray[np.bool_], float],
    nuclei: float = 2 * PALE,
    tissue: tuple[Disc, ...] = (SECTION,),
    mpp: float = MPP,
) -> NDArray[np.uint8]:
    """Draw an overview of pale tissue with nuclei and DAB (optical densities) on masks."""
    amounts = np.zeros((*disc_mask(SECTION, mpp).shape, 2))
    for disc in tissue:
        amounts[disc_mask(disc, mpp)] = (PALE, 0.0)
    for mask, dab in stained:
        amounts[mask] = (nuclei, dab)
    vectors = np.array([HEMATOXYLIN, DAB])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    density = amounts @ vectors
    return (10**-density * WHITE).round().astype(np.uint8)


class _Slide:
    grid = TileGrid.of(*SIZE_UM)


def given(picture: NDArray[np.uint8], mpp: float = MPP, **changes: Any) -> TileInput:
    """Input of a reader whose anatomy slide shows the section alone, at the same place."""
    section = disc_mask(SECTION, MPP)
    beside = AnatomySlide(
        tissue=Tissue(mask=section, mpp=MPP, white_rgb=WHITE, area_mm2=0.0),
        mapping=SlideMapping.of(Affine.identity()),
    )
    made = TileInput(
        slide=cast(Any, _Slide()),
        picture=picture,
        tissue=find_tissue(picture, mpp),
        tiles=tuple(TUMOR),
        margin=(),
        settings=Settings(),
        options={},
        beside=beside,
        out=Path(),
    )
    return replace(made, **changes)


FAR = (5800.0, 4400.0, 300.0)


@pytest.mark.parametrize("mpp", [8.0, 20.0])
def test_a_strong_focus_is_measured_at_any_resolution_of_the_overview(mpp: float) -> None:
    picture = drawn((disc_mask(FAR, mpp), STRONG), mpp=mpp)
    focus = focus_on_overview(given(picture, mpp), "plain")
    assert focus is not None and focus.reader == "plain"
    assert focus.area_mm2 == pytest.approx(np.pi * 0.3**2, rel=0.1)
    assert (focus.x_um, focus.y_um) == pytest.approx(FAR[:2], abs=25)


def test_the_plain_reader_looks_even_where_no_tile_is_read() -> None:
    seen = given(drawn((disc_mask(FAR, MPP), STRONG)), tiles=())
    session = PlainReader().begin(seen)
    reading = session.finish()
    session.close()
    assert reading.outside == focus_on_overview(seen, "plain") is not None
    assert set(reading.opinion.probabilities) == {0.0}


def test_the_largest_focus_is_told() -> None:
    small = (5600.0, 2500.0, 150.0)
    focus = focus_on_overview(
        given(drawn((disc_mask(FAR, MPP), STRONG), (disc_mask(small, MPP), 2 * STRONG))), "plain"
    )
    assert focus is not None and focus.x_um == pytest.approx(FAR[0], abs=25)


def test_nests_with_stroma_between_them_are_one_focus() -> None:
    nests = disc_mask(FAR, MPP)
    nests[:, (np.arange(nests.shape[1]) * MPP) % 300 < 60] = False
    focus = focus_on_overview(given(drawn((nests, STRONG))), "plain")
    assert focus is not None
    assert focus.area_mm2 == pytest.approx(0.8 * np.pi * 0.3**2, rel=0.25)


def ring(disc: Disc, width_um: float) -> NDArray[np.bool_]:
    x, y, radius = disc
    return disc_mask(disc, MPP) & ~disc_mask((x, y, radius - width_um), MPP)


CORE = (1000.0, 1000.0, 400.0)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (drawn(), "nothing is stained"),
        (drawn((disc_mask(FAR, MPP), 0.6 * STRONG_OD)), "moderate stain"),
        (drawn((disc_mask((3450.0, 3450.0, 650.0), MPP), STRONG)), "tumor and its rim"),
        (drawn((disc_mask(FAR, MPP), STRONG), nuclei=0.5 * PALE), "stroma with brown background"),
        (drawn((ring(SECTION, 50.0), STRONG)), "a stained edge of the section"),
        (
            drawn((disc_mask(CORE, MPP), STRONG), tissue=(SECTION, CORE)),
            "control tissue",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_focus_outside_the_tumor(picture: NDArray[np.uint8], why: str) -> None:
    assert focus_on_overview(given(picture), "plain") is None, why


@pytest.mark.parametrize(("radius_um", "is_told"), [(900.0, True), (600.0, False)])
def test_what_may_be_a_fragment_without_a_place_is_not_taken_for_control_tissue(
    radius_um: float, is_told: bool
) -> None:
    """The fragment is 11 and 5 % of the H&E tissue; on the target slide it lies elsewhere."""
    here, there = (7900.0, 1100.0, radius_um), (1100.0, 5900.0, radius_um)
    labels = np.ones((7, 9), dtype=np.uint8)
    labels[:2, 7:] = 0
    mapping = replace(SlideMapping.of(Affine.identity()), labels=labels, labels_mpp=1000.0)
    anatomy = disc_mask(SECTION, MPP) | disc_mask(here, MPP)
    beside = AnatomySlide(
        tissue=Tissue(mask=anatomy, mpp=MPP, white_rgb=WHITE, area_mm2=0.0), mapping=mapping
    )
    picture = drawn((disc_mask(there, MPP), STRONG), tissue=(SECTION, there))
    focus = focus_on_overview(given(picture, beside=beside), "plain")
    assert (focus is not None) == is_told
    if focus is not None:
        assert (focus.x_um, focus.y_um) == pytest.approx(there[:2], abs=25)


def test_dark_nuclei_and_pen_are_no_brown() -> None:
    picture = drawn()
    density = 0.6 * np.array(HEMATOXYLIN)
    picture[disc_mask(FAR, MPP)] = (10**-density * WHITE).astype(np.uint8)
    cv2.line(picture, (240, 125), (320, 165), (20, 30, 140), 6)
    assert focus_on_overview(given(picture), "plain") is None


def test_without_the_anatomy_slide_nothing_tells_control_tissue() -> None:
    picture = drawn((disc_mask(FAR, MPP), STRONG))
    assert focus_on_overview(given(picture, beside=None), "plain") is None


def test_without_any_tumor_all_tissue_is_outside_of_it() -> None:
    inside = (3450.0, 3450.0, 500.0)
    picture = drawn((disc_mask(inside, MPP), STRONG))
    assert focus_on_overview(given(picture), "plain") is None
    assert focus_on_overview(given(picture, tiles=()), "plain") is not None


def test_tiles_of_m_that_touch_are_one_focus() -> None:
    strong = np.zeros((12, 14))
    strong[2, 3], strong[3, 4], strong[3, 5] = 0.5, 1.0, 0.25
    strong[8, 1] = 0.9
    strong[3, 6] = 0.04  # stray px
    focus = focus_on_tiles(strong, [TileIndex(11, 9)], "segmentation")
    assert focus is not None and focus.reader == "segmentation"
    assert focus.area_mm2 == pytest.approx(1.75 * TILE_UM**2 / 1e6)
    x = (0.5 * 3.5 + 1.0 * 4.5 + 0.25 * 5.5) / 1.75 * TILE_UM
    y = (0.5 * 2.5 + 1.25 * 3.5) / 1.75 * TILE_UM
    assert (focus.x_um, focus.y_um) == pytest.approx((x, y))


def test_tiles_that_touch_the_tumor_belong_to_it() -> None:
    strong = np.zeros((6, 8))
    strong[2, 3] = 1.0
    assert focus_on_tiles(strong, [TileIndex(4, 3)], "segmentation") is None
    assert focus_on_tiles(strong, [TileIndex(5, 3)], "segmentation") is not None
    assert focus_on_tiles(np.zeros((6, 8)), [], "segmentation") is None
