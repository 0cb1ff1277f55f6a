"""Barcodes of the label's photograph, in each place where a file keeps it; no px end a step."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import zxingcpp
from fixtures.slide_objects import identity
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tifffile import TiffFile, TiffWriter
from zxingcpp import BarcodeFormat

from appliance.slides.label import barcodes, label_texts
from dicom.source import convert_slide

TEXT = "S26-00031;A1;2"
MATRIX = (BarcodeFormat.DataMatrix, BarcodeFormat.QRCode, BarcodeFormat.Aztec)
LINEAR = (BarcodeFormat.Code128, BarcodeFormat.Code39, BarcodeFormat.Code93)
Picture = NDArray[np.uint8]


def code(text: str, kind: BarcodeFormat, scale: int) -> Picture:
    return np.asarray(zxingcpp.create_barcode(text, kind).to_image(scale=scale))


def label(
    text: str = TEXT, kind: BarcodeFormat = BarcodeFormat.DataMatrix, scale: int = 4
) -> Picture:
    """Return a label, uint8 gray (rows, columns): a border, lines of print, a barcode."""
    image = np.full((440, 480), 235, np.uint8)
    for row in (30, 60, 400):
        cv2.putText(image, "S26-00031 HER2", (20, row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 40, 2)
    image[:6] = image[-6:] = 20
    drawn = code(text, kind, scale)
    image[100 : 100 + drawn.shape[0], 40 : 40 + drawn.shape[1]] = drawn
    return image


def photographed(image: Picture, seed: int = 1) -> Picture:
    """Return a gray picture in color as a camera sees it: tinted paper, uneven light, noise."""
    rng = np.random.default_rng(seed)
    light = np.linspace(0.75, 1.0, image.shape[1])[None, :, None]
    tinted = image[..., None] * np.array((1.0, 0.93, 0.85)) * light
    noisy = cv2.GaussianBlur(tinted, (0, 0), 0.7) + rng.normal(0, 4, (*image.shape, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def tissue(edge: int = 768) -> Picture:
    small = np.random.default_rng(2).integers(120, 250, (edge // 32, edge // 32, 3), np.uint8)
    return np.asarray(cv2.resize(small, (edge, edge)), np.uint8)


def write_svs(path: Path, **pictures: Picture) -> Path:
    """Write an Aperio file: level 0, thumbnail, and pictures by their names, as Aperio does."""
    base, text = tissue(), "Aperio Image Library v12\r\n768x768"
    with TiffWriter(path) as writer:
        writer.write(
            base,
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            description=f"{text} [0,0 768x768] (256x256)|AppMag = 40|MPP = 0.25",
            metadata=None,
        )
        writer.write(base[::8, ::8], photometric="rgb", description=text, metadata=None)
        for name, picture in pictures.items():
            size = f"{picture.shape[1]}x{picture.shape[0]}"
            writer.write(
                picture,
                photometric="rgb",
                compression="lzw",
                subfiletype={"label": 1, "macro": 9}[name],
                description=f"Aperio Image Library v12\r\n{name} {size}",
                metadata=None,
            )
    return path


def macro(image: Picture) -> Picture:
    """Return a picture of a whole slide, three times as long as its label on the left."""
    edge = min(image.shape)
    slide = np.full((edge, 3 * edge), 225, np.uint8)
    slide[:, :edge] = cv2.resize(image, (edge, edge), interpolation=cv2.INTER_AREA)
    cv2.ellipse(slide, (2 * edge, edge // 2), (edge // 2, edge // 4), 20, 0, 360, 140, -1)
    return slide


@pytest.mark.parametrize("kind", [*MATRIX, *LINEAR], ids=str)
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_each_format_is_read_in_each_direction(kind: BarcodeFormat, turns: int) -> None:
    text = TEXT if kind in MATRIX else "S26-00031"
    image = label(text, kind, scale=1 if kind in LINEAR else 4)
    turned = np.ascontiguousarray(np.rot90(photographed(image).mean(axis=2), turns))
    assert barcodes(turned.astype(np.uint8)) == (text,)


def test_a_tilted_and_an_inverted_label_are_read() -> None:
    image = label()
    middle = (image.shape[1] / 2, image.shape[0] / 2)
    turn = cv2.getRotationMatrix2D(middle, 17, 0.8)
    tilted = cv2.warpAffine(image, turn, image.shape[::-1], borderValue=200)
    assert barcodes(np.asarray(tilted, np.uint8)) == (TEXT,)
    assert barcodes(255 - image) == (TEXT,)


def test_large_and_tiny_photographs_are_read() -> None:
    image = label(scale=6)
    large = cv2.resize(image, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    assert barcodes(np.asarray(large, np.uint8)) == (TEXT,)
    tiny = cv2.resize(image, None, fx=0.34, fy=0.34, interpolation=cv2.INTER_AREA)
    assert barcodes(np.asarray(tiny, np.uint8)) == (TEXT,)


def test_several_barcodes_come_from_top_to_bottom_and_once() -> None:
    image = label("S26-00031", BarcodeFormat.Code128, scale=1)
    lower = code("LOT 7", BarcodeFormat.DataMatrix, 4)
    image[260 : 260 + lower.shape[0], 60 : 60 + lower.shape[1]] = lower
    assert barcodes(image) == ("S26-00031", "LOT 7")
    assert barcodes(image) == barcodes(image.copy())


def test_control_characters_are_spaces() -> None:
    assert barcodes(label("S26-00031\x1dA1")) == ("S26-00031 A1",)


def test_a_picture_without_barcode_has_no_text(real: Path) -> None:
    for path in sorted((real / "her2_pairs").glob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert barcodes(np.asarray(image, np.uint8)) == ()


def test_the_label_of_an_aperio_file_is_read(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", label=photographed(label()))
    assert label_texts(path) == (TEXT,)


def test_the_macro_is_read_where_the_label_shows_none(tmp_path: Path) -> None:
    whole = photographed(macro(label(scale=5)))
    assert label_texts(write_svs(tmp_path / "a.svs", macro=whole)) == (TEXT,)
    blank = np.full((400, 400, 3), 240, np.uint8)
    assert label_texts(write_svs(tmp_path / "b.svs", label=blank, macro=whole)) == (TEXT,)


def test_the_label_wins_over_the_macro(tmp_path: Path) -> None:
    pictures = {"label": label(), "macro": macro(label("S26-00099;B2", scale=5))}
    path = write_svs(tmp_path / "a.svs", **{k: photographed(v) for k, v in pictures.items()})
    assert label_texts(path) == (TEXT,)


@pytest.mark.parametrize("first", [False, True])
def test_a_small_page_of_a_generic_tiff_is_read(tmp_path: Path, first: bool) -> None:
    path = tmp_path / "a.tiff"
    with TiffWriter(path) as writer:

        def small() -> None:
            writer.write(
                photographed(label()), photometric="rgb", compression="zlib", metadata=None
            )

        if first:
            small()
        writer.write(
            tissue(),
            tile=(256, 256),
            photometric="rgb",
            resolution=(40000, 40000),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
        if not first:
            small()
    assert label_texts(path) == (TEXT,)


def test_the_label_instance_of_a_dicom_series_is_read(tmp_path: Path) -> None:
    source = write_svs(tmp_path / "a.svs", label=photographed(label()))
    found = convert_slide(source, tmp_path / "dicom", identity(), mpp=0.25, with_label=True)
    assert len(found.paths) > 1
    assert {label_texts(path) for path in found.paths} == {(TEXT,)}


def test_files_without_a_label_have_no_texts(tmp_path: Path, real: Path) -> None:
    assert label_texts(write_svs(tmp_path / "a.svs")) == ()
    assert label_texts(tmp_path / "gone.svs") == ()
    (tmp_path / "b.svs").write_bytes(b"no slide")
    assert label_texts(tmp_path / "b.svs") == ()
    for path in [*(real / "slides").iterdir(), *(real / "broken").iterdir()]:
        assert label_texts(path) == ()


def test_a_damaged_label_has_no_texts_and_no_error(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", label=photographed(label()))
    with TiffFile(path) as tiff:
        page = tiff.pages[-1]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    assert label_texts(path) == ()


@pytest.mark.parametrize("kind", ["svs", "tiff"])
def test_no_mutated_file_raises(tmp_path: Path, kind: str) -> None:
    """Files whose bytes, tags among them, are set at random."""
    path = tmp_path / f"a.{kind}"
    if kind == "svs":
        write_svs(path, label=photographed(label()))
    else:
        with TiffWriter(path) as writer:
            writer.write(photographed(label()), photometric="rgb", metadata=None)
            writer.write(tissue(512), tile=(256, 256), photometric="rgb", metadata=None)
    whole, rng = path.read_bytes(), np.random.default_rng(6)
    with TiffFile(path) as tiff:
        tags = [(page.offset, len(page.tags) * 12 + 6) for page in tiff.pages]
    for number in range(300):
        data = bytearray(whole)
        start, length = tags[number % len(tags)]
        for _ in range(rng.integers(1, 4)):
            at = start + int(rng.integers(0, length))
            extreme = int(rng.choice([0, 1, 3, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
            data[at : at + 4] = extreme.to_bytes(4, "little")
        path.write_bytes(data)
        assert isinstance(label_texts(path), tuple)


@pytest.mark.parametrize(
    "shape", [(0, 0), (0, 9), (1, 1), (1, 5000), (7, 7), (8, 8), (8, 60000), (60000, 8), (9, 2000)]
)
def test_any_shape_is_searched_or_left(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(5).integers(0, 255, shape, dtype=np.uint8)
    assert all(isinstance(text, str) for text in barcodes(noise))


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    block=st.sampled_from([1, 2, 3, 4, 8]),
    spoiled=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_any_pixels_give_texts_that_can_be_kept(
    seed: int, rows: int, columns: int, block: int, spoiled: bool
) -> None:
    rng = np.random.default_rng(seed)
    small = rng.choice(np.array([0, 255], np.uint8), (rows, columns))
    image = small.repeat(block, 0).repeat(block, 1)[:600, :600]
    if spoiled:  # a barcode with holes
        drawn = label()[: image.shape[0], : image.shape[1]]
        where = rng.random(drawn.shape) < 0.1
        image = np.where(where, image[: drawn.shape[0], : drawn.shape[1]], drawn)
    for text in barcodes(np.ascontiguousarray(image)):
        assert text and text.isprintable() and text.encode()
