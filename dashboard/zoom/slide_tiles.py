"""Tiles of slides for the deep zoom, down to the scanner's px, read from the slide's file.

The grid is that of Deep Zoom Images: level `highest` has the px of level 0 of the slide, each level
below has px twice as wide, and a tile is `TILE_PX` wide without overlap.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import simplejpeg

from appliance.artifacts import ArtifactStore
from appliance.delivery.frozen import Signature, require_identified, require_signature
from appliance.domain import SlideFacts
from appliance.slides.places import place_of
from appliance.slides.reader import SlideReader

TILE_PX = 512
QUALITY = 90
"""Quality of JPEG, without subsampling of color: a membrane is one or two px wide."""
MOST_OPEN = 8
"""Slides that are kept open: both slides of the cases that four people look at."""
LOOK_AGAIN_S = 2.0
"""Seconds after which the file of an open slide is compared with the identified one again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Window of a tile: its px are `downsample` px of the whole wide; all else counts such px."""

    downsample: int
    left: int
    top: int
    columns: int
    rows: int


def highest_level(width_px: int, height_px: int) -> int:
    """Return the level that has the px of the whole, as Deep Zoom Images number them."""
    return math.ceil(math.log2(max(width_px, height_px, 1)))


def place_of_tile(size_px: tuple[int, int], level: int, column: int, row: int) -> Place | None:
    """Return the window of a tile of a picture of `size_px` (width, height); None outside of it."""
    highest = highest_level(*size_px)
    if not 0 <= level <= highest:
        return None
    down = 2 ** (highest - level)
    width, height = (math.ceil(px / down) for px in size_px)
    left, top = column * TILE_PX, row * TILE_PX
    if not (0 <= left < width and 0 <= top < height):
        return None
    return Place(down, left, top, min(TILE_PX, width - left), min(TILE_PX, height - top))


def slide_tile(reader: SlideReader, level: int, column: int, row: int) -> bytes | None:
    """Return a tile of a slide as JPEG; None outside of the slide.

    Raises
    ------
    SlideError
        DAMAGED, if the tile cannot be decoded.
    """
    place = place_of_tile((reader.facts.width_px, reader.facts.height_px), level, column, row)
    if place is None:
        return None
    rgb = reader.read_window(place.downsample, place.left, place.top, place.columns, place.rows)
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb), quality=QUALITY, colorspace="RGB", colorsubsampling="444"
    )
    return encoded


@dataclass(slots=True, eq=False)
class _Held:
    """Slide that is open, or about to be; `users` threads read it."""

    lock: Lock = field(default_factory=Lock)
    reader: SlideReader | None = None
    signature: Signature = ()
    compared_at: float = 0.0
    users: int = 0


class OpenSlides:
    """Slides that stay open between tiles, at most `MOST_OPEN`; usable by many threads."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._lock = Lock()
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()

    @contextmanager
    def reading(self, facts: SlideFacts) -> Iterator[SlideReader]:
        """Yield the reader of a slide, whose file is the one that was identified.

        Raises
        ------
        SourceChangedError
            If it is another file.
        SlideError
            If it is gone, or cannot be opened.
        OSError
            If the file system fails.
        """
        key = facts.path, facts.fingerprint
        with self._lock:
            held = self._held.setdefault(key, _Held())
            self._held.move_to_end(key)
            held.users += 1
        sound = False
        try:
            with held.lock:
                reader = self._ready(held, facts)
            sound = True
            yield reader
        finally:
            with self._lock:
                held.users -= 1
                if not sound and self._held.get(key) is held:
                    del self._held[key]
                idle = [each for each in self._held if not self._held[each].users]
                many = max(0, len(self._held) - MOST_OPEN)
                spare = [self._held.pop(each) for each in idle[:many]]
                if not held.users and self._held.get(key) is not held and held not in spare:
                    spare.append(held)
            for each in spare:
                _close(each)

    def _ready(self, held: _Held, facts: SlideFacts) -> SlideReader:
        now = time.monotonic()
        if held.reader is None:
            held.signature = require_identified(facts, self._store)
            held.reader = SlideReader.of(facts)
        elif now - held.compared_at > LOOK_AGAIN_S:
            require_signature(place_of(facts.path), held.signature)
        else:
            return held.reader
        held.compared_at = now
        return held.reader


def _close(held: _Held) -> None:
    if held.reader is not None:
        with held.reader:
            held.reader = None
