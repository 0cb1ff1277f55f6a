"""Slides with a tile that does not decode: the rest is read, the missing share is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.evidence import sure
from tifffile import TiffFile

from appliance.assays.her2.choice import choose_guideline
from appliance.assays.her2.review import review_reasons
from appliance.domain import HE, HER2, QuarantineReason
from appliance.errors import SlideError
from appliance.findings.reasons import Reason
from appliance.geometry import TILE_MPP, TileIndex
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from appliance.slides.direct import DirectSlide
from appliance.slides.encoded import Pixels
from appliance.slides.general import GeneralSlide
from appliance.slides.reader import SlideReader
from appliance.slides.resample import Raster
from appliance.slides.stream import TileStream
from models.synthesis.pyramid import TILE, write_pyramid

COLUMNS, ROWS = 8, 6
"""Tiles of 512 px, which are 16 x 12 tiles of the file."""
WHITE = (255, 255, 255)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    width, height = COLUMNS * 512, ROWS * 512
    rng = np.random.default_rng(1)
    image = rng.integers(50, 250, (height // 32, width // 32, 3), dtype=np.uint8)
    image = image.repeat(32, axis=0).repeat(32, axis=1)
    path = tmp_path / "sound.svs"
    strips = [image[y : y + TILE] for y in range(0, height, TILE)]
    write_pyramid(path, strips, width_px=width, height_px=height, mpp=TILE_MPP, file_format="svs")
    return path


def with_bad_tiles(sound: Path, numbers: list[int], *, shrunk: int = 1) -> Path:
    """Copy a slide with these tiles of the file's level at 1/`shrunk` set to zeros."""
    with TiffFile(sound) as tiff:
        width = tiff.pages.first.imagewidth // shrunk
        page = next(page for page in tiff.pages if page.imagewidth == width)
        spans = [(page.dataoffsets[n], page.databytecounts[n]) for n in numbers]
    data = bytearray(sound.read_bytes())
    for offset, count in spans:
        data[offset : offset + count] = bytes(count)
    path = sound.with_name("damaged.svs")
    path.write_bytes(data)
    return path


def without_tiles(sound: Path, numbers: list[int]) -> Path:
    """Copy a slide whose first level does not have these tiles of the file: TIFF's sparse files."""
    data = bytearray(sound.read_bytes())
    with TiffFile(sound) as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages.first.tags[name]
            size = tag.valuebytecount // tag.count
            for number in numbers:
                at = tag.valueoffset + number * size
                data[at : at + size] = bytes(size)
    path = sound.with_name("sparse.svs")
    path.write_bytes(data)
    return path


EVERY = [TileIndex(c, r) for r in range(ROWS) for c in range(COLUMNS)]


