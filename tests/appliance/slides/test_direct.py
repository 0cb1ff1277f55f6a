"""The direct path: px identical to OpenSlide's, or not taken."""

from __future__ import annotations

import logging
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pytest
from fixtures.slide_objects import identity, write_svs
from numpy.typing import NDArray
from tifffile import TiffFile, TiffWriter

from appliance.errors import SlideError
from appliance.geometry import TileIndex
from appliance.slides.direct import DirectSlide
from appliance.slides.reader import SlideReader
from appliance.slides.tile_cache import TileCache
from dicom.source import convert_slide
from models.synthesis.pyramid import FileFormat, write_pyramid

WIDTH, HEIGHT = 1500, 1100


def open_both(path: Path) -> tuple[openslide.OpenSlide, DirectSlide]:
    handle = openslide.OpenSlide(path)

    def general(level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        down = handle.level_downsamples[level]
        place = (round(x * down), round(y * down))
        return np.array(handle.read_region(place, level, (width, height)), dtype=np.uint8)

    return handle, DirectSlide(path, handle.level_dimensions, general)


def picture(seed: int = 0) -> NDArray[np.uint8]:
    """Smooth color with sharp edges, so that chroma subsampling shows."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 255, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8)
    return image.repeat(20, axis=0).repeat(20, axis=1)


def some_slide(path: Path, file_format: FileFormat = "svs") -> Path:
    image = picture()
    strips = [image[y : y + 256] for y in range(0, HEIGHT, 256)]
    write_pyramid(path, strips, width_px=WIDTH, height_px=HEIGHT, mpp=0.25, file_format=file_format)
    return path


def assert_same_everywhere(path: Path, level: int = 0, block: int = 300) -> None:
    handle, direct = open_both(path)
    read = direct.level(level)
    assert read is not None
    width, height = handle.level_dimensions[level]
    down = round(handle.level_downsamples[level])
    for y in range(0, height, block):
        for x in range(0, width, block):  # and beyond the right and lower edge
            place = (x * down, y * down)
            rgba = np.array(handle.read_region(place, level, (block, block)))
            rgb, covered = read.read(x, y, block, block)
            there = rgba[..., 3] > 0
            assert np.array_equal(there, np.ones_like(there) if covered is None else covered)
            assert np.array_equal(rgb[there], rgba[..., :3][there])


@pytest.mark.parametrize("file_format", ["svs", "tiff"])
def test_a_whole_slide_is_the_same(file_format: FileFormat, tmp_path: Path) -> None:
    path = some_slide(tmp_path / f"slide.{file_format}", file_format)
    assert_same_everywhere(path)


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"])
def test_real_slides_are_the_same(name: str, real: Path) -> None:
    """Slides in JPEG with shared tables and odd tiles, and in JPEG 2000."""
    assert_same_everywhere(real / "slides" / name, block=500)


def test_a_dicom_slide_is_the_same(tmp_path: Path) -> None:
    """Frames that a converter copied without re-encoding."""
    path = write_svs(tmp_path / "slide.svs")
    found = convert_slide(path, tmp_path / "dicom", identity(), mpp=0.25)
    first = next(p for p in found.paths if p.suffix == ".dcm")
    handle, direct = open_both(first)
    assert handle.properties["openslide.vendor"] == "dicom"
    assert direct.level(0) is not None
    assert_same_everywhere(first)


def test_what_openslide_reads_otherwise_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = some_slide(tmp_path / "slide.svs")
    handle = openslide.OpenSlide(path)

    def stitched(level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Slide of a format whose tiles overlap by one px."""
        return np.array(handle.read_region((x + 1, y), level, (width, height)), dtype=np.uint8)

    direct = DirectSlide(path, handle.level_dimensions, stitched)
    with caplog.at_level(logging.INFO):
        assert direct.level(0) is None
    assert "level 0 is read by OpenSlide" in caplog.text


def test_a_tile_left_out_by_the_scanner_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tiff"
    tiles = [picture(seed)[:256, :256] for seed in range(4)]

    def some() -> list[NDArray[np.uint8] | None]:
        return [tiles[0], None, tiles[2], tiles[3]]

    with TiffWriter(path) as writer:
        writer.write(
            iter(some()),
            shape=(512, 512, 3),
            dtype=np.uint8,
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
        )
    _, direct = open_both(path)
    level = direct.level(0)
    assert level is not None
    assert level.tile(1, 0) is None
    _, covered = level.read(200, 200, 100, 100)
    assert covered is not None
    assert not covered[:56, 56:].any()
    assert covered.sum() == 100 * 100 - 56 * 44


@pytest.mark.parametrize(
    ("first", "last"),
    [(0.0, 1.0), (0.5, 1.0), (0.6, 0.7)],
    ids=["nothing", "the first half", "all but a hole"],
)
def test_a_tile_that_does_not_decode_is_said(first: float, last: float, tmp_path: Path) -> None:
    """OpenSlide refuses the tile too; libjpeg alone would fill the missing px."""
    path = some_slide(tmp_path / "damaged.svs")
    with TiffFile(path) as tiff:
        page = tiff.pages.first
        offset, count = page.dataoffsets[7], page.databytecounts[7]
    data = bytearray(path.read_bytes())
    start, stop = offset + int(first * count), offset + int(last * count)
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)
    with openslide.OpenSlide(path) as handle, pytest.raises(openslide.OpenSlideError):
        handle.read_region((256, 256), 0, (256, 256))
    _, direct = open_both(path)
    level = direct.level(0)
    assert level is not None  # its other tiles are sound
    with pytest.raises(SlideError, match="tile 7"):
        level.tile(1, 1)
    assert level.tile(0, 0) is not None


