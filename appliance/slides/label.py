"""Barcodes on the photograph of a slide's label.

The photograph is the image *label* of the file; else the image *macro*, which shows the whole slide
with its label; else a small picture of a TIFF that is no level. What is decoded is bounded, so that
no picture takes long.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
import zxingcpp
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from appliance.errors import SlideError
from appliance.slides.files import TIFF_SUFFIXES
from appliance.slides.general import open_handle
from appliance.slides.tiff_tiles import tiff_pages

log = logging.getLogger(__name__)

Gray = NDArray[np.uint8]
MOST_PX = 32_000_000
"""Largest photograph that is decoded, in px."""
MOST_SEARCHED_PX = 640_000
"""Largest picture that is searched for barcodes; larger ones are shrunk."""
LEAST_ENLARGED = 1.25
"""Least factor by which a picture without barcodes is enlarged: modules of 2 px become readable."""
MOST_PICTURES = 3
"""Most pictures of a TIFF without named ones that are searched."""
LEVEL_SKEW = 0.02
"""Largest difference, relative, between the shapes of two levels."""
LONG = 1.8
"""Ratio of the edges from which on a picture shows a whole slide: 75 x 25 mm has 3, a label 1."""
MOST_LONG = 8.0
"""Ratio of the edges from which on a picture shows no slide."""
END_SHARE = 0.6
"""Share of a long picture that is searched from each end, so that the label fills more of it."""
LEAST_PX = 8
"""Least edge of a picture that is searched."""
FORMATS = zxingcpp.BarcodeFormats(
    [
        zxingcpp.BarcodeFormat.DataMatrix,
        zxingcpp.BarcodeFormat.QRCode,
        zxingcpp.BarcodeFormat.MicroQRCode,
        zxingcpp.BarcodeFormat.Aztec,
        zxingcpp.BarcodeFormat.PDF417,
        zxingcpp.BarcodeFormat.Code128,
        zxingcpp.BarcodeFormat.Code39,
        zxingcpp.BarcodeFormat.Code93,
    ]
)
"""Formats that labs print. Those of retail and those without a check digit, such as Interleaved 2
of 5, are left out: they are found in pictures that hold no barcode."""
NAMES = ("label", "macro")
"""OpenSlide's names of the photographs, the best one first."""


def label_texts(path: Path) -> tuple[str, ...]:
    """Return the texts of the barcodes on a slide's label, without repetition.

    They come from the first picture that shows any, from top to bottom. Control characters, such as
    the separators of GS1, are spaces. Empty where the slide has no such picture, or it cannot be
    decoded: that is no fault of the slide's tissue.

    The slide is opened anew: one error of OpenSlide ends a handle (`appliance.slides.general`).
    """
    for picture in _pictures(path):
        texts = barcodes(picture)
        if texts:
            return texts
    return ()


def barcodes(picture: Gray) -> tuple[str, ...]:
    """Return the texts of the barcodes in a picture, uint8 (rows, columns), in any direction."""
    found: list[str] = []
    for part in _parts(picture):
        for text in _decoded(part):
            if text not in found:
                found.append(text)
    return tuple(found)


def _parts(picture: Gray) -> Iterator[Gray]:
    """Yield the parts of a picture that are searched; both ends of a long one."""
    rows, columns = picture.shape
    if min(rows, columns) < LEAST_PX or max(rows, columns) > MOST_LONG * min(rows, columns):
        return
    if max(rows, columns) < LONG * min(rows, columns):
        yield picture
        return
    along = picture if rows > columns else picture.T
    end = int(END_SHARE * len(along))
    for part in (along[:end], along[-end:]):
        yield np.ascontiguousarray(part if rows > columns else part.T)


def _decoded(part: Gray) -> list[str]:
    """Return the texts of a part; one with few px is searched again at up to twice its size."""
    scale = (MOST_SEARCHED_PX / part.size) ** 0.5
    if scale < 1:
        return _read(_resized(part, scale, cv2.INTER_AREA))
    texts = _read(part)
    if not texts and scale >= LEAST_ENLARGED:
        texts = _read(_resized(part, min(2.0, scale), cv2.INTER_CUBIC))
    return texts


def _resized(part: Gray, scale: float, how: int) -> Gray:
    rows, columns = (max(1, round(edge * scale)) for edge in part.shape)
    return np.asarray(cv2.resize(part, (columns, rows), interpolation=how), dtype=np.uint8)


def _read(part: Gray) -> list[str]:
    placed = []
    for code in zxingcpp.read_barcodes(
        part, formats=FORMATS, text_mode=zxingcpp.TextMode.Plain, return_errors=False
    ):
        corner = code.position.top_left
        try:
            text = "".join(c if c.isprintable() else " " for c in code.text).strip()
        except UnicodeDecodeError:  # bytes of an unknown character set
            continue
        if text:
            placed.append(((corner.y, corner.x), text))
    return [text for _, text in sorted(placed)]


def _pictures(path: Path) -> Iterator[Gray]:
    """Yield the pictures that may show the label, the best one first."""
    named = False
    for picture in _photographs(path):
        named = True
        yield picture
    if not named and path.suffix.lower() in TIFF_SUFFIXES:
        yield from _small_pages(path)


def _photographs(path: Path) -> Iterator[Gray]:
    """Yield the photographs that OpenSlide names."""
    try:
        handle = open_handle(path)
    except (SlideError, OSError):
        return
    try:
        properties = handle.properties
        for name in NAMES:
            try:
                edges = [
                    int(properties[f"openslide.associated.{name}.{edge}"])
                    for edge in ("width", "height")
                ]
                if edges[0] * edges[1] <= MOST_PX:
                    yield _gray(handle.associated_images[name])
            except (KeyError, ValueError):
                continue
    except openslide.OpenSlideError:
        return
    finally:
        handle.close()


def _gray(image: Image.Image) -> Gray:
    """Return an image as gray px on white."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return np.asarray(image.convert("L"), dtype=np.uint8)


def _small_pages(path: Path) -> list[Gray]:
    """Return the first pictures of a TIFF that may show the label, those first that say so."""
    found: list[Gray] = []
    try:
        with TiffFile(path) as tiff:
            pages = tiff_pages(tiff)
            base = max(pages, key=lambda page: page.imagewidth * page.imagelength)
            fit = [page for page in pages if page is not base and _may_show_label(page, base)]
            fit.sort(key=lambda page: "label" not in page.description.casefold())
            for page in fit[:MOST_PICTURES]:
                found.append(_gray(Image.fromarray(page.asarray())))
    except Exception:  # noqa: BLE001  damaged tags make tifffile raise errors of any type
        log.debug("the small pages of a TIFF cannot be decoded")
    return found


def _may_show_label(page: TiffPage, base: TiffPage) -> bool:
    """Return whether a page is a small picture and no level: none in tiles of the base's shape."""
    shape = page.shape
    picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    # A damaged tile size would make its decoder reserve memory for it.
    largest = max(page.imagewidth * page.imagelength, page.tilewidth * page.tilelength)
    if not picture or page.dtype != np.uint8 or largest > MOST_PX:
        return False
    stretch = (page.imagewidth / page.imagelength) / (base.imagewidth / base.imagelength)
    return not (page.is_tiled and abs(stretch - 1) < LEVEL_SKEW)
