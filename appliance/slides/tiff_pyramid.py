"""Slides of TIFFs whose pyramid OpenSlide does not find, read from the tiles of the file.

OpenSlide's generic reader takes the first directory for level 0, and directories of the main chain
for the other levels. Some exports begin with a picture of the label or of the whole slide; OME-TIFF
keeps its levels below the first one (SubIFDs). `TiffPyramid` has the part of OpenSlide's interface
that is used here, and raises OpenSlide's errors.
"""

from __future__ import annotations

import errno
import os
import re
import weakref
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import openslide
from PIL import Image
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.direct_level import DirectLevel
from appliance.slides.encoded import EncodedLevel
from appliance.slides.header import shows_the_same, true_downsample
from appliance.slides.ome import is_ome
from appliance.slides.tiff_index import tiff_reaches_end
from appliance.slides.tiff_tiles import CODECS, is_color_tiled, level_of_page, tiff_pages
from appliance.slides.tile_cache import TileCache
from appliance.slides.trouble import TIFF_ERRORS
from appliance.slides.untouched import open_untouched

LEAST_STEP = 1.2
"""Least factor between the sizes of two levels."""
LARGE = 4
"""Part of the largest picture's area from which on a picture is no label but another scene."""
PLACES, LIKE, EVEN = 8, 0.5, 3.0
"""Tiles of two pictures that are compared, their least correlation, and the spread in gray levels
below which they show nothing."""
UNITS_UM = {2: ("inch", 25400.0), 3: ("centimeter", 10000.0)}
"""Name and µm of ResolutionUnit (TIFF 6.0)."""
TEXT_TAGS = ("DateTime", "DocumentName", "HostComputer", "Make", "Model", "Software")
FIRST_CHARACTERS = 128
"""Characters of a description in which a picture is named. Aperio's fields follow a `|`."""
_NO_LEVEL = re.compile(r"(?<![^\W\d_])(label|macro|thumbnail|overview)(?![^\W\d_])", re.IGNORECASE)
"""Word in the description of a picture that is no level."""
_APERIO_FIELD = re.compile(r"\|\s*([^|=]+?)\s*=\s*([^|]*?)\s*(?=\||$)")


class _Bytes:
    """The bytes of a file, usable by many threads; its descriptor ends with it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = weakref.finalize(self, os.close, self._descriptor)

    def close(self) -> None:
        self._descriptor = -1
        self._end()

    def fetch(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; raises OSError where the file ends before."""
        data = os.pread(self._descriptor, count, offset)
        if len(data) < count:
            raise OSError("the file ends within a tile")
        return data


