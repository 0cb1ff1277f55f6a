"""The slide reader: tiles and thumbnails of any slide at any resolution.

OpenSlide knows the format, the header and every pixel; where the tiles of a level decode to the
same pixels they are read directly (`direct`). OpenSlide's errors latch: after one, a handle is
dead, and the reader opens another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL.Image import Image

from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_PX, TileGrid, TileIndex
from appliance.slides.direct import Covered, DirectLevel, DirectSlide
from appliance.slides.encoded import Pixels
from appliance.slides.resample import Raster, Span
from appliance.slides.tissue import glass_rgb
from appliance.slides.trouble import why_no_format, why_not_open, without_path

MPP_RANGE = (0.1, 1.1)
"""Plausible µm per px of level 0: 100x oil to 10x."""
PROBE_GRID = 4
"""`probe` decodes so many places per row and column of each level."""
PART_PX = 256
"""About a tile of a file."""
MOST_LOST = 0.01
"""Share of an overview that may be damaged: tissue that is not seen is not analysed."""
HALVED_FROM = 1.99
"""Level px per wanted px from which on half the level is fine enough."""
BLOCK_PX = 2048
"""A thumbnail is read in blocks of so many px of its level, so memory does not grow."""


class SlideReader:
    """A slide; use as a context manager. Level-0 px unless a name says otherwise."""

    def __init__(self, handle: openslide.OpenSlide, facts: SlideFacts) -> None:
        self._handle = handle
        self._reopening = Lock()
        self._openslide_downsamples = handle.level_downsamples
        self.facts = facts
        self._direct = DirectSlide(Path(facts.path), handle.level_dimensions, self._read_general)
        self.grid = TileGrid.of(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
        self._downsamples = [
            _true_downsample(handle.dimensions, size) for size in handle.level_dimensions
        ]

    @classmethod
    def open(cls, path: Path, *, mpp: float | None = None) -> SlideReader:
        """Open a slide; `mpp` (µm per level-0 px) overrides the header's.

        Raises
        ------
        SlideError
            UNREADABLE, UNSUPPORTED, NOT_PYRAMIDAL, MISSING_TAGS, NO_MPP, IMPLAUSIBLE_MPP.
        """
        try:
            handle = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as err:
            raise SlideError(why_no_format(path)) from err
        except (openslide.OpenSlideError, OSError) as err:
            raise SlideError(why_not_open(path), without_path(err, path)) from err
        try:
            return cls(handle, _facts(path, handle, mpp))
        except SlideError:
            handle.close()
            raise

    def __enter__(self) -> SlideReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._direct.close()
        self._handle.close()

    @property
    def properties(self) -> Mapping[str, str]:
        """The header, as OpenSlide names it."""
        properties: Mapping[str, str] = self._handle.properties
        return properties

    def paths_taken(self) -> list[str]:
        """How each level is read: ``direct`` or ``openslide``."""
        levels = range(self._handle.level_count)
        return ["openslide" if self._direct.level(n) is None else "direct" for n in levels]

    def probe(self) -> None:
        """Decode a spread of places on every level, the last rows included.

        A damaged slide often opens and reads down to some row, and a file whose copy only reserved
        its length reads as nothing at all. One bad place may be a single bad tile, which analysis
        counts; two on one level, apart, are a damaged slide. Raises SlideError DAMAGED.
        """
        anything = False
        for level, (width, height) in enumerate(self._handle.level_dimensions):
            bad = set()
            for j in range(PROBE_GRID):
                for i in range(PROBE_GRID):
                    x = (width - 1) * i // (PROBE_GRID - 1)
                    y = (height - 1) * j // (PROBE_GRID - 1)
                    try:
                        anything |= bool(self._read_general(level, x, y, 1, 1)[..., 3].any())
                    except SlideError:
                        bad.add((x // PART_PX, y // PART_PX))
                        if len(bad) > 1:
                            raise
        if not anything:
            raise SlideError(QuarantineReason.DAMAGED, "no level holds any pixels")

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at exactly `mpp`: uint8 RGB (rows, cols, 3).

        cols = ceil(width in µm / mpp). What was not scanned, or cannot be decoded, has the colour
        of the slide's glass. Raises SlideError DAMAGED where more than `MOST_LOST` cannot.
        """
        rows = math.ceil(self.facts.height_px * self.facts.mpp / mpp - 1e-6)
        columns = math.ceil(self.facts.width_px * self.facts.mpp / mpp - 1e-6)
        level, scale = self.level_for(mpp)  # level px per thumbnail px
        image = np.empty((rows, columns, 3), dtype=np.uint8)
        scanned = np.ones((rows, columns), dtype=bool)
        lost_px: list[int] = []
        block = max(1, int(BLOCK_PX / max(scale, 1.0)))
        for top in range(0, rows, block):
            for left in range(0, columns, block):
                height, width = min(block, rows - top), min(block, columns - left)
                part = slice(top, top + height), slice(left, left + width)
                image[part], covered = self._sample(
                    level, scale, left, top, width, height, lost_px=lost_px
                )
                if covered is not None:
                    scanned[part] = covered
        whole = math.prod(self._handle.level_dimensions[level])
        if sum(lost_px) > MOST_LOST * whole:
            # Blocks overlap by some px, and a tile that two of them need counts twice.
            lost = min(100.0, 100 * sum(lost_px) / whole)
            detail = f"{lost:.0f} % of level {level} cannot be decoded"
            raise SlideError(QuarantineReason.DAMAGED, detail)
        if not scanned.all() and scanned.any():
            image[~scanned] = glass_rgb(image[scanned])
        return image

    def read_tile(self, index: TileIndex, px: int = TILE_PX) -> NDArray[np.uint8]:
        """A tile of the grid: uint8 RGB (`px`, `px`, 3), beyond the slide white.

        512 px are of `TILE_MPP`, in place to 1/16 px of the level; fewer come from the cheapest
        level that has them, or from a codec that decodes to half the size. Raises SlideError
        DAMAGED where it cannot be decoded.
        """
        level, scale = self.level_for(TILE_MPP * TILE_PX / px)  # level px per tile px
        left, top = index.column * px, index.row * px
        if px < TILE_PX and scale >= HALVED_FROM and (half := self._direct.half(level)) is not None:
            return self._sample(level, scale / 2, left, top, px, px, half=half)[0]
        return self._sample(level, scale, left, top, px, px)[0]

    def _sample(
        self,
        level: int,
        scale: float,
        left: int,
        top: int,
        columns: int,
        rows: int,
        *,
        half: DirectLevel | None = None,
        lost_px: list[int] | None = None,
    ) -> tuple[Pixels, Covered]:
        """A window of the raster whose px are `scale` px of a level wide: RGB, white where the
        slide has nothing, and where it has.

        `half` stands in for the level where its codec makes it at half its size: `scale` is then
        px of that.
        """
        raster = Raster(scale)

        def read(x: Span, y: Span) -> tuple[Pixels, Covered]:
            window = x.first, y.first, x.count, y.count
            if half is not None:
                return half.read(*window)
            return self._read(level, *window, lost_px=lost_px)

        x, y = raster.span(left, columns), raster.span(top, rows)
        try:
            rgb, covered = read(x, y)
        except SlideError:
            # Perhaps only where the window is longer than it has to be.
            x, y = raster.span(left, columns, lead=False), raster.span(top, rows, lead=False)
            rgb, covered = read(x, y)

        def resampled(pixels: Pixels) -> Pixels:
            return raster.sample(pixels, x, y, columns, rows)

        if covered is None:
            return resampled(rgb), None
        # Empty px weigh nothing: premultiplied, else a rim of their colour would stay.
        rgb[~covered] = 0
        weight = resampled(covered.astype(np.uint8) * 255).astype(np.float32)[..., None] / 255
        color = resampled(rgb) / np.maximum(weight, 1 / 255)
        # Less than half a px of slide has no colour of its own that could be trusted.
        seen = weight >= 0.5
        image = np.where(seen, np.clip(color + 0.5, 0, 255), 255).astype(np.uint8)
        return image, seen[..., 0]

    def level_for(self, mpp: float) -> tuple[int, float]:
        """(level, scale): the coarsest level at least as fine as `mpp`; its px per wanted px."""
        wanted = mpp / self.facts.mpp
        level = 0
        for candidate, downsample in enumerate(self._downsamples):
            if downsample <= wanted * 1.005:
                level = candidate
        return level, wanted / self._downsamples[level]

    def _read(
        self,
        level: int,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        lost_px: list[int] | None,
    ) -> tuple[Pixels, Covered]:
        """Level px (x, y) on: RGB (height, width, 3), and which of them the slide has.

        What cannot be decoded raises SlideError DAMAGED; given `lost_px`, it is not there, and its
        number of px is added to the list.
        """
        direct = self._direct.level(level)
        if direct is not None:
            return direct.read(x, y, width, height, lost_px=lost_px)
        if lost_px is None:
            rgba = self._read_general(level, x, y, width, height)
        else:
            rgba = self._read_parts(level, x, y, width, height, lost_px)
        covered = rgba[..., 3] > 0
        return rgba[..., :3].copy(), None if covered.all() else covered

    def _read_parts(
        self, level: int, x: int, y: int, width: int, height: int, lost_px: list[int]
    ) -> Pixels:
        """By OpenSlide, ever smaller parts around what it cannot decode, which stays empty."""
        try:
            return self._read_general(level, x, y, width, height)
        except SlideError:
            rgba = np.zeros((height, width, 4), dtype=np.uint8)
            if max(width, height) <= PART_PX:
                lost_px.append(width * height)
                return rgba
        w, h = -(-width // 2), -(-height // 2)
        for top in range(0, height, h):
            for left in range(0, width, w):
                size = min(w, width - left), min(h, height - top)
                part = self._read_parts(level, x + left, y + top, *size, lost_px)
                rgba[top : top + size[1], left : left + size[0]] = part
        return rgba

    def _read_general(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """By OpenSlide: RGBA (height, width, 4); alpha 0 beyond the slide and where not scanned."""
        down = self._openslide_downsamples[level]
        place = round(x * down), round(y * down)
        try:
            image = self._handle.read_region(place, level, (width, height))
        except openslide.OpenSlideError:
            image = self._read_again(place, level, (width, height))
        return np.array(image, dtype=np.uint8)

    def _read_again(self, place: tuple[int, int], level: int, size: tuple[int, int]) -> Image:
        """The handle is dead, perhaps by another thread's place: once more with one of our own,
        which others get only when it lives."""
        path = self.facts.path
        with self._reopening:
            try:
                own = openslide.OpenSlide(path)
                image: Image = own.read_region(place, level, size)
            except (openslide.OpenSlideError, OSError) as err:
                with suppress(openslide.OpenSlideError, OSError):
                    self._handle = openslide.OpenSlide(path)
                detail = without_path(err, Path(path))
                raise SlideError(QuarantineReason.DAMAGED, detail) from err
            self._handle = own
        return image


def _true_downsample(base: tuple[int, int], level: tuple[int, int]) -> float:
    """Level-0 px per level px.

    OpenSlide divides the sizes, but scanners shrink by a whole number and drop or round up what is
    left at the edge: on a section 25 mm wide the quotient is off by several µm.
    """
    quotient = (base[0] / level[0] + base[1] / level[1]) / 2
    whole = max(1, round(quotient))
    exact = all(abs(b / whole - n) < 1 for b, n in zip(base, level, strict=True))
    return float(whole) if exact else quotient


def _facts(path: Path, handle: openslide.OpenSlide, mpp: float | None) -> SlideFacts:
    properties = handle.properties
    if mpp is None:
        try:
            x = float(properties[openslide.PROPERTY_NAME_MPP_X])
            y = float(properties[openslide.PROPERTY_NAME_MPP_Y])
        except (KeyError, ValueError) as err:
            raise SlideError(QuarantineReason.NO_MPP) from err
        mpp = (x + y) / 2
    if not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, f"{mpp:g} µm per px")
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
    width, height = handle.dimensions
    return SlideFacts(
        path=str(path),
        fingerprint="",
        format=vendor,
        width_px=width,
        height_px=height,
        mpp=mpp,
        level_count=handle.level_count,
        is_dicom=vendor == "dicom",
    )
