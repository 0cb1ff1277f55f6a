"""Cache of decoded tiles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from appliance.slides.encoded import Pixels

CACHED_BYTES = 64 * 2**20
"""Size of the decoded tiles that are kept, so that a tile which straddles two reads is decoded
once."""


class TileCache:
    """The most recently used decoded tiles, up to a number of bytes; usable by many threads."""

    def __init__(self, most_bytes: int = CACHED_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._tiles: OrderedDict[tuple[int, ...], Pixels] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, ...], make: Callable[[], Pixels], *, keep: bool = True) -> Pixels:
        """Return the tile of `key`, or decode it by `make`.

        `make` runs outside the lock, so two threads may decode the same tile at once. A new tile
        enters the cache if `keep` is set.
        """
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        tile = make()
        if not keep:
            return tile
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._held += tile.nbytes
            while self._held > self._most:
                _, oldest = self._tiles.popitem(last=False)
                self._held -= oldest.nbytes
        return tile
