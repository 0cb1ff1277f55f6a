"""Nuclei of drawn tiles against the generator's truth, and the reader's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.readings import CPU, WHITE
from numpy.typing import NDArray

from appliance.assays.nuclear.measure import MOST_PIGMENT
from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_PX, Affine, TileIndex
from appliance.readers.nuclei import (
    NucleiReader,
    NucleiReading,
    count_nuclei,
    count_pigment,
    grades,
    nuclei_in,
)
from appliance.readers.reader import AnatomySlide, TileInput
from appliance.readers.stained_nuclei import TileNuclei, measure_nuclei, paint_classes
from appliance.readers.tile_pass import Tiles, read_tiles, silent
from appliance.registration.mapping import SlideMapping
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import Tissue, find_tissue
from models.synthesis.canvas import STRAIGHT, Canvas
from models.synthesis.cells import Kind
from models.synthesis.cohort import SCANNERS, Scanner
from models.synthesis.plan import TissuePlan
from models.synthesis.receptors import with_receptor
from models.synthesis.render import StainName, render_region
from models.synthesis.slides import SyntheticCase
from models.synthesis.stain import StainStyle, random_ihc_style
from models.synthesis.world import World, build_world

LIMITS = (0.15, 0.5, 0.85)
Mix = tuple[float, float, float, float]


def style() -> StainStyle:
    """The textbook's stains, on glass of 255."""
    drawn = random_ihc_style(np.random.default_rng(3), spread=0.0)
    return replace(drawn, white=(255, 255, 255))


def plain_world(mix: Mix) -> World:
    """Solid tumor on 600 µm."""
    plan = TissuePlan(
        tumor=1.0, benign=0.0, lymph=0.05, fat=0.0, necrosis=0.0, outline=False, mix=mix
    )
    return build_world(2, 600.0, 600.0, plan)


def world_of(positive: float) -> World:
    """The same, with a share of nuclei that are positive for ER."""
    return with_receptor(plain_world((1, 0, 0, 0)), "ER", positive, works=True)


def tile_of(world: World, stain: StainName = "ER") -> NDArray[np.uint8]:
    box = {"x_px": 700, "y_px": 700, "width_px": TILE_PX, "height_px": TILE_PX}
    return render_region(world, STRAIGHT, stain, style(), **box).pixels


def counts_of(found: TileNuclei) -> NDArray[np.int64]:
    return count_nuclei(found, LIMITS)


@pytest.fixture(scope="module")
def half() -> World:
    return world_of(0.5)


@pytest.fixture(scope="module")
def measured(half: World) -> TileNuclei:
    return measure_nuclei(tile_of(half))


