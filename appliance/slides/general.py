"""The general path into a slide: OpenSlide, which reads every supported format.

OpenSlide's errors latch: after one, every further read on that handle fails. `GeneralSlide` then
opens another handle.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

import numpy as np
import openslide
from PIL.Image import Image
from PIL.ImageCms import ImageCmsProfile, PyCMSError

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.encoded import Pixels
from appliance.slides.header import shows_the_same
from appliance.slides.ome import is_ome, ome_pictures
from appliance.slides.tiff_index import TiffIndex, TiffIndexError
from appliance.slides.tiff_pyramid import TiffPyramid, open_pyramid, sizes_named_otherwise
from appliance.slides.tiff_tiles import coded_levels
from appliance.slides.trouble import (
    raise_if_short,
    require_places,
    why_no_format,
    why_not_open,
    why_not_read,
    without_path,
)
from appliance.slides.untouched import open_untouched
from dicom.pyramid_source import Pyramid, is_bounded

PLAIN_TIFFS = {"aperio", "generic-tiff"}
"""OpenSlide's names of formats whose tiles lie in the file as they lie on the slide."""
PART_PX = 256
"""Edge of the smallest part that is read alone around damage: about one tile of a file."""


def open_handle(path: Path) -> openslide.OpenSlide:
    """Open a slide by OpenSlide, or by `TiffPyramid` where OpenSlide misses levels.

    Raises
    ------
    SlideError
        UNREADABLE, UNSUPPORTED, NOT_PYRAMIDAL, MISSING_TAGS, NEVER_FINISHED, DAMAGED, VANISHED.
    OSError
        If the machine lacks memory or open files.
    """
    try:
        return _opened(path)
    except openslide.OpenSlideUnsupportedFormatError as err:
        raise_if_short(err)
        raise SlideError(why_no_format(path)) from err
    except (openslide.OpenSlideError, OSError) as err:
        raise_if_short(err)
        reason, held = why_not_open(path, str(err))
        raise SlideError(reason, held or without_path(err, path)) from err


def _opened(path: Path) -> openslide.OpenSlide:
    """Open a slide; OpenSlide knows MRXS by its suffix, in lower case only.

    Links in a folder of their own, which lives as long as the handle, give it that suffix.
    """
    require_places(path)
    if path.suffix.lower() != ".mrxs" or path.suffix == ".mrxs":
        return _opened_tiff(path)
    links = Path(tempfile.mkdtemp(prefix="tandem-mrxs-"))
    try:
        (links / "slide.mrxs").symlink_to(path.absolute())
        (links / "slide").symlink_to(path.with_suffix("").absolute())
        handle = openslide.OpenSlide(links / "slide.mrxs")
    except (openslide.OpenSlideError, OSError):
        shutil.rmtree(links, ignore_errors=True)
        raise
    weakref.finalize(handle, shutil.rmtree, links, ignore_errors=True)
    return handle


@contextmanager
def pyramid_of(path: Path) -> Iterator[Pyramid | None]:
    """Open the levels of a TIFF whose compressed tiles are known, for conversion to DICOM.

    Also those of a file whose bounds leave out px, to which the converter would crop. None for
    other formats, which the converter reads by itself. Pictures of a TIFF that may be of the label
    are left out of its levels: those of another shape, and those that are named label, macro,
    thumbnail or overview. Raises SlideError and OSError as `open_handle`.
    """
    handle = open_handle(path)
    try:
        own = isinstance(handle, TiffPyramid)
        plain = handle.properties.get(openslide.PROPERTY_NAME_VENDOR) in PLAIN_TIFFS
        if not plain and not is_bounded(handle.properties, handle.dimensions):
            yield None
        else:
            sizes = handle.level_dimensions
            # OpenSlide lists any tiled picture of a TIFF.
            other = sizes_named_otherwise(path, sizes[0]) if plain else ()
            shown = [
                k for k, n in enumerate(sizes) if n not in other and shows_the_same(sizes[0], n)
            ]
            coded = coded_levels(path, sizes) if plain else ()
            yield Pyramid(
                levels=_Chosen(handle, shown) if len(shown) < len(sizes) else handle,
                coded=tuple(coded[k] for k in shown) if coded else (),
                properties=handle.properties,
                pictures={} if own else handle.associated_images,
                profile=None if own else _profile(handle),
                own=own or len(shown) < len(sizes),
            )
    finally:
        handle.close()


class _Chosen:
    """Some of the levels of a handle."""

    def __init__(self, handle: openslide.OpenSlide, chosen: Sequence[int]) -> None:
        self._handle, self._chosen = handle, chosen
        self.level_dimensions = [handle.level_dimensions[k] for k in chosen]
        self.level_downsamples = [handle.level_downsamples[k] for k in chosen]

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image:
        """Return RGBA of a level; `location` in level-0 px, `size` in px of the level."""
        image: Image = self._handle.read_region(location, self._chosen[level], size)
        return image


