"""TIFFs whose pyramid OpenSlide does not find: a label before it, levels below the first page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
from fixtures.odd_tiffs import MPP, label, label_first, ome_tiff, write_level
from fixtures.slide_objects import identity
from numpy.typing import NDArray
from tifffile import TiffFile, TiffWriter

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.line.analyze_slide import open_facts
from appliance.slides.general import pyramid_of
from appliance.slides.ome import ome_pictures
from appliance.slides.reader import SlideReader
from dicom.source import convert_slide

WIDTH, HEIGHT = 1536, 1024


def picture() -> NDArray[np.uint8]:
    small = np.random.default_rng(7).integers(60, 250, (HEIGHT // 32, WIDTH // 32, 3), np.uint8)
    image = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.asarray(image, dtype=np.uint8)


def assert_shows_the_picture(path: Path) -> None:
    facts = open_facts(path)
    assert (facts.width_px, facts.height_px, facts.level_count) == (WIDTH, HEIGHT, 3)
    assert facts.mpp == pytest.approx(MPP)
    with SlideReader.open(path) as slide:
        overview = slide.thumbnail(MPP * 4)
    expected = cv2.resize(picture(), (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA)
    assert np.abs(overview.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tiles"])
@pytest.mark.parametrize("reduced", [False, True], ids=["unmarked", "marked"])
@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib", None])
def test_a_label_before_the_pyramid_is_passed(
    tmp_path: Path, tiled: bool, reduced: bool, compression: str | None
) -> None:
    path = tmp_path / "S26-1_A1_HE.tiff"
    assert_shows_the_picture(
        label_first(path, picture(), tiled=tiled, compression=compression, reduced=reduced)
    )


def test_levels_below_the_first_page_of_an_ome_tiff_are_read(tmp_path: Path) -> None:
    path = ome_tiff(tmp_path / "S26-1_A1_HE.ome.tiff", picture())
    with openslide.OpenSlide(path) as handle:  # it sees no level but the first
        assert handle.level_count == 1
    assert_shows_the_picture(path)
    with SlideReader.open(path) as slide:
        assert slide.paths_taken() == ["direct"] * 3


def test_an_ome_tiff_with_its_label_first_is_read(tmp_path: Path) -> None:
    assert_shows_the_picture(
        ome_tiff(tmp_path / "S26-1_A1_HE.ome.tiff", picture(), first_label=True)
    )


def test_an_aperio_description_is_read_behind_a_label(tmp_path: Path) -> None:
    path = tmp_path / "S26-1_A1_HE.svs"
    text = "Aperio Image Library v12\r\n1536x1024 |AppMag = 40|Barcode = S26-1;A1|MPP = 0.2527"
    with TiffWriter(path) as writer:
        writer.write(label(), photometric="rgb", metadata=None)
        write_level(writer, picture(), 1, text=text, with_resolution=False)
    with SlideReader.open(path) as slide:
        assert slide.facts.mpp == pytest.approx(0.2527)
        assert slide.properties["aperio.Barcode"] == "S26-1;A1"
        assert slide.properties["aperio.AppMag"] == "40"


def test_a_whole_generic_slide_is_left_to_openslide(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    with TiffWriter(path) as writer:
        for factor in (1, 2):
            small = cv2.resize(picture(), (WIDTH // factor, HEIGHT // factor))
            write_level(writer, small, factor, reduced=factor > 1)
    with SlideReader.open(path) as slide:
        assert "tiff.XResolution" in slide.properties  # of OpenSlide alone
        assert slide.facts.level_count == 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("aperio", [False, True])
def test_a_gray_picture_is_no_slide(tmp_path: Path, channels: int, aperio: bool) -> None:
    """A program may write each color as a picture of its own; the first would be taken for all."""
    path, text = tmp_path / "S26-1_A1_HER2.tiff", b"Aperio Image Library v12\r\n|MPP = 0.25"
    with TiffWriter(path, bigtiff=True) as writer:
        for channel in range(channels):
            for factor in (1, 2):
                small = cv2.resize(picture()[..., channel], (WIDTH // factor, HEIGHT // factor))
                writer.write(
                    small,
                    tile=(256, 256),
                    photometric="minisblack",
                    compression="jpeg",
                    subfiletype=int(factor > 1),
                    subifds=1 if factor == 1 else 0,
                    description=text if aperio else None,
                    metadata=None,
                )
    with pytest.raises(SlideError, match="each color may lie") as caught:
        open_facts(path)
    assert caught.value.reason is QuarantineReason.UNSUPPORTED


def test_two_pictures_of_one_size_are_not_chosen_between(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    with TiffWriter(path) as writer:
        writer.write(label(), photometric="rgb", metadata=None)
        write_level(writer, picture(), 1)
        write_level(writer, np.ascontiguousarray(picture()[::-1]), 1)
    with pytest.raises(SlideError) as caught:
        SlideReader.open(path)
    assert caught.value.reason is QuarantineReason.UNSUPPORTED


def write_scenes(path: Path, parts: list[tuple[str, int, bool]], *, stained: bool = False) -> Path:
    """Write levels (picture A or B, factor, whether it is marked as reduced) in this order."""
    scenes = {"A": picture(), "B": np.ascontiguousarray(picture()[::-1, ::-1])}
    if stained:  # the difference of its channels is most of what two H&E pictures have in common
        tint = np.array([0.8, 0.35, 0.7])
        scenes = {name: (40 + tint * (215 - p)).astype(np.uint8) for name, p in scenes.items()}
    with TiffWriter(path) as writer:
        for name, factor, reduced in parts:
            height, width = (edge // factor for edge in (HEIGHT, WIDTH))
            small = cv2.resize(scenes[name], (width, height), interpolation=cv2.INTER_AREA)
            write_level(writer, small, factor, reduced=reduced)
    return path


@pytest.mark.parametrize("stained", [False, True])
@pytest.mark.parametrize(
    "parts",
    [
        [("A", 1, False), ("A", 4, True), ("B", 1, False), ("B", 4, True)],
        [("A", 1, False), ("A", 1, False), ("A", 4, True)],  # focal planes
        [("A", 1, False), ("A", 4, True), ("B", 2, False), ("B", 8, True)],
        [("A", 1, False), ("B", 2, False), ("A", 4, True), ("B", 8, True)],
        [("A", 1, False), ("B", 2, False), ("A", 4, False), ("B", 8, False)],
    ],
)
def test_two_scenes_of_a_plain_tiff_are_not_chosen_between(
    tmp_path: Path, parts: list[tuple[str, int, bool]], stained: bool
) -> None:
    """Overview and tiles came from different ones: their levels lie between each other."""
    with pytest.raises(SlideError, match="several scenes") as caught:
        open_facts(write_scenes(tmp_path / "S26-1_A1_HE.tiff", parts, stained=stained))
    assert caught.value.reason is QuarantineReason.UNSUPPORTED


@pytest.mark.parametrize(
    "parts",
    [
        [(1, False), (2, False), (4, False)],
        [(1, False), (4, True), (2, False)],
        [(4, True), (1, False), (2, False)],
        [(1, False), (2, False), (1, True), (4, False)],
    ],
)
def test_levels_of_one_scene_are_read_however_they_are_marked(
    tmp_path: Path, parts: list[tuple[int, bool]]
) -> None:
    path = write_scenes(tmp_path / "S26-1_A1_HE.tiff", [("A", *part) for part in parts])
    facts = open_facts(path)
    assert (facts.width_px, facts.height_px) == (WIDTH, HEIGHT) and facts.level_count >= 3


def test_tiles_that_cannot_be_decoded_leave_no_file_open(tmp_path: Path) -> None:
    path = ome_tiff(tmp_path / "S26-1_A1_HE.ome.tiff", picture(), compression="zlib")
    with TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"no zlib")
    with SlideReader.open(path) as slide:
        for _ in range(5):
            with pytest.raises(SlideError):
                slide.read_window(1, 600, 10, 8, 8)
    # By its name: other threads of the tests' process open and close files meanwhile.
    assert not [each for each in Path("/proc/self/fd").iterdir() if each.resolve() == path]


@pytest.mark.parametrize(("sizes", "planes"), [([(1024, 1536)] * 2, 1), ([(512, 512)], 3)])
def test_scenes_and_focal_planes_of_an_ome_tiff_are_not_chosen_between(
    tmp_path: Path, sizes: list[tuple[int, int]], planes: int
) -> None:
    path = tmp_path / "S26-1_A1_HE.ome.tiff"
    facts = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    with TiffWriter(path, ome=True) as writer:
        for rows, columns in sizes:
            image = np.full((planes, rows, columns, 3), 200, np.uint8)
            axes = {"axes": "ZYXS"} if planes > 1 else {"axes": "YXS"}
            shown = image if planes > 1 else image[0]
            writer.write(shown, photometric="rgb", tile=(256, 256), metadata=axes | facts)
    with pytest.raises(SlideError, match="scenes or focal planes in a file") as caught:
        open_facts(path)
    assert caught.value.reason is QuarantineReason.UNSUPPORTED


def test_labels_and_levels_of_an_ome_document_are_no_scenes() -> None:
    def image(name: str, width: int, size: str = "") -> str:
        return f'<Image Name="{name}"><Pixels SizeX="{width}" SizeY="9" SizeZ="1" {size}/></Image>'

    fine, coarse = 'PhysicalSizeX="0.25"', 'PhysicalSizeX="1.0"'
    one = image("Series 1", 46000, fine)
    for beside in ("label_image", "Macro image", "slide-overview"):
        assert ome_pictures(one + image(beside, 40000)) == 1
    assert ome_pictures(one + image("Series 2", 387)) == 1
    assert ome_pictures(one + image("Series 2", 11500, coarse)) == 1
    assert ome_pictures(one + image("Series 2", 11500, fine)) == 2
    assert ome_pictures(one + image("Series 2", 40000)) == 2


def test_another_picture_among_the_levels_is_no_overview(tmp_path: Path) -> None:
    """A tiled macro is a level for OpenSlide; tissue would be looked for on it."""
    path = tmp_path / "S26-1_A1_HE.tiff"
    with TiffWriter(path) as writer:
        write_level(writer, picture(), 1)
        write_level(writer, picture()[::4, ::4].copy(), 4, reduced=True)
        write_level(writer, np.full((128, 256, 3), 250, np.uint8), 6, reduced=True)
    with openslide.OpenSlide(path) as handle:
        assert handle.level_count == 3
    with SlideReader.open(path) as slide:
        overview = slide.thumbnail(MPP * 8)
    expected = cv2.resize(picture(), (WIDTH // 8, HEIGHT // 8), interpolation=cv2.INTER_AREA)
    assert np.abs(overview.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tiles"])
def test_such_a_slide_is_converted_without_its_label(tmp_path: Path, tiled: bool) -> None:
    path = label_first(tmp_path / "a.tiff", picture(), tiled=tiled)
    with pyramid_of(path) as pyramid:
        assert pyramid is not None
        found = convert_slide(path, tmp_path / "dicom", identity(), mpp=MPP, pyramid=pyramid)
    with openslide.OpenSlide(found.paths[0]) as made:
        assert made.level_dimensions == ((1536, 1024), (768, 512), (384, 256))
        assert float(made.properties["openslide.mpp-x"]) == pytest.approx(MPP)
        pixels = np.asarray(made.read_region((0, 0), 0, (WIDTH, HEIGHT)))[..., :3]
    assert np.abs(pixels.astype(int) - picture()).mean() < 4


def test_other_slides_have_no_levels_of_their_own(real: Path) -> None:
    with pyramid_of(real / "slides" / "CMU-1-Small-Region.svs") as pyramid:
        assert pyramid is not None
        assert not pyramid.own
    with pyramid_of(real / "slides" / "sm_image.dcm") as pyramid:
        assert pyramid is None


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_file_with_its_label_first_is_damaged(tmp_path: Path, kept: float) -> None:
    data = label_first(tmp_path / "whole.tiff", picture()).read_bytes()
    path = tmp_path / "cut.tiff"
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(SlideError) as caught:
        open_facts(path)
    assert caught.value.reason is QuarantineReason.DAMAGED


def test_a_damaged_tile_is_told_and_others_are_read(tmp_path: Path) -> None:
    path = label_first(tmp_path / "a.tiff", picture())
    with TiffFile(path) as tiff:
        page = tiff.pages[1]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with SlideReader.open(path) as slide:
        with pytest.raises(SlideError) as caught:
            slide._general.read(0, 0, 0, 10, 10)
        assert caught.value.reason is QuarantineReason.DAMAGED
        assert slide._general.read(0, 600, 600, 10, 10)[..., 3].all()