@pytest.fixture(params=["direct", "openslide"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Parameter: path on which tiles are read, direct or by OpenSlide."""
    if request.param == "openslide":
        monkeypatch.setattr(DirectSlide, "level", lambda _self, _number: None)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_the_rest_of_the_slide_is_read(sound: Path) -> None:
    # The file has 16 tiles a row, a tile of the grid 2 x 2 of them: 5 lies in grid tile (column 2,
    # row 0), 56 = 3 * 16 + 8 in (4, 1).
    damaged = with_bad_tiles(sound, [5, 56])
    found = {}
    with SlideReader.open(damaged) as slide:
        stream = TileStream(slide, EVERY, WHITE, batch_size=5)
        for indices, pixels in stream:
            found.update(zip(indices, pixels.copy(), strict=True))
    assert stream.unreadable == [TileIndex(2, 0), TileIndex(4, 1)]
    assert stream.unreadable_percent == pytest.approx(100 * 2 / 48)
    assert list(found) == [tile for tile in EVERY if tile not in stream.unreadable]
    with SlideReader.open(sound) as slide:
        for tile, pixels in found.items():
            assert np.array_equal(slide.read_tile(tile), pixels)


@pytest.mark.usefixtures("way")
def test_a_tile_that_the_first_level_lacks_is_not_white_glass(sound: Path) -> None:
    """The overview comes from a coarser level and shows tissue there."""
    lacking, row = TileIndex(3, 2), 2 * COLUMNS
    path = without_tiles(sound, [r * row + c for r in (4, 5) for c in (6, 7)])
    with SlideReader.open(path) as slide:
        stream = TileStream(slide, EVERY, WHITE, 8)
        read = [tile for tiles, _ in stream for tile in tiles]
        # Who reads all of a slide, such as a data set, asks for tiles of margins, too.
        assert (slide.read_tile(lacking) == 255).all()
        overview = slide.thumbnail(TILE_MPP * 4)
    assert stream.unreadable == [lacking] and len(read) == len(EVERY) - 1
    assert overview[2 * 128 : 3 * 128, 3 * 128 : 4 * 128].max() < 250


def test_the_probe_finds_a_scan_between_its_places(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A biopsy on a slide of which little was scanned is no damaged slide; an empty file is."""
    first, last = 0.4, 0.6

    def read(self: GeneralSlide, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        rgba = np.zeros((height, width, 4), np.uint8)
        whole = self.level_sizes[level][0]
        rgba[:, max(0, round(first * whole) - x) : max(0, round(last * whole) - x)] = 255
        return rgba

    monkeypatch.setattr(GeneralSlide, "read", read)
    with SlideReader.open(sound) as slide:
        slide.probe()
        last = 0.4
        with pytest.raises(SlideError, match="no level holds any pixels"):
            slide.probe()


@pytest.mark.usefixtures("way")
def test_what_a_tile_does_not_need_may_be_damaged(sound: Path) -> None:
    """The lead of a window may touch damage that the tile itself does not need."""
    mpp = 0.2738
    raster = Raster(TILE_MPP / mpp)
    before = {}  # by column of the grid: the file's column that only the longer window touches
    for column in range(1, 7):
        longer, least = (raster.span(512 * column, 512, lead=lead) for lead in (True, False))
        if longer.first // TILE < least.first // TILE:
            before[column] = longer.first // TILE
    assert before
    column, beside = next(iter(before.items()))
    damaged = with_bad_tiles(sound, [beside, 16 + beside, 32 + beside])
    with SlideReader.open(damaged, mpp=mpp) as slide, SlideReader.open(sound, mpp=mpp) as whole:
        tile, right = (s.read_tile(TileIndex(column, 0)) for s in (slide, whole))
        with pytest.raises(SlideError):
            slide.read_tile(TileIndex(column - 1, 0))
    assert np.abs(tile.astype(int) - right).mean() < 1


@pytest.mark.usefixtures("way")
def test_an_overview_shows_glass_there(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = with_bad_tiles(sound, [5])
    with SlideReader.open(damaged) as slide, SlideReader.open(sound) as whole:
        # Near enough level 0 that it is read from there.
        image, right = slide.thumbnail(TILE_MPP), whole.thumbnail(TILE_MPP)
    differs = (image != right).any(axis=2)
    assert differs[:256, 5 * 256 : 6 * 256].mean() > 0.5
    differs[:256, 5 * 256 : 6 * 256] = False
    assert not differs.any()


@pytest.mark.usefixtures("way")
def test_an_overview_that_lacks_too_much_is_refused(sound: Path) -> None:
    """Unseen tissue is not analyzed: 3 of 192 tiles are 1.6 %, above the limit."""
    damaged = with_bad_tiles(sound, [5, 50, 100])
    with SlideReader.open(damaged) as slide, pytest.raises(SlideError) as caught:
        slide.thumbnail(TILE_MPP)
    assert caught.value.reason is QuarantineReason.DAMAGED


@pytest.mark.usefixtures("way")
def test_many_bad_tiles_spoil_no_sound_one(sound: Path) -> None:
    """Each bad tile makes OpenSlide's handle unusable during reads of other threads."""
    bad = list(range(1, 192, 8))  # one of the upper right quarters in every other grid tile
    damaged = with_bad_tiles(sound, bad)
    lost = {TileIndex(n % 16 // 2, n // 16 // 2) for n in bad}
    with SlideReader.open(damaged) as slide:
        stream = TileStream(slide, EVERY, WHITE, batch_size=3)
        found = [tile for indices, _ in stream for tile in indices]
    assert set(stream.unreadable) == lost
    assert set(found) == set(EVERY) - lost


def test_one_bad_place_does_not_quarantine_and_two_do(sound: Path) -> None:
    """The probe reads the corners, among others: file tiles 0, 15, 176 and 191."""
    with SlideReader.open(with_bad_tiles(sound, [0])) as slide:
        slide.probe()
    two = with_bad_tiles(sound, [0, 191])
    with SlideReader.open(two) as slide, pytest.raises(SlideError) as caught:
        slide.probe()
    assert caught.value.reason is QuarantineReason.DAMAGED


@pytest.mark.parametrize(("percent", "expected"), [(1.0, False), (1.1, True)])
def test_more_than_a_percent_is_a_reason_for_review(percent: float, expected: bool) -> None:
    evidence = replace(sure(), unreadable_percent={HE: 0.0, HER2: percent})
    guideline = choose_guideline(Settings().scoring).guideline
    reasons = review_reasons(Review(), guideline, evidence)
    assert (Reason.UNREADABLE in [r.code for r in reasons]) is expected
    assert all("HER2 slide" in r.sentence for r in reasons)


def test_an_overview_takes_what_its_level_lost_from_a_finer_one(sound: Path, way: str) -> None:
    """Tissue that is not seen on it is never analyzed, and one tile may hold a whole core.

    Where the finer level lost a part that the overview's level has, that one stays.
    """
    with SlideReader.open(sound) as slide:
        level, _ = slide.level_for(TILE_MPP * 4)
        expected = slide.thumbnail(TILE_MPP * 4)
    assert level == 1
    # A tile of the level is 4 x 4 of the first one, which has 16 a row: (1, 1) holds 5 * 16 + 5.
    fine = with_bad_tiles(sound, [5 * 16 + 5, 6 * 16 + 6]).rename(sound.with_name("fine.svs"))
    with SlideReader.open(with_bad_tiles(fine, [1], shrunk=4)) as slide:
        overview = slide.thumbnail(TILE_MPP * 4)
    difference = np.abs(overview.astype(int) - expected)
    # Tiles of 256 px, four a row. Glass instead of this texture differs by some 90.
    assert difference[:256, 256:512].mean() < 12 and difference[256:512, 256:512].mean() < 12
    # OpenSlide loses parts that reach into the next tile.
    assert way == "openslide" or difference[256:512, 256:512].max() == 0


@pytest.mark.usefixtures("way")
def test_much_that_is_lost_is_not_looked_for_in_finer_levels(sound: Path) -> None:
    """Each part that fails opens the file anew; on a whole slide that took hours."""
    damaged = with_bad_tiles(sound, [1, 6], shrunk=4)
    told = pytest.raises(SlideError, match="% of it cannot be decoded")
    with SlideReader.open(damaged) as slide, told:
        slide.thumbnail(TILE_MPP * 4)


def test_a_tile_without_color_and_one_without_a_place_are_bad_tiles(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = np.zeros((TILE, TILE), np.uint8)
    with SlideReader.open(sound) as slide:
        direct = slide._direct.level(0)
        assert direct is not None
        monkeypatch.setattr(direct, "_decode", lambda _data, _index: gray)
        with pytest.raises(SlideError, match="has no color"):
            slide.read_tile(TileIndex(2, 0))
        monkeypatch.setattr(direct, "_counts", direct._counts[:3])
        with pytest.raises(SlideError, match="has no place"):
            slide.read_tile(TileIndex(5, 5))
