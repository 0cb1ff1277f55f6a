"""Tiles of a file as frames of DICOM: the scanner's bytes and px, without libturbojpeg."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pytest
from fixtures.judges import dicom_errors
from fixtures.slide_objects import MPP, identity
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from tifffile import TiffWriter

from appliance.slides.general import pyramid_of
from dicom.coded_frames import codestream_size, photometric_2000, whole_jpeg
from dicom.errors import SourceError
from dicom.source import ENCODED_AGAIN, PASSED_THROUGH, WsmInstances, convert_slide

WIDTH, HEIGHT, TILE = 450, 300, 128
COLUMNS = -(-WIDTH // TILE)
ADOBE_YCBCR = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
Pixels = NDArray[np.uint8]


def picture(step: int = 1) -> Pixels:
    blocks = np.random.default_rng(5).integers(60, 250, (20, 30, 3), dtype=np.uint8)
    fine = np.kron(blocks, np.ones((16, 16, 1), dtype=np.uint8))[:HEIGHT, :WIDTH]
    return np.ascontiguousarray(fine[::step, ::step])


def tiles_of(pixels: Pixels) -> Iterator[Pixels]:
    """Whole tiles, row by row; those beyond the edge are gray there."""
    rows, columns = (-(-edge // TILE) for edge in pixels.shape[:2])
    whole = np.full((rows * TILE, columns * TILE, 3), 200, dtype=np.uint8)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    for y in range(0, len(whole), TILE):
        for x in range(0, whole.shape[1], TILE):
            yield np.ascontiguousarray(whole[y : y + TILE, x : x + TILE])


def jpeg(tile: Pixels, *, rgb: bool, subsampling: str = "444") -> bytes:
    coded = imagecodecs.jpeg8_encode(
        tile,
        level=90,
        colorspace="rgb",
        outcolorspace="rgb" if rgb else "ycbcr",
        subsampling=subsampling,
    )
    return bytes(coded)


def split(stream: bytes) -> tuple[bytes, bytes]:
    """A stream's tables as a stream of their own, and the abbreviated stream without them."""
    tables, rest, at = b"", b"", 2
    while stream[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] in (0xDB, 0xC4):
            tables += stream[at:end]
        elif stream[at + 1] not in (0xE0, 0xEE):
            rest += stream[at:end]
        at = end
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + stream[at:]


def write_tiff(
    path: Path,
    levels: list[list[bytes]],
    photometric: str,
    tables: bytes = b"",
    compression: str = "jpeg",
    *,
    label: bool = False,
    profile: bytes = b"",
) -> Path:
    """Write levels that halve; after `label`, OpenSlide takes that for the slide."""
    with TiffWriter(path) as writer:
        if label:
            writer.write(picture(8), photometric="rgb", metadata=None)
        for number, tiles in enumerate(levels):
            step = 2**number
            writer.write(
                iter(tiles),
                shape=picture(step).shape,
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric=photometric,
                compression=compression,
                compressionargs={"outcolorspace": photometric} if compression == "jpeg" else None,
                subsampling=(2, 2) if photometric == "ycbcr" else None,
                extratags=[
                    (tag, 7, len(value), value, True)
                    for tag, value in ((347, tables), (34675, profile))
                    if value
                ],
                resolution=(1e4 / (MPP * step), 1e4 / (MPP * step)),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                description=f"Aperio Image Library v12\r\n{WIDTH}x{HEIGHT} |MPP = {MPP}",
                metadata=None,
            )
    return path


def converted(path: Path, out: Path) -> WsmInstances:
    with pyramid_of(path) as pyramid:
        return convert_slide(path, out, identity(), mpp=MPP, pyramid=pyramid)


def by_size(made: WsmInstances) -> list[Dataset]:
    return sorted(map(dcmread, made.paths), key=lambda d: -int(d.TotalPixelMatrixColumns))


def frames(dataset: Dataset) -> list[bytes]:
    return list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)))


def scan(stream: bytes) -> bytes:
    return stream[stream.index(b"\xff\xda") :].removesuffix(b"\0")


def shown(path: Path, level: int = 0) -> Pixels:
    with openslide.OpenSlide(path) as slide:
        size = slide.level_dimensions[level]
        return np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))