def _profile(handle: openslide.OpenSlide) -> ImageCmsProfile | None:
    """Return a slide's color profile; None where it has none, or one that is no profile."""
    try:
        profile: ImageCmsProfile | None = handle.color_profile
    except PyCMSError:
        return None
    return profile


def _opened_tiff(path: Path) -> openslide.OpenSlide:
    """Open a slide by OpenSlide; a TIFF of which that shows less than it holds, by itself."""
    try:
        handle = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        pyramid = open_pyramid(path)
        if pyramid is None:
            raise
        return _of_one_picture(pyramid)
    vendor = handle.properties.get(openslide.PROPERTY_NAME_VENDOR)
    if vendor != "generic-tiff":
        return _of_color(handle, path) if vendor in PLAIN_TIFFS else handle
    pyramid = open_pyramid(path)
    if pyramid is None:
        return _of_color(_of_one_picture(handle), path)
    more = math.prod(pyramid.dimensions), pyramid.level_count
    if more > (math.prod(handle.dimensions), handle.level_count):
        handle.close()
        return _of_one_picture(pyramid)
    pyramid.close()
    return _of_one_picture(handle)


def _of_one_picture(handle: openslide.OpenSlide) -> openslide.OpenSlide:
    """Return a handle; raise SlideError UNSUPPORTED, and close it, where the file has several
    scenes or focal planes, of which one would be taken unsaid."""
    text = handle.properties.get("tiff.ImageDescription") or ""
    if is_ome(text) and (count := ome_pictures(text)) > 1:
        handle.close()
        raise SlideError(QuarantineReason.UNSUPPORTED, f"{count} scenes or focal planes in a file")
    return handle


def _of_color(handle: openslide.OpenSlide, path: Path) -> openslide.OpenSlide:
    """Return a handle; raise SlideError UNSUPPORTED, and close it, where level 0 is gray: it may be
    one color of a picture whose other colors lie in pictures of their own."""
    try:
        with open_untouched(path) as stream:
            gray = TiffIndex(stream, path.stat().st_size).is_gray()
    except TiffIndexError:
        return handle  # OpenSlide reads more than the index does
    if gray:
        handle.close()
        detail = "it is gray; each color may lie in a picture of its own"
        raise SlideError(QuarantineReason.UNSUPPORTED, detail)
    return handle


class GeneralSlide:
    """A slide read by OpenSlide; usable by many threads. Owns `handle`, and closes it."""

    def __init__(self, handle: openslide.OpenSlide, path: Path) -> None:
        self._handle, self._path = handle, path
        self._reopening = Lock()
        self._downsamples = handle.level_downsamples
        self.level_sizes: Sequence[tuple[int, int]] = handle.level_dimensions

    @property
    def properties(self) -> Mapping[str, str]:
        """Header of the slide, under OpenSlide's names; names that are no text are left out."""
        stated = self._handle.properties
        # OpenSlide lists a name with bytes of no text, and then does not find it.
        return {name: text for name in stated if (text := stated.get(name)) is not None}

    def close(self) -> None:
        """Close the handle."""
        self._handle.close()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Level px from (x, y): RGBA (height, width, 4).

        Alpha is 0 outside the slide and where nothing was scanned. Raises SlideError DAMAGED where
        a tile cannot be decoded, UNSUPPORTED where OpenSlide knows no tiles that lie so.
        """
        down = self._downsamples[level]
        place = round(x * down), round(y * down)
        try:
            image = self._handle.read_region(place, level, (width, height))
        except openslide.OpenSlideError:
            image = self._read_again(place, level, (width, height))
        return np.array(image, dtype=np.uint8)

    def read_parts(
        self, level: int, x: int, y: int, width: int, height: int, lost_px: list[int]
    ) -> Pixels:
        """Level px as `read` returns them; damage is split into ever smaller parts and left empty.

        The number of px of each part that cannot be decoded is appended to `lost_px`.
        """
        try:
            return self.read(level, x, y, width, height)
        except SlideError:
            rgba = np.zeros((height, width, 4), dtype=np.uint8)
            if max(width, height) <= PART_PX:
                lost_px.append(width * height)
                return rgba
        w, h = -(-width // 2), -(-height // 2)
        for top in range(0, height, h):
            for left in range(0, width, w):
                size = min(w, width - left), min(h, height - top)
                part = self.read_parts(level, x + left, y + top, *size, lost_px)
                rgba[top : top + size[1], left : left + size[0]] = part
        return rgba

    def _read_again(self, place: tuple[int, int], level: int, size: tuple[int, int]) -> Image:
        """Read on a new handle, after an error that another thread's place may have caused.

        The new handle is shared only after the read succeeded on it.
        """
        with self._reopening:
            try:
                own = _opened(self._path)
                image: Image = own.read_region(place, level, size)
            except (openslide.OpenSlideError, OSError) as err:
                raise_if_short(err)
                with suppress(openslide.OpenSlideError, OSError):
                    self._handle = _opened(self._path)
                detail = without_path(err, self._path)
                raise SlideError(why_not_read(detail), detail) from err
            self._handle = own
        return image
