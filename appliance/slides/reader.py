"""The slide reader: tiles and overviews of any slide at any resolution.

OpenSlide reads the format, the header and every px (`general`). Where the tiles of a level decode
to the same px, they are read directly from the file (`direct`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from numpy.typing import NDArray

from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_PX, TileGrid, TileIndex
from appliance.slides.direct import DirectSlide
from appliance.slides.direct_level import Covered
from appliance.slides.encoded import Pixels
from appliance.slides.general import PART_PX, GeneralSlide, open_handle
from appliance.slides.glass import glass_rgb
from appliance.slides.header import read_facts, shows_the_same, true_downsample
from appliance.slides.places import place_of
from appliance.slides.resample import Span
from appliance.slides.trouble import without_path
from appliance.slides.window import sample_window

PROBE_GRID = 4
"""Places per row and per column of each level that `SlideReader.probe` decodes."""
PROBE_PX = 1 << 22
"""Px of the coarsest level that are read at once where the probe finds none."""
MOST_LOST = 0.01
"""Largest share of the scanned px that no level may give: unseen tissue is not analyzed."""
MOST_MENDED = 0.15
"""Largest share of them that is looked for in finer levels: these cost many times as much."""
HALVED_FROM = 1.99
"""Level px per target px from which on the level at half its size is fine enough."""
BLOCK_PX = 2048
"""Edge, in level px, of the blocks in which an overview is read: memory does not grow with it."""


class SlideReader:
    """A slide; use as a context manager. Level-0 px unless a name says otherwise."""

    def __init__(self, handle: openslide.OpenSlide, facts: SlideFacts) -> None:
        path = Path(facts.path)
        self.facts = facts
        self.grid = TileGrid.of(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
        self._general = GeneralSlide(handle, path)
        self._direct = DirectSlide(path, handle.level_dimensions, self._general.read)
        self._downsamples = [
            # Never chosen: another picture, such as a macro or a second scan of a series.
            true_downsample(handle.dimensions, size)
            if shows_the_same(handle.dimensions, size)
            else math.inf
            for size in handle.level_dimensions
        ]

    @classmethod
    def open(cls, path: Path, *, mpp: float | None = None) -> SlideReader:
        """Open a slide; `mpp` (µm per level-0 px) overrides the header's.

        Raises
        ------
        SlideError
            UNREADABLE, UNSUPPORTED, NOT_PYRAMIDAL, MISSING_TAGS, DAMAGED, NO_MPP, IMPLAUSIBLE_MPP,
            ANISOTROPIC.
        """
        handle = open_handle(path)
        try:
            return cls(handle, read_facts(path, handle, mpp))
        except (SlideError, OSError):
            handle.close()
            raise
        except Exception as err:  # damaged tags make tifffile raise errors of any type
            handle.close()
            raise SlideError(QuarantineReason.DAMAGED, without_path(err, path)) from err

    @classmethod
    def of(cls, facts: SlideFacts) -> SlideReader:
        """Open the slide of known facts at their resolution.

        Raises
        ------
        SlideError
            As `open`; DAMAGED where it has another size. OpenSlide leaves out a file of a DICOM
            series that it cannot open, and the largest of the others would be taken for level 0.
        """
        opened = cls.open(place_of(facts.path), mpp=facts.mpp)
        size = opened.facts.width_px, opened.facts.height_px
        if size != (facts.width_px, facts.height_px):
            known = f"{facts.width_px} x {facts.height_px} px"
            detail = f"it opens with {size[0]} x {size[1]} px, and has {known}"
            with opened:
                raise SlideError(QuarantineReason.DAMAGED, detail)
        return opened

    def __enter__(self) -> SlideReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._direct.close()
        self._general.close()

    @property
    def properties(self) -> Mapping[str, str]:
        """Header of the slide, under OpenSlide's names."""
        return self._general.properties

    def paths_taken(self) -> list[str]:
        """Path on which each level is read: ``direct`` or ``openslide``."""
        levels = range(len(self._general.level_sizes))
        return ["openslide" if self._direct.level(n) is None else "direct" for n in levels]

    def probe(self) -> None:
        """Decode a spread of places on every level, the last rows included.

        A damaged slide often opens and reads down to some row. A file whose copy only reserved its
        length reads as empty. One bad place may be a single bad tile, which analysis counts; two on
        one level, apart, are a damaged slide. Raises SlideError DAMAGED.
        """
        anything = False
        for level, (width, height) in enumerate(self._general.level_sizes):
            bad = set()
            for j in range(PROBE_GRID):
                for i in range(PROBE_GRID):
                    x = (width - 1) * i // (PROBE_GRID - 1)
                    y = (height - 1) * j // (PROBE_GRID - 1)
                    try:
                        anything |= bool(self._general.read(level, x, y, 1, 1)[..., 3].any())
                    except SlideError:
                        bad.add((x // PART_PX, y // PART_PX))
                        if len(bad) > 1:
                            raise
        if not anything and not self._shows_anything():
            raise SlideError(QuarantineReason.DAMAGED, "no level holds any pixels")

    def _shows_anything(self) -> bool:
        """Return whether the coarsest level holds px: what was scanned may lie between the places
        of the probe, as that of a biopsy does."""
        last = len(self._general.level_sizes) - 1
        width, height = self._general.level_sizes[last]
        rows = max(1, PROBE_PX // width)
        return any(
            bool(self._general.read(last, 0, top, width, min(rows, height - top))[..., 3].any())
            for top in range(0, height, rows)
        )

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """Overview of the whole slide at exactly `mpp`: uint8 RGB (rows, columns, 3).

        columns = ceil(width in µm / mpp). Px that were not scanned, or that no level gives, get the
        color of the slide's glass. Raises SlideError DAMAGED where these are more than `MOST_LOST`
        of the scanned ones.
        """
        rows = math.ceil(self.facts.height_px * self.facts.mpp / mpp - 1e-6)
        columns = math.ceil(self.facts.width_px * self.facts.mpp / mpp - 1e-6)
        level, scale = self.level_for(mpp)  # level px per overview px
        image = np.empty((rows, columns, 3), dtype=np.uint8)
        scanned = np.ones((rows, columns), dtype=bool)
        lost: list[tuple[tuple[slice, slice], float]] = []
        for part in _blocks(rows, columns, scale):
            image[part], scanned[part], without = self._overview(level, mpp, part)
            if without:
                lost.append((part, without))
        whole = scanned.sum() + sum(px for _, px in lost)
        left = sum(px for _, px in lost)
        if left <= MOST_MENDED * whole:
            left = 0.0
            for part, px in lost:
                left += self._mended(level, mpp, part, image[part], scanned[part], px)
                if left > MOST_LOST * whole:
                    break
        if left > MOST_LOST * whole:
            # Blocks overlap by some px, so a tile that two of them need counts twice.
            share = min(100.0, 100 * left / whole)
            raise SlideError(QuarantineReason.DAMAGED, f"{share:.0f} % of it cannot be decoded")
        if not scanned.all() and scanned.any():
            image[~scanned] = glass_rgb(image[scanned])
        return image

    def _overview(
        self, level: int, mpp: float, part: tuple[slice, slice]
    ) -> tuple[Pixels, NDArray[np.bool_], float]:
        """A part of the overview: RGB, where the level has px, and how many of it are lost."""
        scale = mpp / self.facts.mpp / self._downsamples[level]
        (top, rows), (left, columns) = ((edge.start, edge.stop - edge.start) for edge in part)
        lost_px: list[int] = []
        image, found = self._sample(level, scale, left, top, columns, rows, lost_px=lost_px)
        covered = np.ones((rows, columns), dtype=bool) if found is None else found
        return image, covered, sum(lost_px) / max(scale, 1.0) ** 2

    def _mended(
        self,
        level: int,
        mpp: float,
        part: tuple[slice, slice],
        image: Pixels,
        scanned: NDArray[np.bool_],
        lost: float,
    ) -> float:
        """Fill in px of a part that finer levels have and this one lost; return how many stay lost.

        `image` and `scanned` are those of the part, and are changed.
        """
        finer = [n for n in range(level) if math.isfinite(self._downsamples[n])]
        if not finer:
            return lost
        left = 0.0
        scale = mpp / self.facts.mpp / self._downsamples[finer[-1]]
        for block in _blocks(len(scanned), scanned.shape[1], scale):
            if scanned[block].all():
                continue
            at = _moved(block[0], part[0].start), _moved(block[1], part[1].start)
            seen, covered, without = self._overview(finer[-1], mpp, at)
            new = covered & ~scanned[block]
            image[block][new] = seen[new]
            scanned[block] |= covered
            without = min(without, float((~scanned[block]).sum()))
            if without:
                there = image[block], scanned[block]
                without = self._mended(finer[-1], mpp, at, *there, without)
            left += without
        return left

    def read_tile(self, index: TileIndex, px: int = TILE_PX) -> NDArray[np.uint8]:
        """A tile of the grid: uint8 RGB (`px`, `px`, 3), white outside the slide.

        512 px are at `TILE_MPP`, and accurate in place to 1/16 px of the level. Fewer px come from
        the cheapest level that has them, or from a codec that decodes to half the size. Raises
        SlideError DAMAGED where the tile cannot be decoded.
        """
        level, scale = self.level_for(TILE_MPP * TILE_PX / px)  # level px per tile px
        left, top = index.column * px, index.row * px
        if px < TILE_PX and scale >= HALVED_FROM and (half := self._direct.half(level)) is not None:

            def read(x: Span, y: Span) -> tuple[Pixels, Covered]:
                return half.read(x.first, y.first, x.count, y.count)

            return sample_window(read, scale / 2, left, top, px, px)[0]
        return self._sample(level, scale, left, top, px, px)[0]

    def has_px(self, index: TileIndex, px: int = TILE_PX) -> bool:
        """Return whether the slide has px of a tile at the level that `read_tile` reads."""
        level, scale = self.level_for(TILE_MPP * TILE_PX / px)
        left, top = index.column * px, index.row * px
        covered = self._sample(level, scale, left, top, px, px)[1]
        return covered is None or bool(covered.any())

    def read_window(
        self, downsample: float, left: int, top: int, columns: int, rows: int
    ) -> NDArray[np.uint8]:
        """Window of the slide for the eye: uint8 RGB (`rows`, `columns`, 3), white outside of it.

        A px is `downsample` level-0 px wide, and `left` and `top` count such px. At 1 these are the
        px of level 0. Raises SlideError DAMAGED where a part cannot be decoded.
        """
        level, scale = self.level_for(self.facts.mpp * downsample)
        return self._sample(level, scale, left, top, columns, rows)[0]

    def level_for(self, mpp: float) -> tuple[int, float]:
        """(level, scale): the coarsest level at least as fine as `mpp`, its px per target px."""
        wanted = mpp / self.facts.mpp
        level = 0
        for candidate, downsample in enumerate(self._downsamples):
            if downsample <= wanted * 1.005:
                level = candidate
        return level, wanted / self._downsamples[level]

    def _sample(
        self,
        level: int,
        scale: float,
        left: int,
        top: int,
        columns: int,
        rows: int,
        *,
        lost_px: list[int] | None = None,
    ) -> tuple[Pixels, Covered]:
        """Window of a level as `sample_window` returns it; `lost_px` as in `_read`."""

        def read(x: Span, y: Span) -> tuple[Pixels, Covered]:
            return self._read(level, x.first, y.first, x.count, y.count, lost_px=lost_px)

        return sample_window(read, scale, left, top, columns, rows)

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
        """Level px from (x, y): RGB (height, width, 3), and where the slide has px.

        Px that cannot be decoded raise SlideError DAMAGED. With `lost_px` they count as missing
        instead, and their number is appended to the list.
        """
        direct = self._direct.level(level)
        if direct is not None:
            return direct.read(x, y, width, height, lost_px=lost_px)
        if lost_px is None:
            rgba = self._general.read(level, x, y, width, height)
        else:
            rgba = self._general.read_parts(level, x, y, width, height, lost_px)
        covered = rgba[..., 3] > 0
        return rgba[..., :3].copy(), None if covered.all() else covered


def _blocks(rows: int, columns: int, scale: float) -> Iterator[tuple[slice, slice]]:
    """Yield the blocks (rows, columns) of an overview whose px are `scale` px of a level wide."""
    block = max(1, int(BLOCK_PX / max(scale, 1.0)))
    for top in range(0, rows, block):
        for left in range(0, columns, block):
            yield slice(top, min(top + block, rows)), slice(left, min(left + block, columns))


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