@pytest.mark.parametrize("suffix", ["svs", "tiff"])
@pytest.mark.parametrize("shared", [False, True], ids=["own tables", "shared tables"])
@pytest.mark.parametrize(
    ("photometric", "subsampling"), [("rgb", "444"), ("ycbcr", "444"), ("ycbcr", "420")]
)
def test_jpeg_travels_as_it_is(
    suffix: str, shared: bool, photometric: str, subsampling: str, tmp_path: Path
) -> None:
    rgb, tables = photometric == "rgb", b""
    levels: list[list[bytes]] = []
    for step in (1, 2):
        coded = [jpeg(t, rgb=rgb, subsampling=subsampling) for t in tiles_of(picture(step))]
        if shared:
            tables = split(coded[0])[0]
            coded = [split(tile)[1] for tile in coded]
        levels.append(coded)
    path = write_tiff(tmp_path / f"a.{suffix}", levels, photometric, tables)
    made = converted(path, tmp_path / "dicom")
    assert made.how == PASSED_THROUGH
    assert {file.name: dicom_errors(file) for file in made.paths} == {
        file.name: [] for file in made.paths
    }
    datasets = by_size(made)
    for dataset, tiles in zip(datasets, levels, strict=True):
        assert [scan(frame) for frame in frames(dataset)] == list(map(scan, tiles))
        assert dataset.PhotometricInterpretation == ("RGB" if rgb else "YBR_FULL_422")
        assert len([dataset.LossyImageCompressionRatio]) == 1
        assert dataset.LossyImageCompressionMethod == "ISO_10918_1"
    assert [d.ImageType[0] for d in datasets] == ["ORIGINAL", "DERIVED"]
    assert "DerivationDescription" not in datasets[0]
    first = next(file for file in made.paths if dcmread(file).TotalPixelMatrixColumns == WIDTH)
    assert np.array_equal(shown(first), shown(path))
    # Two more readers, which take the colors from the frames. The conversion has loaded wsidicom
    # without the warning of its import.
    from wsidicom import WsiDicom

    with WsiDicom.open(tmp_path / "dicom") as slide:
        region = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))
    assert np.abs(region.astype(int) - shown(path)).max() <= 3
    tile = pixel_array(first, index=0)
    assert np.abs(tile.astype(int) - shown(path)[:TILE, :TILE]).max() <= 3


def test_tiles_that_the_scanner_left_out_are_filled(tmp_path: Path) -> None:
    levels: list[list[bytes]] = [
        [jpeg(tile, rgb=False) for tile in tiles_of(picture(step))] for step in (1, 2)
    ]
    levels[0][0] = levels[1][3] = b""
    path = write_tiff(tmp_path / "a.svs", levels, "ycbcr")
    made = converted(path, tmp_path / "dicom")
    assert made.how == PASSED_THROUGH
    assert [dicom_errors(file) for file in made.paths] == [[], []]
    for dataset, tiles in zip(by_size(made), levels, strict=True):
        for frame, tile in zip(frames(dataset), tiles, strict=True):
            assert not tile or scan(frame) == scan(tile)
    level_0 = max(made.paths, key=lambda file: file.stat().st_size)
    for level in (0, 1):
        with openslide.OpenSlide(path) as slide:
            size = slide.level_dimensions[level]
            rgba = np.asarray(slide.read_region((0, 0), level, size)).astype(int)
        there, now = rgba[..., 3] == 255, shown(level_0, level)
        assert np.abs(now[there] - rgba[there][:, :3]).mean() < 1
        if level == 0:
            assert now[~there].min() > 250  # blank
            assert (~there).sum() == TILE**2


def test_a_damaged_color_profile_is_left_out(tmp_path: Path) -> None:
    tiles = [jpeg(tile, rgb=False) for tile in tiles_of(picture())]
    path = write_tiff(tmp_path / "a.svs", [tiles], "ycbcr", profile=b"no profile" * 20)
    made = converted(path, tmp_path / "dicom")
    assert made.how == PASSED_THROUGH
    assert b"no profile" not in by_size(made)[0].OpticalPathSequence[0].get("ICCProfile", b"")