def test_nuclei_are_found_and_their_classes_are_those_drawn(
    half: World, measured: TileNuclei
) -> None:
    canvas = Canvas(half, STRAIGHT, 700, 700, (TILE_PX, TILE_PX), control=False)
    cells = canvas.cells
    at = np.floor(canvas.to_px(cells.xy_um) / 2).astype(int)
    inside = ((at >= 8) & (at < TILE_PX // 2 - 8)).all(axis=1) & (cells.kind == Kind.TUMOR)
    labels = paint_classes(measured, grades(measured.stain_od, LIMITS))
    told = labels[at[inside, 1], at[inside, 0]].astype(int)
    drawn = cells.grade[inside].astype(int) + 1
    assert inside.sum() > 60
    assert (told > 0).mean() > 0.8
    seen = told > 0
    assert ((told > 1) == (drawn > 1))[seen].mean() > 0.9  # positive or negative
    assert (np.abs(told - drawn) <= 1)[seen].mean() > 0.9  # classes
    counts = counts_of(measured)
    assert counts[1:].sum() / counts.sum() == pytest.approx((drawn > 1).mean(), abs=0.08)


@pytest.mark.parametrize("positive", [0.0, 1.0])
def test_none_and_all_are_told(positive: float) -> None:
    counts = counts_of(measure_nuclei(tile_of(world_of(positive))))
    assert counts.sum() > 50
    assert counts[1:].sum() / counts.sum() == pytest.approx(positive, abs=0.06)


def test_brown_membranes_are_no_stained_nuclei(measured: TileNuclei) -> None:
    assert measured.wide_px > 0.6 * measured.brown_px > 0
    membranes = measure_nuclei(tile_of(plain_world((0, 0, 1, 0)), "HER2"))
    assert membranes.brown_px > 1000
    assert membranes.wide_px < 0.3 * membranes.brown_px


HEMATOXYLIN, DAB = np.array([0.65, 0.70, 0.29]), np.array([0.27, 0.57, 0.78])
"""Optical densities of Ruifrok & Johnston (2001)."""
Disc = tuple[float, float, float]


def drawn_tile(blue: Sequence[Disc], brown: Sequence[Disc]) -> NDArray[np.uint8]:
    """Pale tissue with discs (x, y, radius, µm) of hematoxylin and of pale DAB."""
    density = np.full((TILE_PX, TILE_PX, 3), 0.09, np.float32)
    for discs, stain in ((blue, 0.45 * HEMATOXYLIN), (brown, 0.4 * DAB)):
        amount = np.zeros((TILE_PX, TILE_PX), np.float32)
        for x, y, radius in discs:
            center = (round(x / TILE_MPP), round(y / TILE_MPP))
            cv2.circle(amount, center, round(radius / TILE_MPP), 1.0, thickness=-1)
        density += cv2.GaussianBlur(amount, (0, 0), 1.0)[..., None] * stain
    return np.rint(255 * 10.0**-density).astype(np.uint8)


def test_pale_brown_without_counterstain_is_no_nucleus() -> None:
    nuclei = [(x, y, 5.0) for x in (20.0, 60.0, 100.0) for y in (20.0, 60.0, 100.0)]
    stroma = [(40.0, 40.0, 6.0), (80.0, 80.0, 6.0), (40.0, 80.0, 6.0)]
    assert counts_of(measure_nuclei(drawn_tile(nuclei, nuclei[:3]))).tolist() == [6, 3, 0, 0]
    assert counts_of(measure_nuclei(drawn_tile(nuclei, stroma))).tolist() == [9, 0, 0, 0]


def test_a_tile_whose_blue_nuclei_are_too_pale_says_so() -> None:
    """There the brown ones are all that is found; a percentage of them would be 100 %."""
    places = [(x, y, 5.0) for x in (20.0, 60.0, 100.0) for y in (20.0, 60.0, 100.0)]
    seen = measure_nuclei(drawn_tile(places, places[:3]))
    pale = measure_nuclei(drawn_tile(places[:3], places[:3]))
    assert not seen.brown_alone
    assert counts_of(pale).tolist() == [0, 3, 0, 0] and pale.brown_alone


def test_a_larger_nucleus_among_lymphocytes_is_no_tumor_nucleus() -> None:
    tumor = [(x, 110.0, 5.0) for x in (20.0, 50.0, 80.0, 110.0)]
    larger = (40.0, 40.0, 4.2)  # as lymphocytes that touch
    around = np.arange(8) * np.pi / 4
    lymphocytes = [(40 + 12 * np.cos(at), 40 + 12 * np.sin(at), 2.8) for at in around.tolist()]
    alone = measure_nuclei(drawn_tile([larger, *tumor], []))
    assert counts_of(alone).tolist() == [5, 0, 0, 0]
    among = measure_nuclei(drawn_tile([larger, *lymphocytes, *tumor], []))
    assert counts_of(among).tolist() == [4, 0, 0, 0]


Density = tuple[float, float, float]
PIGMENTS = {
    "hemosiderin": (0.25, 0.5, 0.8),
    "melanin": (0.7, 0.85, 1.0),
    "carbon": (1.0, 1.0, 1.0),
}
"""Optical density of granules in macrophages, per channel."""


def with_macrophages(
    tile: NDArray[np.uint8], density: Density, radius_um: float
) -> NDArray[np.uint8]:
    """Tile with nine macrophages full of granules of 1.1 to 2.2 µm."""
    rng = np.random.default_rng(1)
    amount = np.zeros(tile.shape[:2], np.float32)
    for x, y in [(x, y) for x in (100, 250, 400) for y in (100, 250, 400)]:
        for _ in range(round(12 * radius_um)):
            turn, apart = rng.uniform(0, 2 * np.pi), radius_um * rng.uniform() ** 0.5 / TILE_MPP
            at = (int(x + apart * np.cos(turn)), int(y + apart * np.sin(turn)))
            cv2.circle(amount, at, int(rng.uniform(2, 4)), 1.0, thickness=-1)
    amount = cv2.GaussianBlur(amount, (0, 0), 1.0)
    drawn: NDArray[np.uint8] = (tile * 10 ** (-amount[..., None] * np.array(density))).astype(
        np.uint8
    )
    return drawn


@pytest.mark.parametrize("radius_um", [4.0, 6.0, 8.0])
@pytest.mark.parametrize("name", PIGMENTS)
def test_brown_that_looks_like_pigment_is_told(name: str, radius_um: float) -> None:
    tile = with_macrophages(tile_of(world_of(0.0)), PIGMENTS[name], radius_um)
    found = measure_nuclei(tile)
    stained = counts_of(found)[1:].sum()
    assert stained >= 3  # it is counted as stain, as before
    assert count_pigment(found, LIMITS) >= MOST_PIGMENT * stained


@pytest.mark.parametrize("scanner", SCANNERS.values(), ids=list(SCANNERS))
@pytest.mark.parametrize("mpp", [TILE_MPP, 0.5])
def test_stained_nuclei_of_every_scanner_are_sharp_and_no_pigment(
    half: World, scanner: Scanner, mpp: float
) -> None:
    tile = scanned(half, scanner, mpp)
    found = measure_nuclei(tile)
    stained = counts_of(found)[1:].sum()
    assert stained > 20 and count_pigment(found, LIMITS) <= 0.15 * stained
    assert not found.blurred


@pytest.mark.parametrize("scanner", SCANNERS.values(), ids=list(SCANNERS))
def test_a_tile_out_of_focus_says_so(half: World, scanner: Scanner) -> None:
    """Noise of the sensor comes after the blur, and does not hide it."""
    blurred = cv2.GaussianBlur(scanned(half, scanner, TILE_MPP), (0, 0), 1.2 / TILE_MPP)
    noise = np.random.default_rng(0).normal(0, 2, blurred.shape[:2])
    noisy = np.clip(blurred + noise[..., None], 0, 255).astype(np.uint8)
    assert measure_nuclei(blurred).blurred and measure_nuclei(noisy).blurred


def scanned(world: World, scanner: Scanner, mpp: float) -> NDArray[np.uint8]:
    """Tile of a scanner with so many µm per px, as the reader sees it."""
    own = replace(
        style(),
        gamma=scanner.gamma,
        blur_px=scanner.blur_px,
        sharpen=scanner.sharpen,
        noise=scanner.noise,
    )
    box = {"x_px": 700, "y_px": 700, "width_px": TILE_PX, "height_px": TILE_PX}
    tile = render_region(world, STRAIGHT, "ER", own, **box).pixels
    if mpp == TILE_MPP:
        return tile
    coarse = round(TILE_PX * TILE_MPP / mpp)
    small = cv2.resize(tile, (coarse, coarse), interpolation=cv2.INTER_AREA)
    large: NDArray[np.uint8] = cv2.resize(small, (TILE_PX, TILE_PX), interpolation=cv2.INTER_LINEAR)
    return large


def test_neighboring_tiles_count_each_nucleus_once(half: World) -> None:
    """The two halves of a field have as many nuclei as the field itself."""
    field = tile_of(half)
    halves = [field[:, : TILE_PX // 2], field[:, TILE_PX // 2 :]]
    whole = counts_of(measure_nuclei(field)).sum()
    parts = sum(counts_of(measure_nuclei(np.ascontiguousarray(part))).sum() for part in halves)
    # A nucleus on the border is smaller than a whole one, and may be too small for tumor.
    assert whole - 12 <= parts <= whole + 4


def test_glass_has_no_nuclei() -> None:
    found = measure_nuclei(np.full((TILE_PX, TILE_PX, 3), 255, np.uint8))
    assert counts_of(found).tolist() == [0, 0, 0, 0]
    assert not paint_classes(found, grades(found.stain_od, LIMITS)).any()


def test_a_stain_on_a_limit_belongs_to_the_higher_class() -> None:
    stain = np.array([0.1, 0.25, 0.4, 0.5, 0.7, 0.75, 3.0], np.float32)
    assert grades(stain, (0.25, 0.5, 0.75)).tolist() == [0, 1, 1, 2, 2, 3, 3]


OF_CONTROL = ("control_nuclei", "control_brown_px", "control_pigment")


def read(path: Path, tiles: Sequence[TileIndex], out: Path) -> NucleiReading:
    """Reading of some tiles of a slide, the last one a margin; saved and loaded."""
    out.mkdir()
    reader = NucleiReader()
    with SlideReader.open(path) as slide:
        given = TileInput(
            slide=slide,
            picture=np.full((64, 64, 3), 255, np.uint8),
            tissue=Tissue(mask=np.zeros((64, 64), bool), mpp=64.0, white_rgb=WHITE, area_mm2=1.0),
            tiles=tuple(tiles[:-1]),
            margin=tuple(tiles[-1:]),
            settings=CPU,
            options={"limits_od": list(LIMITS)},
            beside=None,
            out=out,
        )
        session = reader.begin(given)
        try:
            wanted = Tiles(slide=slide, white_rgb=WHITE, judged=given.tiles, margin=given.margin)
            read_tiles(wanted, [session], "nuclei", silent)
            reading = session.finish()
        finally:
            session.close()
    reader.save(reading, out)
    loaded = reader.load(out)
    assert loaded.opinion == reading.opinion and loaded.outside == reading.outside
    for name in (
        "places",
        "judged",
        "counts",
        "label_px",
        "brown_px",
        "pigment",
        "unseen",
        "blurred",
        "on_control",
        *OF_CONTROL,
    ):
        assert np.array_equal(getattr(loaded, name), getattr(reading, name)), name
    return loaded


def read_beside_nothing(path: Path, out: Path, tiles: Sequence[TileIndex] = ()) -> NucleiReading:
    """Reading of a slide on which no H&E tissue lies: all is control tissue."""
    with SlideReader.open(path) as slide:
        picture = slide.thumbnail(8.0)
        tissue = find_tissue(picture, 8.0)
        away = SlideMapping.of(Affine((1, 0, 0, 1), (1e7, 1e7)))
        given = TileInput(
            slide=slide,
            picture=picture,
            tissue=tissue,
            tiles=tuple(tiles),
            margin=(),
            settings=CPU,
            options={"limits_od": list(LIMITS)},
            beside=AnatomySlide(tissue=tissue, mapping=away),
            out=out,
        )
        session = NucleiReader().begin(given)
        try:
            wanted = Tiles(slide=slide, white_rgb=WHITE, judged=given.tiles)
            read_tiles(wanted, [session], "nuclei", silent)
            return session.finish()
        finally:
            session.close()


def test_tiles_of_control_tissue_that_the_file_does_not_give_are_told(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No H&E tissue lies on the slide's: all of it is control tissue, and none of it is read."""

    def lost(*_: object) -> NDArray[np.uint8]:
        raise SlideError(QuarantineReason.DAMAGED)

    monkeypatch.setattr(SlideReader, "read_tile", lost)
    reading = read_beside_nothing(small_case.ihc_path, tmp_path)
    assert reading.control.area_mm2 > 0.1 and reading.control.counts == []
    assert reading.unreadable_control_percent == 100


def test_nuclei_of_control_tissue_are_counted_and_kept(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    reading = read_beside_nothing(small_case.ihc_path, tmp_path)
    NucleiReader().save(reading, tmp_path)
    kept = NucleiReader().load(tmp_path)
    for name in OF_CONTROL:
        assert len(getattr(kept, name)) == len(kept.control.counts) > 1
        assert np.array_equal(getattr(kept, name), getattr(reading, name)), name
    assert kept.control_nuclei.sum() > 100
    # A nucleus has at least 36 µm², some 115 px of the raster; off control tissue there is none.
    px = np.array(kept.control.counts)[:, 1:].sum(axis=1)
    assert (px >= 100 * kept.control_nuclei.sum(axis=1)).all()


def test_a_tile_that_holds_control_tissue_is_told(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    with SlideReader.open(small_case.ihc_path) as slide:
        bare = [TileIndex(column, 0) for column in range(slide.grid.columns)]
    tiles = [bare[0], TileIndex(2, 3)]
    reading = read_beside_nothing(small_case.ihc_path, tmp_path, tiles)
    assert reading.judged.tolist() == [True, True]
    assert reading.on_control.tolist() == [False, True]
    # The opinion counts other tiles alone, as the score does.
    assert reading.counts[1].sum() > 0 and any(reading.opinion.probabilities)
    (tmp_path / "held").mkdir()
    held = read_beside_nothing(small_case.ihc_path, tmp_path / "held", tiles[1:])
    assert not any(held.opinion.probabilities)
    # Without an H&E slide beside it nothing is control tissue.
    assert not read(small_case.ihc_path, tiles, tmp_path / "alone").on_control.any()


def test_a_nucleus_belongs_to_control_tissue_if_most_of_it_lies_there(
    measured: TileNuclei,
) -> None:
    left = np.zeros(measured.raster.shape, bool)
    left[:, : TILE_PX // 4] = True
    parts = [counts_of(nuclei_in(measured, held)) for held in (left, ~left)]
    assert min(part.sum() for part in parts) > 15
    # One that the line halves exactly belongs to neither.
    assert 0 <= counts_of(measured).sum() - sum(part.sum() for part in parts) <= 1
    assert counts_of(nuclei_in(measured, left | ~left)).tolist() == counts_of(measured).tolist()


def test_the_readings_file_holds_what_was_counted(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    """On a HER2 slide, where little brown is as wide as a nucleus."""
    tiles = [TileIndex(column, row) for row in (3, 4) for column in (2, 3)]
    found = read(small_case.ihc_path, tiles, tmp_path / "out")
    assert found.judged.tolist() == [True, True, True, False]
    assert found.counts.sum() > 50
    assert found.opinion.classes == ("negative", "weak", "moderate", "strong")
    brown, wide = found.brown_px.sum(axis=0).tolist()
    assert wide < 0.3 * brown
    rows, columns = found.labels.shape
    painted = found.labels[0:rows, 0:columns]
    assert set(np.unique(painted)) <= {0, 1, 2, 3, 4} and painted.any()
    assert found.mpp == pytest.approx(4 * TILE_MPP, rel=0.01)
