"""``tandem bench``: speed of reading a slide, and the limit of it.

Three upper bounds and the reading itself are interleaved in one run, so that noise of the machine
affects all alike: decoding of the plan's tiles at the size that the reading needs, the same tiles
at full size by OpenSlide, the networks on tiles in memory, and the reading from file to label map.
Other tools (`benchmarks.peer_tools`) take turns with these if named.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import openslide
from numpy.typing import NDArray

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_PX, TileIndex
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.intensity import IntensitySession
from appliance.readers.networks import classifier_px
from appliance.readers.reader import TileInput
from appliance.readers.segmentation import SegmentationSession
from appliance.readers.tile_pass import Progress, Tiles, close_all, read_tiles, silent
from appliance.readers.tumor import TumorSession
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.stream import DECODE_THREADS, TileStream
from appliance.slides.tissue import Tissue, find_tissue, tissue_share, tissue_tiles
from benchmarks.peer_tools import Commands, Peers, peers_on
from models.spec import Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

Reading = Literal["tumor", "stain"]
TASKS: dict[Reading, tuple[Task, ...]] = {
    "tumor": (Task.TUMOR,),
    "stain": (Task.INTENSITY, Task.SEGMENTATION),
}
SESSIONS: dict[Reading, tuple[Any, ...]] = {
    "tumor": (TumorSession,),
    "stain": (IntensitySession, SegmentationSession),
}
PRELOADED = 64
"""Tiles in memory for the upper bound of the networks, or a batch if that is more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Tiles of a slide with tissue; `scale` is px of `level` per tile px."""

    path: Path
    tiles: Sequence[TileIndex]
    picture: NDArray[np.uint8]
    tissue: Tissue
    level: int
    scale: float


def bench(
    slide: Path,
    reading: Reading,
    settings: Settings,
    *,
    most_tiles: int,
    repeats: int,
    progress: Progress,
    peers: Commands | None = None,
    untrained: str | None = None,
) -> dict[str, Any]:
    """Measure one slide; rates are medians over the repeats, in tiles per second.

    `peers` get the task of C, hence only for the reading of tumor. `untrained` names a
    configuration whose networks, with random weights, replace those in use.

    Raises
    ------
    SlideError
        If the slide cannot be opened, or holds no tissue.
    PeerError
        If a peer fails, or answers for other tiles.
    DataSetError
        If the configuration does not exist, or cannot do the task.
    """
    plan = planned(slide, most_tiles)
    networks = _networks(reading, settings, untrained)
    for network in networks:
        network.prepare(len(plan.tiles))
    batch_size = settings.models.batch_size or min(n.fitting_batch() for n in networks)
    px = classifier_px(networks[0].spec) if reading == "tumor" else TILE_PX
    batches, level_paths = _preloaded(slide, plan, batch_size, px)
    _answer(networks, batches[0])  # warm-up, not timed
    before = memory_mib("VmRSS", reset=True)
    read_plan(plan, reading, networks, batch_size)
    peak = memory_mib("VmHWM")
    works: dict[str, Callable[[], None]] = {
        "decode": lambda: decode(plan, px),
        "openslide": lambda: _openslide(plan),
        "model": lambda: _model(networks, batches, len(plan.tiles)),
        "end_to_end": lambda: read_plan(plan, reading, networks, batch_size),
    }
    with peers_on(peers or {}, slide, plan.tiles, networks[0], batch_size) as others:
        seconds = _interleaved(works, others, repeats, progress)
        figures = others.figures()
    rates = {name: len(plan.tiles) / median for name, median in seconds.items()}
    return {
        "levels": level_paths,
        "reading": reading,
        "networks": [network.spec.name for network in networks],
        "device": networks[0].device,
        "tiles": len(plan.tiles),
        "decoded_px": px,
        "batch_size": batch_size,
        "repeats": repeats,
        **{f"{name}_tiles_per_s": round(rate, 2) for name, rate in rates.items()},
        "decode_over_openslide": round(rates["decode"] / rates["openslide"], 2),
        "efficiency": round(rates["end_to_end"] / min(rates["decode"], rates["model"]), 3),
        **figures,
        "peak_rss_mib": peak,
        "rss_before_mib": before,
    }


def _preloaded(
    slide: Path, plan: Plan, batch_size: int, px: int
) -> tuple[list[NDArray[np.uint8]], Any]:
    """Batches of the plan's first tiles, and the paths by which the levels were read."""
    with SlideReader.open(slide) as reader:
        most = max(PRELOADED, batch_size)
        first = TileStream(reader, plan.tiles[:most], plan.tissue.white_rgb, batch_size, px=px)
        return [pixels.copy() for _, pixels in first], reader.paths_taken()


