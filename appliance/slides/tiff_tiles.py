"""Encoded tiles of TIFF-family slides: Aperio SVS, generic tiled TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffFileError, TiffPage

from appliance.slides.encoded import Decode, EncodedLevel, Pixels, half_jpeg_decoder, jpeg_decoder
from appliance.slides.tiff_index import MOST_DIRECTORIES
from appliance.slides.trouble import TIFF_ERRORS
from dicom.coded_frames import Codec, CodedLevel

CODECS = {COMPRESSION.JPEG, COMPRESSION.APERIO_JP2000_RGB, COMPRESSION.APERIO_JP2000_YCBC}


def tiff_levels(path: Path, sizes: Sequence[tuple[int, int]]) -> dict[int, EncodedLevel]:
    """Encoded levels by number, of those of `sizes` (width, height) that one page holds.

    The page is tiled, 8-bit RGB, of a known codec, and the only one of its size. Empty for a file
    that is no TIFF.
    """
    try:
        with TiffFile(path) as tiff:
            return {
                number: level_of_page(path, page)
                for number, page in enumerate(_pages_of(tiff, sizes))
                # OpenSlide fills missing tiles of a reduced level from a finer one.
                if page is not None and (number == 0 or all(page.databytecounts))
            }
    except TIFF_ERRORS:
        return {}


def coded_levels(path: Path, sizes: Sequence[tuple[int, int]]) -> tuple[CodedLevel, ...]:
    """Return the compressed tiles of all levels of `sizes` (width, height), as the file has them.

    Empty where one page holds not each of them, as for `tiff_levels`.
    """
    try:
        with TiffFile(path) as tiff:
            pages = _pages_of(tiff, sizes)
            found = tuple(_coded(path, page) for page in pages if page is not None)
    except TIFF_ERRORS:
        return ()
    return found if len(found) == len(sizes) else ()


def _coded(path: Path, page: TiffPage) -> CodedLevel:
    return CodedLevel(
        path=path,
        size_px=(page.imagewidth, page.imagelength),
        tile_px=(page.tilewidth, page.tilelength),
        offsets=np.array(page.dataoffsets, dtype=np.int64),
        counts=np.array(page.databytecounts, dtype=np.int64),
        codec=Codec.JPEG if page.compression == COMPRESSION.JPEG else Codec.JPEG_2000,
        rgb=page.compression == COMPRESSION.APERIO_JP2000_RGB
        or (page.compression == COMPRESSION.JPEG and page.photometric == PHOTOMETRIC.RGB),
        tables=page.jpegtables or b"",
    )


def _pages_of(tiff: TiffFile, sizes: Sequence[tuple[int, int]]) -> list[TiffPage | None]:
    """Return the page of each size: tiled, of a known codec, the only one; else None."""
    pages = [p for p in tiff_pages(tiff) if is_color_tiled(p) and p.compression in CODECS]
    found: list[TiffPage | None] = []
    for width, height in sizes:
        fit = [page for page in pages if page.shape == (height, width, 3)]
        found.append(fit[0] if len(fit) == 1 else None)
    return found


def tiff_pages(tiff: TiffFile) -> list[TiffPage]:
    """Return the pages of a TIFF, those of pyramids below others (SubIFDs) included."""
    found = []
    for page in tiff.pages:
        if isinstance(page, TiffPage):
            found.append(page)
            found += [below for below in page.pages or () if isinstance(below, TiffPage)]
        if len(found) > MOST_DIRECTORIES:
            raise TiffFileError("too many directories")
    return found


def is_color_tiled(page: TiffPage) -> bool:
    """Return whether a page has tiles of 8-bit color, the three samples of a px side by side."""
    size = (page.imagelength, page.imagewidth, 3)
    return bool(page.is_tiled and page.shape == size and page.dtype == np.uint8)


def level_of_page(path: Path, page: TiffPage) -> EncodedLevel:
    """Return the level of a page, while its file is open: tifffile reads some tags on access."""
    decode, half = _other(page), None
    if page.compression == COMPRESSION.JPEG:
        rgb, tables = page.photometric == PHOTOMETRIC.RGB, page.jpegtables or b""
        decode = jpeg_decoder(rgb=rgb, tables=tables)
        tile_px = page.tilewidth, page.tilelength
        half = half_jpeg_decoder(tile_px, rgb=rgb, tables=tables)
    return EncodedLevel(
        path=path,
        size_px=(page.imagewidth, page.imagelength),
        tile_px=(page.tilewidth, page.tilelength),
        offsets=np.array(page.dataoffsets, dtype=np.int64),
        counts=np.array(page.databytecounts, dtype=np.int64),
        decode=decode,
        decode_half=half,
    )


def _other(page: TiffPage) -> Decode:
    """Decoder that tifffile chooses for the page."""
    chosen = page.decode

    def decode(data: bytes, number: int) -> Pixels:
        tile, _, shape = chosen(data, number)
        pixels: Pixels = tile.reshape(shape[1:])
        return pixels

    return decode
