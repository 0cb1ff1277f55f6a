"""``tandem bench``: how fast a slide is read, and what limits it.

Three ceilings and the truth, interleaved in one run, so that a noisy machine is as noisy for each:
decoding the plan's tiles and nothing else (as large as the reading wants them), the same tiles at
full size by OpenSlide alone, the networks on tiles that lie in memory, and the real reading from
file to label map. Other tools (`benchmarks.peer_tools`) take their turns with these where named.
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
from appliance.findings.label_map import LabelWriter
from appliance.geometry import TILE_MPP, TILE_PX, TileIndex
from appliance.line.analysis import IHC_RASTER_UM
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.reading import Progress, White, classifier_px, read_stain, read_tumor
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.raster import RasterGrid
from appliance.slides.reader import SlideReader
from appliance.slides.stream import DECODE_THREADS, TileStream
from appliance.slides.tissue import find_tissue, tissue_share, tissue_tiles
from benchmarks.peer_tools import Commands, peers_on
from models.spec import Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

Reading = Literal["tumor", "stain"]
TASKS: dict[Reading, tuple[Task, ...]] = {
    "tumor": (Task.TUMOR,),
    "stain": (Task.INTENSITY, Task.SEGMENTATION),
}
PRELOADED = 64
"""Tiles in memory for the networks' own ceiling, or a batch where that is more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Tiles of a slide with tissue; `scale` is px of `level` per tile px."""

    path: Path
    tiles: Sequence[TileIndex]
    white_rgb: White
    raster: RasterGrid
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

    `peers` are asked to do what C does, so they go with the reading of tumor alone. `untrained`
    names a configuration whose networks, with random weights, take the place of those in use.

    Raises
    ------
    SlideError
        If the slide cannot be opened, or holds no tissue.
    PeerError
        If a peer does not run, or answers for other tiles.
    DataSetError
        If there is no such configuration, or it cannot do the task.
    """
    plan = planned(slide, most_tiles)
    networks = _networks(reading, settings, untrained)
    batch_size = settings.models.batch_size or min(n.fitting_batch() for n in networks)
    px = classifier_px(networks[0].spec) if reading == "tumor" else TILE_PX
    with SlideReader.open(slide) as reader:
        most = max(PRELOADED, batch_size)
        first = TileStream(reader, plan.tiles[:most], plan.white_rgb, batch_size, px=px)
        batches = [pixels.copy() for _, pixels in first]
        level_paths = reader.paths_taken()
    _answer(networks, batches[0])  # once before the clock runs
    before = memory_mib("VmRSS", reset=True)
    read_plan(plan, reading, networks, batch_size)
    peak = memory_mib("VmHWM")
    kinds: dict[str, Callable[[], None]] = {
        "decode": lambda: decode(plan, px),
        "openslide": lambda: _openslide(plan),
        "model": lambda: _model(networks, batches, len(plan.tiles)),
        "end_to_end": lambda: read_plan(plan, reading, networks, batch_size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    with peers_on(peers or {}, slide, plan.tiles, networks[0], batch_size) as others:
        for repeat in range(repeats):
            for number, (name, work) in enumerate(kinds.items()):
                progress("bench", repeat * len(kinds) + number, repeats * len(kinds))
                start = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
            others.take_turns()
        figures = others.figures()
    rates = {name: len(plan.tiles) / statistics.median(s) for name, s in seconds.items()}
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
    """At most so many tiles with tissue, from the middle of the slide; raises SlideError."""
    with SlideReader.open(slide) as reader:
        facts = reader.facts
        mpp = thumbnail_mpp(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
        tissue = find_tissue(reader.thumbnail(mpp), mpp)
        tiles = tissue_tiles(tissue_share(tissue, reader.grid))
        level, scale = reader.level_for(TILE_MPP)
    if not tiles:
        raise SlideError(QuarantineReason.NO_TISSUE)
    # Neighbours, as a real reading has them: the first rows from the middle on.
    start = max(0, min(len(tiles) // 2, len(tiles) - most_tiles))
    return Plan(
        path=slide,
        tiles=tiles[start : start + most_tiles],
        white_rgb=tissue.white_rgb,
        raster=RasterGrid.of(facts, IHC_RASTER_UM),
        level=level,
        scale=scale,
    )


def decode(plan: Plan, px: int) -> None:
    """The plan's tiles to `px` px each, by `DECODE_THREADS`, and nothing else."""
    with (
        SlideReader.open(plan.path) as reader,
        ThreadPoolExecutor(DECODE_THREADS) as pool,
    ):
        for _ in pool.map(partial(reader.read_tile, px=px), plan.tiles):
            pass


def _openslide(plan: Plan) -> None:
    """Plain `read_region` of the same windows on as many threads, to RGB."""
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
    """The real reading, from file to label map."""
    with SlideReader.open(plan.path) as reader:
        if reading == "tumor":
            (tumor,) = networks
            read_tumor(reader, plan.tiles, plan.white_rgb, tumor, batch_size, _silent)
        else:
            intensity, segmentation = networks
            with (
                tempfile.TemporaryDirectory(prefix="tandem-bench-") as scratch,
                LabelWriter(Path(scratch) / "labels.zarr.zip", plan.raster) as labels,
            ):
                read_stain(
                    reader,
                    plan.tiles,
                    plan.white_rgb,
                    labels,
                    intensity,
                    segmentation,
                    batch_size,
                    _silent,
                )


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


def memory_mib(name: str, *, reset: bool = False) -> int | None:
    """A line of this process's memory facts; none where the system has no such file."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    if reset:
        # Linux: the peak counts from here (proc(5), clear_refs).
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return None if found is None else int(found.group(1)) // 1024