class TiffPyramid:
    """Levels of a TIFF, largest first; usable by many threads. Has OpenSlide's names."""

    def __init__(self, path: Path, levels: Sequence[EncodedLevel], header: dict[str, str]) -> None:
        cache = TileCache()
        # No level refers to the pyramid: one that a read replaced ends at once, and so does its
        # file.
        self._file = _Bytes(path)
        self._levels = [
            DirectLevel(level, (number, 1), self._file.fetch, cache)
            for number, level in enumerate(levels)
        ]
        self.properties = header
        self.level_dimensions = tuple(level.size_px for level in levels)
        self.dimensions = self.level_dimensions[0]
        self.level_count = len(levels)
        width, height = self.dimensions
        self.level_downsamples = tuple(
            (width / w + height / h) / 2 for w, h in self.level_dimensions
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_region(
        self, location: tuple[float, float], level: int, size: tuple[int, int]
    ) -> Image.Image:
        """Return RGBA of a level; `location` in level-0 px, `size` in px of the level."""
        down = self.level_downsamples[level]
        x, y = (round(place / down) for place in location)
        try:
            rgb, covered = self._levels[level].read(x, y, *size)
        except (SlideError, OSError) as err:
            raise openslide.OpenSlideError("a tile cannot be decoded") from err
        rgba = np.full((*rgb.shape[:2], 4), 255, dtype=np.uint8)
        rgba[..., :3] = rgb
        if covered is not None:
            rgba[~covered] = 0
        return Image.fromarray(rgba)


def open_pyramid(path: Path) -> TiffPyramid | None:
    """Open the pyramid of a TIFF; None where it has none that can be read here.

    A file that is not whole has none: its first directories may lie there without the others.

    Raises
    ------
    SlideError
        UNSUPPORTED where the file holds several pictures of tissue, of which one would be taken.
    OSError
        If the file cannot be read.
    """
    try:
        with open_untouched(path) as stream:
            if not tiff_reaches_end(stream, path.stat().st_size):
                return None
        with TiffFile(path) as tiff:
            pages = _colored(tiff)
            if not pages:
                return None
            # An OME document counts its pictures itself.
            if not _is_ome(tiff) and _has_another_scene(path, pages):
                detail = "several scenes or focal planes in a file"
                raise SlideError(QuarantineReason.UNSUPPORTED, detail)
            found = _levels(pages)
            levels = [level_of_page(path, page) for page in found]
            header = _header(tiff, found[0])
        return TiffPyramid(path, levels, header)
    except (SlideError, OSError):
        raise
    except Exception:  # noqa: BLE001  damaged tags make tifffile raise errors of any type
        return None


def _colored(tiff: TiffFile) -> list[TiffPage]:
    """Return the pages in tiles of color that may be levels, largest first."""
    pages = [
        page
        for page in tiff_pages(tiff)
        if is_color_tiled(page)
        and (page.photometric == PHOTOMETRIC.RGB or page.compression in CODECS)
        and not _other_names(page)
    ]
    return sorted(pages, key=_area, reverse=True)


def _has_another_scene(path: Path, pages: Sequence[TiffPage]) -> bool:
    """Return whether a large picture, not marked as reduced (NewSubfileType, TIFF 6.0), shows
    something else than the largest one. Writers that mark no level have such pictures, too."""
    base = pages[0]
    whole = [page for page in pages[1:] if not page.is_reduced]
    large = [page for page in whole if LARGE * _area(page) >= _area(base)]
    return any(
        _size(page) == _size(base)  # a focal plane
        or not shows_the_same(_size(base), _size(page))
        or _likeness(path, base, page) < LIKE
        for page in large
    )


def _likeness(path: Path, base: TiffPage, page: TiffPage) -> float:
    """Correlation of the places of a page that have most bytes with the same places of the base.

    1 where none of them can be compared.
    """
    with closing(_Bytes(path)) as file:
        levels = [
            DirectLevel(level_of_page(path, each), (number, 1), file.fetch, TileCache())
            for number, each in enumerate((base, page))
        ]
        down = true_downsample(_size(base), _size(page))
        pairs = []
        for column, row in levels[1].fullest(PLACES):
            x, y = column * page.tilewidth, row * page.tilelength
            size = page.tilewidth, page.tilelength
            first = round(x * down), round(y * down), *(round(edge * down) for edge in size)
            try:
                fine, coarse = levels[0].read(*first)[0], levels[1].read(x, y, *size)[0]
            except (SlideError, OSError):
                continue
            pairs.append((cv2.resize(fine, size, interpolation=cv2.INTER_AREA), coarse))
    if not pairs:
        return 1.0
    both = [np.concatenate(side).astype(np.float32) for side in zip(*pairs, strict=True)]
    # The colors of one stain are alike on any two slides; its structure is not.
    shown = [(side - side.mean(axis=(0, 1))).ravel() for side in both]
    if min(float(side.std()) for side in shown) < EVEN:
        return 1.0
    return float(np.asarray(np.corrcoef(shown[0], shown[1]))[0, 1])


def _is_ome(tiff: TiffFile) -> bool:
    return is_ome(tiff_pages(tiff)[0].description)


def _levels(pages: Sequence[TiffPage]) -> list[TiffPage]:
    """Return the largest of pages and those that show it smaller, largest first."""
    found = [pages[0]]
    for page in pages[1:]:
        base, last = (_size(each) for each in (found[0], found[-1]))
        if shows_the_same(base, _size(page)) and last[0] >= LEAST_STEP * page.imagewidth:
            found.append(page)
    return found


def _area(page: TiffPage) -> int:
    area: int = page.imagewidth * page.imagelength
    return area


def _size(page: TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _other_names(page: TiffPage) -> set[str]:
    """Return the words by which a page says that it is no level, as Aperio's label and macro do.

    An OME document names all images of its file.
    """
    text = page.description
    if is_ome(text):
        return set()
    named = text[:FIRST_CHARACTERS]
    if text.startswith("Aperio"):
        named = named.split("|")[0]  # the title of the slide is among the fields
    return {word.lower() for word in _NO_LEVEL.findall(named)}


def sizes_named_otherwise(path: Path, base: tuple[int, int]) -> frozenset[tuple[int, int]]:
    """Return the sizes (width, height) of which each tiled picture of a TIFF says that it is no
    level.

    A word that level 0, of size `base`, has too says nothing. None of a file that cannot be read
    here; raises OSError where its disk cannot be read.
    """
    try:
        with TiffFile(path) as tiff:
            pages = [page for page in tiff_pages(tiff) if page.is_tiled]
            named = [(_size(page), _other_names(page)) for page in pages]
    except TIFF_ERRORS as err:
        if isinstance(err, OSError) and err.errno not in (None, errno.EINVAL):
            raise
        return frozenset()
    usual = {word for size, words in named if size == base for word in words}
    levels = {size for size, words in named if not words - usual}
    return frozenset({size for size, _ in named} - levels)


def _header(tiff: TiffFile, base: TiffPage) -> dict[str, str]:
    """Return what the file says of its level 0, under OpenSlide's names."""
    text = tiff_pages(tiff)[0].description if _is_ome(tiff) else base.description
    header = {openslide.PROPERTY_NAME_VENDOR: "generic-tiff", "tiff.ImageDescription": text}
    for name in TEXT_TAGS:
        value = base.tags.valueof(name)
        if isinstance(value, str) and value:
            header[f"tiff.{name}"] = value
    unit, unit_um = UNITS_UM.get(int(base.tags.valueof("ResolutionUnit", default=2)), ("none", 0.0))
    header["tiff.ResolutionUnit"] = unit
    for axis, tag in (
        (openslide.PROPERTY_NAME_MPP_X, "XResolution"),
        (openslide.PROPERTY_NAME_MPP_Y, "YResolution"),
    ):
        numerator, denominator = base.tags.valueof(tag, default=(0, 1))
        if numerator and unit_um:
            header[axis] = repr(unit_um * denominator / numerator)
    if text.startswith("Aperio"):
        fields = {f"aperio.{key}": value for key, value in _APERIO_FIELD.findall(text)}
        header |= fields
        if "aperio.MPP" in fields:
            header[openslide.PROPERTY_NAME_MPP_X] = fields["aperio.MPP"]
            header[openslide.PROPERTY_NAME_MPP_Y] = fields["aperio.MPP"]
    return header
