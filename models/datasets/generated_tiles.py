"""Generated tiles on disk: made once by worker processes, read as memory maps."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.child_process import end_with_parent
from models.datasets.arrays import kept_array, new_array
from models.datasets.glass import calibrated
from models.datasets.progress import Progress
from models.spec import LABEL_STEP, TILE_PX
from models.synthesis.tile_pairs import synthesize_tile_pair

GENERATOR_VERSION = 3
"""Version of the mapping from seed to tile. A new version invalidates cached tiles."""
FIRST_RESERVED_SEED = 890_000_000
"""First seed that training never draws: from here on calibration, then held-out evaluation."""
FIRST_HELD_OUT_SEED = 900_000_000
SEEDS_PER_RUN = 1_000_000
CHUNK_TILES = 8
"""Tiles that a worker process draws at a time."""
FEW_TILES = 16
"""Most tiles that are drawn without worker processes, whose start takes longer."""
NON_TUMOR_SHARE = 0.15
"""Tiles without tumor per tumor tile for L and M, which also see the rim of what C calls tumor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Tile pairs, glass calibrated to 255.

    `he`, `ihc` uint8 (N, 512, 512, 3); `classes` uint8 (N, 128, 128), 0-4; `tumor` uint8 (N,), 0/1;
    `intensity` uint8 (N,), 0-3.
    """

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    tumor: NDArray[np.uint8]
    intensity: NDArray[np.uint8]
    folder: Path

    def __len__(self) -> int:
        return len(self.tumor)


_NAMES = ("he", "ihc", "classes", "tumor", "intensity")


def generated_tiles(
    folder: Path,
    *,
    first_seed: int,
    count: int,
    progress: Progress,
    stained_stroma: int = 0,
    rough_share: float = 0.0,
) -> Tiles:
    """Tiles of seeds first_seed … first_seed + count - 1; made in `folder` unless they exist.

    The following `stained_stroma` seeds add as many tiles of tumor in stained stroma. The share
    `rough_share` (0-1) of all is drawn irregularly. An interrupted set is made again: its index is
    written last.
    """
    more = f"+{stained_stroma}" if stained_stroma else ""
    more += f"~m{rough_share:g}" if rough_share else ""
    folder = folder / f"v{GENERATOR_VERSION}-{first_seed}-{count}{more}"
    index = folder / "index.json"
    if not index.is_file():
        _generate(folder, first_seed, count, stained_stroma, rough_share, progress)
        index.write_text(json.dumps({"first_seed": first_seed, "count": count}) + "\n")
    return Tiles(
        **{name: kept_array(folder / f"{name}.npy") for name in _NAMES},
        folder=folder,
    )


def _generate(
    folder: Path,
    first_seed: int,
    usual: int,
    stained_stroma: int,
    rough_share: float,
    progress: Progress,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    count = usual + stained_stroma
    shapes = {
        "he": (count, TILE_PX, TILE_PX, 3),
        "ihc": (count, TILE_PX, TILE_PX, 3),
        "classes": (count, TILE_PX // LABEL_STEP, TILE_PX // LABEL_STEP),
        "tumor": (count,),
        "intensity": (count,),
    }
    arrays = {name: new_array(folder / f"{name}.npy", shape) for name, shape in shapes.items()}
    seeds = range(first_seed, first_seed + count)
    stained = [k >= usual for k in range(count)]
    for number, tile in enumerate(_drawn(seeds, stained, rough_share)):
        for name in _NAMES:
            arrays[name][number] = getattr(tile, name)
        progress("generating tiles", number + 1, count)
    for array in arrays.values():
        array.flush()


def _drawn(seeds: range, stained: list[bool], rough_share: float) -> Iterator[GeneratedTile]:
    """Yield the tiles of the seeds, by worker processes unless they are few."""
    if len(seeds) <= FEW_TILES:
        threads = cv2.getNumThreads()
        try:
            yield from map(generated_tile, seeds, stained, repeat(rough_share))
        finally:
            cv2.setNumThreads(threads)  # `generated_tile` takes one
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        yield from pool.map(
            generated_tile, seeds, stained, repeat(rough_share), chunksize=CHUNK_TILES
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedTile:
    """One row of `Tiles`."""

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    tumor: int
    intensity: int


def generated_tile(
    seed: int, stained_stroma: bool = False, rough_share: float = 0.0
) -> GeneratedTile:
    """The tile pair of a seed as networks see it; runs in worker processes."""
    cv2.setNumThreads(1)
    pair = synthesize_tile_pair(seed, stained_stroma=stained_stroma, rough_share=rough_share)
    half = LABEL_STEP // 2
    return GeneratedTile(
        he=calibrated(pair.he, pair.he_white),
        ihc=calibrated(pair.ihc, pair.white),
        classes=pair.class_map[half::LABEL_STEP, half::LABEL_STEP],
        tumor=int(pair.tumor),
        intensity=pair.intensity,
    )
