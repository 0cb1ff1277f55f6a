"""The direct path into a slide: encoded tiles of the file, passed straight to the codec.

OpenSlide composes every read on a transparent canvas, which costs several times what decoding does.
The direct path reads a tile from its file at its offset and decodes it, nothing else. OpenSlide
alone knows what a format does beyond its tiles (stitching, overlaps, special colors). A level is
therefore read directly only where samples of it are identical to OpenSlide's px:
`DirectSlide.level` compares them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.dicom_tiles import dicom_levels
from appliance.slides.direct_level import DirectLevel, halved
from appliance.slides.encoded import Pixels
from appliance.slides.files import is_dicom_slide
from appliance.slides.tiff_tiles import tiff_levels
from appliance.slides.tile_cache import TileCache

log = logging.getLogger(__name__)

SAMPLES = 8
"""Tiles of a level that are compared with OpenSlide's."""


class DirectSlide:
    """The levels of a slide that can be read directly; each is compared at its first read.

    `sizes` (width, height) of the levels; `general` reads RGBA (height, width, 4) of a level by
    OpenSlide, from (level, x, y, width, height).
    """

    def __init__(
        self,
        path: Path,
        sizes: Sequence[tuple[int, int]],
        general: Callable[[int, int, int, int, int], Pixels],
    ) -> None:
        self._general = general
        self._lock = Lock()
        self._opening = Lock()
        self._checked: dict[int, DirectLevel | None] = {}
        self._files: dict[Path, int] = {}
        cache = TileCache()
        levels = dicom_levels(path, sizes) if is_dicom_slide(path) else None
        encoded = levels or tiff_levels(path, sizes)
        self._found = {
            number: DirectLevel(level, (number, 1), partial(self._fetch, level.path), cache)
            for number, level in encoded.items()
        }
        self._halved = {
            number: DirectLevel(half, (number, 2), partial(self._fetch, level.path), cache)
            for number, level in encoded.items()
            if (half := halved(level)) is not None
        }

    def close(self) -> None:
        """Close the files of the slide."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def level(self, number: int) -> DirectLevel | None:
        """The level; None where its px are not identical to OpenSlide's."""
        with self._lock:
            if number not in self._checked:
                level = self._found.get(number)
                same = level is not None and self._same(number, level)
                self._checked[number] = level if same else None
                if not same:
                    log.info(
                        "level %d is read by OpenSlide: its tiles alone give other pixels, or none",
                        number,
                    )
            return self._checked[number]

    def half(self, number: int) -> DirectLevel | None:
        """The level at half its size, straight from the codec; None where that costs as much.

        The slide has no such level: its px are nearly, not exactly, the means of four.
        """
        return None if self.level(number) is None else self._halved.get(number)

    def _same(self, number: int, level: DirectLevel) -> bool:
        """Return whether the fullest tiles equal OpenSlide's px; False where none compares."""
        compared = 0
        for column, row in level.fullest(SAMPLES):
            try:
                tile = level.tile(column, row)
                if tile is None:
                    continue
                height, width = tile.shape[:2]
                rgba = self._general(number, column * width, row * height, width, height)
            except SlideError:  # a damaged tile is no evidence about the others
                continue
            if not (rgba[..., 3] == 255).all() or not np.array_equal(rgba[..., :3], tile):
                return False
            compared += 1
        return compared > 0

    def _fetch(self, path: Path, offset: int, count: int) -> bytes:
        with self._opening:
            if path not in self._files:
                self._files[path] = os.open(path, os.O_RDONLY)
            file = self._files[path]
        data = os.pread(file, count, offset)
        if len(data) < count:
            raise SlideError(QuarantineReason.DAMAGED, "the file ends within a tile")
        return data