@pytest.mark.parametrize("reversible", [False, True])
def test_jpeg_2000_travels_as_it_is(reversible: bool, tmp_path: Path) -> None:
    tiles: list[bytes] = [
        bytes(
            imagecodecs.jpeg2k_encode(
                t, level=0 if reversible else 45, codecformat="j2k", mct=True, reversible=reversible
            )
        )
        for t in tiles_of(picture())
    ]
    path = write_tiff(tmp_path / "a.svs", [tiles], "rgb", compression="aperio_jp2000_rgb")
    made = converted(path, tmp_path / "dicom")
    assert made.how == PASSED_THROUGH
    (dataset,) = by_size(made)
    assert dicom_errors(made.paths[0]) == []
    assert [frame.removesuffix(b"\0") for frame in frames(dataset)] == [
        tile.removesuffix(b"\0") for tile in tiles
    ]
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.91"
    assert dataset.PhotometricInterpretation == ("YBR_RCT" if reversible else "YBR_ICT")
    assert np.array_equal(shown(made.paths[0]), shown(path))


@pytest.mark.parametrize("kind", ["progressive", "cropped"])
def test_what_is_no_frame_as_it_is_says_that_it_was_encoded_anew(kind: str, tmp_path: Path) -> None:
    tiles = [jpeg(tile, rgb=False) for tile in tiles_of(picture())]
    last = list(tiles_of(picture()))[-1]
    if kind == "cropped":
        tiles[-1] = jpeg(np.ascontiguousarray(last[: HEIGHT % TILE]), rgb=False)
    else:
        stream = BytesIO()
        Image.fromarray(last).save(stream, "JPEG", quality=90, progressive=True)
        tiles[-1] = stream.getvalue()
    # OpenSlide itself refuses cropped tiles; our own levels do not.
    path = write_tiff(tmp_path / "a.tiff", [tiles], "ycbcr", label=True)
    made = converted(path, tmp_path / "dicom")
    assert made.how == ENCODED_AGAIN
    (dataset,) = by_size(made)
    assert dicom_errors(made.paths[0]) == []
    assert list(dataset.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    assert list(dataset.LossyImageCompressionMethod) == ["ISO_10918_1"] * 2
    former, own = map(float, dataset.LossyImageCompressionRatio)
    stored = sum(len(tile) for tile in tiles)
    assert former == pytest.approx(WIDTH * HEIGHT * 3 / stored, abs=0.01)
    assert own > 1
    assert dataset.DerivationDescription


def test_colors_are_those_that_the_file_states() -> None:
    """Markers of a tile that contradict the TIFF are replaced; the scan is not touched."""
    tile = next(tiles_of(picture()))
    tables, bare = split(jpeg(tile, rgb=True))
    contradicting = bare[:2] + JFIF + b"\xff" + ADOBE_YCBCR + bare[2:]
    whole = whole_jpeg(contradicting, tables, rgb=True, size_px=(TILE, TILE))
    assert whole.endswith(scan(bare))
    assert whole.count(b"Adobe") == 1
    assert b"JFIF" not in whole
    decoded = np.asarray(imagecodecs.jpeg8_decode(whole)).astype(int)
    assert np.abs(decoded - tile).mean() < 3


def test_any_damaged_tile_is_an_error_of_the_slide() -> None:
    tables, bare = split(jpeg(next(tiles_of(picture())), rgb=True))
    start = bare.index(b"\xff\xda")
    size_px = (TILE, TILE)
    for cut in range(start):
        with pytest.raises(SourceError):
            whole_jpeg(bare[:cut], tables, rgb=True, size_px=size_px)
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(bare)
        damaged[random.integers(start)] = random.integers(256)
        try:
            assert whole_jpeg(bytes(damaged), tables, rgb=True, size_px=size_px)
        except SourceError:
            continue
    with pytest.raises(SourceError, match="lacks tables"):
        whole_jpeg(bare, b"", rgb=True, size_px=size_px)
    for damaged_2000 in (b"", b"\xff\x4f\xff\x51" + bytes(60), bare):
        with pytest.raises(SourceError):
            codestream_size(damaged_2000)
        with pytest.raises(SourceError):
            photometric_2000(damaged_2000)