def _interleaved(
    works: dict[str, Callable[[], None]], others: Peers, repeats: int, progress: Progress
) -> dict[str, float]:
    """Median seconds of each work, over `repeats` rounds in which works and peers take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats):
        for number, (name, work) in enumerate(works.items()):
            progress("bench", repeat * len(works) + number, repeats * len(works))
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
        others.take_turns()
    return {name: statistics.median(times) for name, times in seconds.items()}


def _networks(reading: Reading, settings: Settings, untrained: str | None) -> list[Network]:
    from appliance.readers.inference import Network

    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as scratch:
        folders = []
        for task in TASKS[reading]:
            if untrained is None:
                folders.append(chosen_weights(task, settings)[0])
                continue
            from models.checkpoint import save_untrained
            from models.training.configuration import load_configuration

            folders.append(Path(scratch) / task)
            save_untrained(folders[-1], load_configuration(untrained, task).spec(task))
        return [Network(f, settings.models.device, settings.models.runtime) for f in folders]


def planned(slide: Path, most_tiles: int) -> Plan:
    """Plan at most `most_tiles` tiles with tissue, from the middle of the slide; raises
    SlideError."""
    with SlideReader.open(slide) as reader:
        facts = reader.facts
        mpp = thumbnail_mpp(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
        picture = reader.thumbnail(mpp)
        tissue = find_tissue(picture, mpp)
        tiles = tissue_tiles(tissue_share(tissue, reader.grid))
        level, scale = reader.level_for(TILE_MPP)
    if not tiles:
        raise SlideError(QuarantineReason.NO_TISSUE)
    # Adjacent tiles, as in a reading: the first rows from the middle on.
    start = max(0, min(len(tiles) // 2, len(tiles) - most_tiles))
    return Plan(
        path=slide,
        tiles=tiles[start : start + most_tiles],
        picture=picture,
        tissue=tissue,
        level=level,
        scale=scale,
    )


def decode(plan: Plan, px: int) -> None:
    """Decode the plan's tiles to `px` px each, on `DECODE_THREADS` threads."""
    with (
        SlideReader.open(plan.path) as reader,
        ThreadPoolExecutor(DECODE_THREADS) as pool,
    ):
        for _ in pool.map(partial(reader.read_tile, px=px), plan.tiles):
            pass


def _openslide(plan: Plan) -> None:
    """Read the same windows as RGB by plain `read_region`, on as many threads."""
    with openslide.OpenSlide(plan.path) as handle:
        down = handle.level_downsamples[plan.level]
        side = round(TILE_PX * plan.scale)

        def read(tile: TileIndex) -> NDArray[np.uint8]:
            x, y = (round(v * TILE_PX * plan.scale * down) for v in (tile.column, tile.row))
            region = handle.read_region((x, y), plan.level, (side, side))
            return np.asarray(region.convert("RGB"), dtype=np.uint8)

        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            for _ in pool.map(read, plan.tiles):
                pass


def _model(networks: Sequence[Network], batches: Sequence[NDArray[np.uint8]], tiles: int) -> None:
    some, left = [], tiles
    for batch in cycle(batches):
        some.append(batch[:left])
        left -= len(some[-1])
        if left == 0:
            break
    with ThreadPoolExecutor(networks[0].lanes) as pool:
        for _ in pool.map(lambda batch: _answer(networks, batch), some):
            pass


def _answer(networks: Sequence[Network], batch: NDArray[np.uint8]) -> None:
    for network in networks:
        if network.spec.task is Task.SEGMENTATION:
            network.segment(batch)
        else:
            network.classify(batch)


def read_plan(plan: Plan, reading: Reading, networks: Sequence[Network], batch_size: int) -> None:
    """Read the plan's tiles as the appliance does, from file to label map."""
    with (
        SlideReader.open(plan.path) as slide,
        tempfile.TemporaryDirectory(prefix="tandem-bench-") as scratch,
    ):
        given = TileInput(
            slide=slide,
            picture=plan.picture,
            tissue=plan.tissue,
            tiles=tuple(plan.tiles),
            margin=(),
            settings=Settings(),
            options={},
            beside=None,
            out=Path(scratch),
        )
        kinds = SESSIONS[reading]
        sessions = [kind(given, network) for kind, network in zip(kinds, networks, strict=True)]
        tiles = Tiles(slide=slide, white_rgb=plan.tissue.white_rgb, judged=given.tiles)
        try:
            read_tiles(tiles, sessions, reading, silent, batch_size)
            for session in sessions:
                session.finish()
        finally:
            close_all(sessions)


def memory_mib(name: str, *, reset: bool = False) -> int | None:
    """Value of a line of this process's memory facts in MiB, None on systems without such a
    file."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    if reset:
        # Linux: reset the peak (proc(5), clear_refs).
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return None if found is None else int(found.group(1)) // 1024
