"""Foreign images: decoded completely, or refused with their name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.tiles import save, tile
from numpy.typing import NDArray
from PIL import Image

from models.datasets.images import label_tiles_of, read_mask, read_rgb, require_same_turn, tiles_of
from models.errors import DataSetError


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_an_image_cut_off_anywhere_is_named_or_whole(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"whole.{suffix}", tile(1, px=128))
    whole, data = read_rgb(path), path.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    refused = 0
    for length in [0, 1, 8, *range(16, len(data), max(1, len(data) // 60)), len(data) - 1]:
        cut.write_bytes(data[:length])
        try:
            found = read_rgb(cut)
        except DataSetError as err:
            assert f"cut.{suffix}: damaged or no image" in str(err)
            refused += 1
        else:  # what is missing are no pixels
            assert (found == whole).all()
    assert refused > 50


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataSetError, match=r"a\.png: damaged or no image"):
        read_rgb(tmp_path / "a.png")


def test_transparent_px_are_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:4, :, 3] = 255
    found = read_rgb(save(tmp_path / "a.png", pixels))
    assert (found[:4] == 0).all()
    assert (found[4:] == 255).all()


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataSetError, match=r"a\.png: 16 bits per channel"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_a_color_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), np.full((8, 8, 3), 4095, dtype=np.uint16))  # 12 bits would be black
    with pytest.raises(DataSetError, match=r"16 bits per channel; save the image with 8"):
        read_rgb(path)
    with pytest.raises(DataSetError, match="16 bits per channel in color"):
        read_mask(path)


def test_a_gray_mask_may_have_alpha(tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    Image.fromarray(np.dstack([values, np.full_like(values, 255)])).save(tmp_path / "a.png")
    assert (read_mask(tmp_path / "a.png") == values).all()


def test_masks_grey_palette_and_grey_as_rgb(tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4) % 5
    gray = save(tmp_path / "gray.png", values)
    rgb = save(tmp_path / "rgb.png", np.repeat(values[..., None], 3, axis=2))
    palette = Image.fromarray(values, mode=None).convert("P")
    palette.putpalette([200, 10, 10] * 256)
    palette.putdata(values.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    for path in (gray, rgb, tmp_path / "palette.png"):
        assert (read_mask(path) == values).all()


def test_masks_with_colors_or_loss_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"a\.png: a mask has one value per px"):
        read_mask(save(tmp_path / "a.png", tile(1, px=32)))
    with pytest.raises(DataSetError, match=r"a\.jpg: JPEG changes"):
        read_mask(save(tmp_path / "a.jpg", np.zeros((8, 8), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("size", "mpp", "count"),
    [
        ((512, 512), 0.2793, 1),
        ((1024, 1100), 0.2793, 4),
        ((600, 400), 0.2793, 1),
        ((300, 300), 0.25, 1),
        ((1024, 1024), 0.5, 9),
    ],
)
def test_tiles_and_their_labels_are_cut_in_the_same_places(
    size: tuple[int, int], mpp: float, count: int
) -> None:
    rows, columns = np.indices(size)
    left = (columns < size[1] // 2).astype(np.uint8)
    image = np.repeat((left * 200)[..., None], 3, axis=2)
    tiles, labels = tiles_of(image, mpp), label_tiles_of(left, mpp)
    assert len(tiles) == len(labels) == count
    for pixels, label in zip(tiles, labels, strict=True):
        assert pixels.shape == (512, 512, 3)
        assert label.shape == (512, 512)
        assert float(((pixels[..., 0] > 100) == label).mean()) > 0.99
    assert rows.shape == size


def turned(path: Path, pixels: NDArray[np.uint8], orientation: int | None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x112] = orientation
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_an_image_that_exif_turns_needs_a_mask_that_it_turns_alike(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    """The mask may have been drawn on the px as stored, or as viewers show them."""
    pixels, gray = tile(1, px=32), np.zeros((32, 32), dtype=np.uint8)
    image = turned(tmp_path / f"a.{suffix}", pixels, orientation)
    upright = turned(tmp_path / f"b.{suffix}", pixels, None)
    mask = turned(tmp_path / "mask.png", gray, orientation)
    plain = turned(tmp_path / "plain.png", gray, 1)
    for pair, said in (
        ((image, plain), rf"a\.{suffix}: .*its mask"),
        ((upright, mask), "its image"),
    ):
        with pytest.raises(DataSetError, match=rf"{said} is not, or in another way\. Save both up"):
            require_same_turn(*pair)
    require_same_turn(upright, plain)
    if suffix == "tif":  # Pillow turns these px, and no others
        require_same_turn(image, turned(tmp_path / "mask.tif", gray, orientation))
        with pytest.raises(DataSetError, match="Save both upright"):
            require_same_turn(image, mask)
    else:
        require_same_turn(image, mask)
        found = read_rgb(image)
        assert found.shape == pixels.shape and np.abs(found.astype(int) - pixels).mean() < 30


def test_what_xmp_or_odd_exif_data_say_turns_nothing(tmp_path: Path) -> None:
    pixels, xmp = tile(1, px=32), b'<x tiff:Orientation="3"/>'
    Image.fromarray(pixels).save(tmp_path / "a.jpg", xmp=xmp, quality=95)
    Image.fromarray(pixels).save(tmp_path / "mask.png", exif=b"Exif\0\0no tags at all")
    require_same_turn(tmp_path / "a.jpg", tmp_path / "mask.png")


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_tiff_that_xmp_turns_needs_a_mask_that_is_turned_alike(
    orientation: int, tmp_path: Path
) -> None:
    """Pillow turns it, as by EXIF."""
    pixels, gray = np.zeros((32, 32, 3), dtype=np.uint8), np.zeros((32, 32), dtype=np.uint8)
    pixels[:5] = 200
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    for name, values in (("a.tif", pixels), ("mask.tif", gray)):
        Image.fromarray(values).save(tmp_path / name, tiffinfo={700: xmp})
    assert not np.array_equal(read_rgb(tmp_path / "a.tif"), pixels)
    plain = turned(tmp_path / "plain.png", gray, None)
    with pytest.raises(DataSetError, match=r"a\.tif: turned by EXIF or XMP, and its mask is not"):
        require_same_turn(tmp_path / "a.tif", plain)
    require_same_turn(tmp_path / "a.tif", tmp_path / "mask.tif")


def test_metadata_that_cannot_be_read_turn_nothing(tmp_path: Path) -> None:
    pixels = tile(1, px=32)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0no tags at all")
    assert (read_rgb(tmp_path / "a.png") == pixels).all()


def test_what_is_too_large_is_not_called_damaged(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(tmp_path / "a.png")
    with pytest.raises(DataSetError, match=r"a\.png: larger than 89 Mpx; export it in parts"):
        read_rgb(tmp_path / "a.png")


def test_of_several_pages_none_goes_unread(tmp_path: Path) -> None:
    whole = Image.fromarray(tile(1, px=64))
    small = whole.resize((16, 16))
    whole.save(tmp_path / "stack.tif", save_all=True, append_images=[whole])
    with pytest.raises(DataSetError, match=r"stack\.tif: 2 pages; export each as an image"):
        read_rgb(tmp_path / "stack.tif")
    whole.save(tmp_path / "thumbnail.tif", save_all=True, append_images=[small])
    assert (read_rgb(tmp_path / "thumbnail.tif") == np.asarray(whole)).all()


@pytest.mark.parametrize(
    ("tag", "value"), [(259, 33003), (259, 99), (262, 32803), (256, 10**8), (258, 7)]
)
def test_a_further_page_that_cannot_be_set_up_harms_none(
    tag: int, value: int, tmp_path: Path
) -> None:
    """A further page of another compression, kind of px, size or number of bits is not read."""
    whole = Image.fromarray(tile(1, px=64))
    path = tmp_path / "a.tif"
    whole.save(path, save_all=True, append_images=[whole.resize((16, 16))])
    data = bytearray(path.read_bytes())
    first = _entries(data, int.from_bytes(data[4:8], "little"))
    second = _entries(data, int.from_bytes(data[first[-1] + 12 : first[-1] + 16], "little"))
    (entry,) = (at for at in second if int.from_bytes(data[at : at + 2], "little") == tag)
    data[entry + 8 : entry + 12] = value.to_bytes(4, "little")
    path.write_bytes(data)
    assert (read_rgb(path) == np.asarray(whole)).all()


def test_a_further_page_that_is_cut_off_harms_none(tmp_path: Path) -> None:
    whole = Image.fromarray(tile(1, px=64))
    path = tmp_path / "a.tif"
    whole.save(path)
    data = bytearray(path.read_bytes())
    last = _entries(data, int.from_bytes(data[4:8], "little"))[-1]
    for place in (len(data) - 2, 10**8):
        data[last + 12 : last + 16] = place.to_bytes(4, "little")
        path.write_bytes(data)
        assert (read_rgb(path) == np.asarray(whole)).all()


def _entries(data: bytearray, folder: int) -> list[int]:
    """Places of the entries of a TIFF page, by the place of its folder."""
    count = int.from_bytes(data[folder : folder + 2], "little")
    return [folder + 2 + 12 * k for k in range(count)]
