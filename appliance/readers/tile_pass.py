"""Tile pass: tiles of a slide, decoded once for all readers that ask for them.

Readers that want tiles of one size share one stream: a batch is decoded, every reader answers it on
a lane, and the answers are taken in the order of the tiles. Memory does not grow with the slide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.findings.findings import MARGIN, SCORED
from appliance.geometry import TILE_PX, TileIndex
from appliance.readers.reader import Batch, TileSession
from appliance.slides.appearance import Appearance
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream, in_lanes
from models.spec import ModelSpec

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""

APPEARANCE_TILES = 100
"""Tiles of a slide whose stain and focus are compared with those of training."""
PLAIN_BATCH, PLAIN_LANES = 8, 1
"""Tiles of a batch and lanes where no reader has a network."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePass:
    """Outcome of a pass beside the readings.

    `read` is uint8 of the shape of the tile grid: 0 not read, `MARGIN`, `SCORED`.
    `unreadable_percent` is the share (0-100) of the judged tiles that the file does not give.
    """

    read: NDArray[np.uint8]
    appearance: Appearance
    unreadable_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Tiles of a slide to be read; `white_rgb` is the slide's glass."""

    slide: SlideReader
    white_rgb: tuple[int, int, int]
    judged: tuple[TileIndex, ...]
    margin: tuple[TileIndex, ...] = ()

    @property
    def every(self) -> list[TileIndex]:
        """All tiles, row by row."""
        return sorted((*self.judged, *self.margin), key=row_by_row)


def read_tiles(
    tiles: Tiles,
    sessions: Sequence[TileSession],
    what: str,
    progress: Progress,
    batch_size: int | None = None,
) -> TilePass:
    """Feed the tiles to the sessions; one stream for each size of tile that is asked for.

    `what` names the work to people. `batch_size` None: as many as fit the networks' free memory.
    The sessions are not finished here.
    """
    read = np.zeros(tiles.slide.grid.shape, dtype=np.uint8)
    appearance, unreadable = Appearance(), set[TileIndex]()
    by_size = sorted(sessions, key=lambda session: -session.px)
    for px, group in groupby(by_size, key=lambda session: session.px):
        stream = _Stream(tiles, list(group), px, batch_size)
        appearance = _more(appearance, stream.run(read, what, progress))
        unreadable.update(stream.unreadable)
    lost = len(unreadable.intersection(tiles.judged))
    return TilePass(
        read=read,
        appearance=appearance,
        unreadable_percent=100 * lost / max(1, len(tiles.judged)),
    )


class _Stream:
    """Tiles of one size, for the readers that want that size."""

    def __init__(
        self, tiles: Tiles, sessions: Sequence[TileSession], px: int, batch_size: int | None
    ) -> None:
        self._tiles, self._sessions, self._px = tiles, sessions, px
        networks = [s.network for s in sessions if s.network is not None]
        for network in networks:
            network.prepare(len(tiles.judged) + len(tiles.margin))
        self._specs = [network.spec for network in networks]
        self._lanes = networks[0].lanes if networks else PLAIN_LANES
        if batch_size is None:
            batch_size = min((n.fitting_batch() for n in networks), default=PLAIN_BATCH)
        memory: dict[str, Any] = {}
        if networks:
            # Memory and threads as the last, usually the largest, network wants them.
            memory = {"allocate": networks[-1].batch_memory, "threads": networks[-1].decoders}
        self._stream = TileStream(
            tiles.slide,
            tiles.every,
            tiles.white_rgb,
            batch_size,
            px=px,
            hold=self._lanes,
            **memory,
        )

    @property
    def unreadable(self) -> list[TileIndex]:
        return self._stream.unreadable

    def run(self, read: NDArray[np.uint8], what: str, progress: Progress) -> Appearance:
        """Read all tiles, mark them in `read`, and return their appearance."""
        judged = frozenset(self._tiles.judged)
        measured = spread(self._tiles.judged, APPEARANCE_TILES)
        with ThreadPoolExecutor(1, thread_name_prefix="appearance") as aside:
            appearance = Appearance()
            full_size: Future[Appearance] | None = None
            if self._px != TILE_PX:
                # Separate full-size stream, run concurrently with inference.
                some = sorted(measured, key=row_by_row)
                one = TileStream(self._tiles.slide, some, self._tiles.white_rgb, 1)
                full_size = aside.submit(_appearance_of, one, self._specs)
            done = 0
            for indices, pixels, answers in in_lanes(self._stream, self._answer, self._lanes):
                batch = Batch(
                    tiles=indices, pixels=pixels, judged=[index in judged for index in indices]
                )
                for index, is_judged in zip(indices, batch.judged, strict=True):
                    read[index.row, index.column] = SCORED if is_judged else MARGIN
                for session, answer in zip(self._sessions, answers, strict=True):
                    session.take(batch, answer)
                if full_size is None:
                    here = [p for i, p in zip(indices, pixels, strict=True) if i in measured]
                    appearance = appearance.seen(here, self._specs)
                elif full_size.done():
                    full_size.result()  # raise now, not after the whole slide
                done += len(indices)
                progress(what, done, len(self._tiles.judged) + len(self._tiles.margin))
            return appearance if full_size is None else full_size.result()

    def _answer(self, _: Sequence[TileIndex], pixels: NDArray[np.uint8]) -> list[Any]:
        return [session.answer(pixels) for session in self._sessions]


def close_all(sessions: Sequence[TileSession]) -> None:
    """Close every session; one that fails to close does not keep the next from it."""
    for session in sessions:
        with suppress(OSError, RuntimeError):
            session.close()


def _appearance_of(stream: TileStream, specs: Sequence[ModelSpec]) -> Appearance:
    appearance = Appearance()
    for _, pixels in stream:
        appearance = appearance.seen(pixels, specs)
    return appearance


def _more(first: Appearance, second: Appearance) -> Appearance:
    return Appearance(
        tiles=first.tiles + second.tiles,
        stain=first.stain + second.stain,
        focus=first.focus + second.focus,
    )


def row_by_row(tile: TileIndex) -> tuple[int, int]:
    """Order of tiles in a stream."""
    return tile.row, tile.column


def spread(tiles: Sequence[TileIndex], most: int) -> frozenset[TileIndex]:
    """Draw at most `most` tiles at random: every n-th would follow the grid's columns."""
    if len(tiles) <= most:
        return frozenset(tiles)
    drawn = np.random.default_rng(len(tiles)).choice(len(tiles), most, replace=False)
    return frozenset(tiles[k] for k in drawn.tolist())