def test_what_a_reduced_level_lacks_openslide_draws_from_a_finer_one(tmp_path: Path) -> None:
    path = tmp_path / "big.svs"
    image = np.tile(picture(), (3, 3, 1))
    height, width = image.shape[:2]
    strips = [image[y : y + 256] for y in range(0, height, 256)]
    write_pyramid(path, strips, width_px=width, height_px=height, mpp=0.25, file_format="svs")
    with TiffFile(path) as tiff:
        tag = tiff.pages[2].tags["TileByteCounts"]
        assert tag.count > 1
        place, size = tag.valueoffset, 4 if tag.dtype == 4 else 2
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    handle, direct = open_both(path)
    assert np.array(handle.read_region((0, 0), 1, (256, 256)))[..., 3].all()
    assert direct.level(0) is not None
    assert direct.level(1) is None


def test_a_window_beyond_the_slide_is_not_there(tmp_path: Path) -> None:
    _, direct = open_both(some_slide(tmp_path / "slide.svs"))
    level = direct.level(0)
    assert level is not None
    for x, y in ((0, HEIGHT + 10), (WIDTH + 10, 0), (WIDTH + 700, HEIGHT + 700)):
        _, covered = level.read(x, y, 300, 300)
        assert covered is not None
        assert not covered.any()


def test_a_file_that_is_no_tiff_has_no_direct_levels(tmp_path: Path) -> None:
    path = tmp_path / "slide.mrxs"
    path.write_bytes(b"index")
    direct = DirectSlide(path, [(100, 100)], lambda *_: np.zeros((1, 1, 4), np.uint8))
    assert direct.level(0) is None


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    made: list[int] = []

    def maker(number: int) -> NDArray[np.uint8]:
        made.append(number)
        return np.full((10, 10), number, dtype=np.uint8)

    cache = TileCache(most_bytes=200)
    for number in (1, 2, 1, 3, 1, 2):
        assert cache.get((0, number), lambda n=number: maker(n))[0, 0] == number
    assert made == [1, 2, 3, 2]


@pytest.mark.parametrize("edge", ["whole tiles", "cut tiles"])
def test_half_a_level_is_nearly_the_mean_of_four_px(edge: str, tmp_path: Path) -> None:
    path = some_slide(tmp_path / "slide.svs") if edge == "whole tiles" else cut_tiles(tmp_path)
    _, direct = open_both(path)
    half = direct.half(0)
    assert half is not None
    width, height = WIDTH // 2, HEIGHT // 2
    rgb, covered = half.read(0, 0, width, height)
    assert covered is None
    means = picture().reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    inside = np.zeros((height, width), dtype=bool)  # edges of the picture's squares ring in JPEG
    inside[np.ix_(np.arange(height) % 10 // 3 == 1, np.arange(width) % 10 // 3 == 1)] = True
    assert np.abs(rgb - means)[inside].mean() < 3
    for shift in ((1, 0), (0, 1)):
        beside = np.abs(rgb - np.roll(means, shift, (0, 1))).mean()
        assert beside > 1.2 * np.abs(rgb - means).mean()


def cut_tiles(folder: Path) -> Path:
    """Slide with cropped tiles at its edge, as some writers make it."""
    image, tiles = picture(), []
    for y in range(0, HEIGHT, 256):
        for x in range(0, WIDTH, 256):
            part = np.ascontiguousarray(image[y : y + 256, x : x + 256])
            tiles.append(imagecodecs.jpeg8_encode(part, level=90))
    path = folder / "cut.svs"
    with TiffWriter(path) as writer:
        writer.write(
            iter(tiles),
            shape=(HEIGHT, WIDTH, 3),
            dtype=np.uint8,
            photometric="ycbcr",
            subsampling=(2, 2),
            compression="jpeg",
            tile=(256, 256),
            description="Aperio Image Library |MPP = 0.25|AppMag = 40",
        )
    return path


def test_a_half_is_not_taken_where_the_whole_is_not(tmp_path: Path) -> None:
    path = some_slide(tmp_path / "slide.svs")
    _, direct = open_both(path)
    direct._checked[0] = None
    assert direct.half(0) is None


def test_whole_tiles_are_never_made_from_halves(tmp_path: Path) -> None:
    """At 0.125 µm/px a tile of 512 px covers 1,144 px of the slide; its mean is exact."""
    path = tmp_path / "fine.svs"
    write_pyramid(path, [picture()], width_px=WIDTH, height_px=HEIGHT, mpp=0.125, file_format="svs")
    with SlideReader.open(path) as direct:
        assert direct.paths_taken()[0] == "direct"
        tile = direct.read_tile(TileIndex(0, 0))
    with SlideReader.open(path) as general:
        general._direct = DirectSlide(tmp_path, [], lambda *_: np.zeros((0, 0, 4), np.uint8))
        assert general.paths_taken()[0] == "openslide"
        assert np.array_equal(tile, general.read_tile(TileIndex(0, 0)))
