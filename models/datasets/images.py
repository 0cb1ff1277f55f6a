"""Decoding of foreign images and label masks: complete, or refused with the file's name."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import DataSetError
from models.spec import TILE_MPP, TILE_PX

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
LOSSY = {".jpg", ".jpeg"}
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
)
"""Exceptions of Pillow for bytes that are no image, or incomplete."""
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_UNREADABLE = (*_BROKEN, *_TOO_LARGE, LookupError, TypeError)
"""Exceptions of Pillow for metadata and further pages, which are not read."""
_MASK_PAGE, _PAGE_KIND = 4, 254
"""Bit of a TIFF page that is the mask of another one, and the tag that has it."""
_ORIENTATION, _TURNS = 274, range(2, 9)
"""Tag of EXIF that says how viewers turn an image, and its values that do."""


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB (rows, columns, 3); transparent px become white.

    Its EXIF data do not turn it, but for TIFF, which Pillow turns: see `require_same_turn`.

    Raises
    ------
    DataSetError
        If the file is missing, is no image, is cut off, holds more than 8 bits per channel, or
        several pages of one size, or is larger than Pillow allows.
    """
    return decode_rgb(_bytes(path), path)


def decode_rgb(data: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode bytes as `read_rgb` does; `path` names them in errors."""
    image = _decode(data, path)
    if (bits := _bits(image, data)) > 8:
        raise DataSetError(f"{path}: {bits} bits per channel; save the image with 8.")
    if image.mode not in ("RGB", "RGBA", "P", "L", "LA"):
        raise DataSetError(f"{path}: pixels are {image.mode}; save the image as 8-bit RGB.")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"), dtype=np.uint8)


def read_mask(path: Path) -> NDArray[np.int32]:
    """Read a label mask as int32 (rows, columns): gray values, or the indices of a palette.

    Raises
    ------
    DataSetError
        If the file is missing, no image, cut off, lossy or in color.
    """
    if path.suffix.lower() in LOSSY:
        raise DataSetError(f"{path}: JPEG changes the values of labels; save the mask as PNG.")
    return decode_mask(_bytes(path), path)


def decode_mask(data: bytes, path: Path) -> NDArray[np.int32]:
    """Decode bytes as `read_mask` does; `path` names them in errors."""
    image = _decode(data, path)
    if image.mode in ("RGB", "RGBA") and (bits := _bits(image, data)) > 8:
        raise DataSetError(f"{path}: {bits} bits per channel in color; save the mask gray.")
    values = np.array(image)
    if image.mode == "LA":
        values = values[..., 0]
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]  # gray, saved as RGB
    if values.ndim != 2:
        raise DataSetError(f"{path}: a mask has one value per px, not colors; save it gray.")
    return values.astype(np.int32)


def tiles_of(image: NDArray[np.uint8], mpp: float) -> list[NDArray[np.uint8]]:
    """Cut an image uint8 (rows, columns, 3) at `mpp` µm/px into whole tiles.

    The image is resampled to `TILE_MPP`; as many tiles as fit are cut, centered. An image smaller
    than a tile is mirrored at its edges.
    """
    shrinks = mpp < TILE_MPP
    return _cut(_scaled(image, mpp, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def label_tiles_of(labels: NDArray[np.uint8], mpp: float) -> list[NDArray[np.uint8]]:
    """Cut a label map uint8 (rows, columns) as `tiles_of` does, by nearest neighbor."""
    return _cut(_scaled(labels, mpp, cv2.INTER_NEAREST))


def _scaled(image: NDArray[np.uint8], mpp: float, interpolation: int) -> NDArray[np.uint8]:
    rows, columns = (max(1, round(n * mpp / TILE_MPP)) for n in image.shape[:2])
    if (rows, columns) == image.shape[:2]:
        return image
    scaled: NDArray[np.uint8] = cv2.resize(image, (columns, rows), interpolation=interpolation)
    return scaled


def _cut(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    lack = [max(0, TILE_PX - n) for n in image.shape[:2]]
    if any(lack):
        pads = [(n // 2, n - n // 2) for n in lack] + [(0, 0)] * (image.ndim - 2)
        image = np.pad(image, pads, mode="symmetric")
    tops, lefts = (range((n % TILE_PX) // 2, n - TILE_PX + 1, TILE_PX) for n in image.shape[:2])
    return [image[y : y + TILE_PX, x : x + TILE_PX] for y in tops for x in lefts]


def open_whole(path: Path) -> Image.Image:
    """Open and completely decode an image file.

    Raises
    ------
    DataSetError
        If the file is missing, is no image, or is cut off.
    """
    return _decode(_bytes(path), path)


_BITS, _PNG_BITS = 258, slice(24, 25)
"""BitsPerSample of TIFF, and the place of a PNG's bit depth: Pillow reads more as 8 in colors."""


def _bits(image: Image.Image, data: bytes) -> int:
    """Return the bits per channel of a file."""
    if image.format == "PNG":
        return data[_PNG_BITS][0]
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}") from err


def _decode(data: bytes, path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # about metadata, which is not read
            image = Image.open(io.BytesIO(data))
            if image.format == "TIFF":
                _require_one_page(data, path)
            image.load()
    except _TOO_LARGE as err:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataSetError(f"{path}: larger than {limit} Mpx; export it in parts.") from err
    except _BROKEN as err:
        raise DataSetError(
            f"{path}: damaged or no image ({err}). Copy or export the file again."
        ) from err
    return image


def _require_one_page(data: bytes, path: Path) -> None:
    """Require that no further page of a TIFF file has the size of the first: it would go unread.

    A page that cannot be set up is not of one size with another.
    """
    image = Image.open(io.BytesIO(data))
    size = image.size
    try:
        pages: int = getattr(image, "n_frames", 1)
    except _UNREADABLE:
        return
    for page in range(1, pages):
        try:
            image.seek(page)
            is_mask = bool(getattr(image, "tag_v2", {}).get(_PAGE_KIND, 0) & _MASK_PAGE)
        except _UNREADABLE:
            continue
        if image.size == size and not is_mask:
            raise DataSetError(f"{path}: {pages} pages; export each as an image of its own.")


def require_same_turn(image: Path, mask: Path) -> None:
    """Require that EXIF data, of TIFF also XMP, turn an image as they turn its mask.

    Raises
    ------
    DataSetError
        If not: what the mask was drawn on, the px as stored or as viewers show them, is unknown.
    """
    turns = {path: _turn(path) for path in (image, mask)}
    if turns[image] == turns[mask]:
        return
    turned = image if turns[image][0] in _TURNS else mask
    other = "mask" if turned == image else "image"
    raise DataSetError(
        f"{turned}: turned by EXIF or XMP, and its {other} is not, or in another way. Save both "
        "upright."
    )


def _turn(path: Path) -> tuple[int, bool]:
    """Return the EXIF orientation of a file, 1 if it turns nothing, and whether Pillow turns it."""
    data = _bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            if image.format == "TIFF":
                found: Any = image.getexif().get(_ORIENTATION)  # of XMP, too, as Pillow turns it
            else:
                if image.format == "PNG" and b"eXIf" in data:
                    image.load()  # EXIF data may stand behind the px
                exif = Image.Exif()
                exif.load(image.info.get("exif", b""))
                found = exif.get(_ORIENTATION)
    except _UNREADABLE:
        return 1, False
    if found not in _TURNS:
        return 1, False
    return int(found), image.format == "TIFF"
