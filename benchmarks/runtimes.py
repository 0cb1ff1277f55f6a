"""OpenVINO beside torch on a CPU: ``python benchmarks/runtimes.py --read stain SLIDE…``

The networks take turns on the same tiles in memory; speedup and agreement are printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_PX
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.inference import Network, Runtime
from appliance.readers.networks import classifier_px
from appliance.settings.settings_file import load_settings
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from benchmarks.bench import TASKS, planned
from models.spec import Task

Tiles = NDArray[np.uint8]
RUNTIMES: tuple[Runtime, ...] = ("torch", "openvino")


def main(arguments: Sequence[str]) -> None:
    """Print a line per network and slide."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--read", choices=("tumor", "stain"), default="stain")
    parser.add_argument("--tiles", type=int, default=400, help="of each slide, from its middle")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    settings = load_settings(None)
    for task in TASKS[options.read]:
        folder = chosen_weights(task, settings)[0]
        sides = [Network(folder, "cpu", runtime) for runtime in RUNTIMES]
        px = classifier_px(sides[0].spec) if options.read == "tumor" else TILE_PX
        for slide in options.slides:
            compare(task, slide, sides, px, options.tiles, options.repeats)


def compare(
    task: Task, slide: Path, sides: Sequence[Network], px: int, most: int, repeats: int
) -> None:
    """Compare on one slide and print one line."""
    plan = planned(slide, most)
    size = sides[0].fitting_batch()
    with SlideReader.open(slide) as reader:
        stream = TileStream(reader, plan.tiles, plan.tissue.white_rgb, size, px=px)
        batches = [pixels.copy() for _, pixels in stream]
    seconds: list[list[float]] = [[] for _ in sides]
    said = [answers(task, side, batches) for side in sides]  # warm-up, not timed
    for _ in range(repeats):
        for side, own in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            answers(task, side, batches)
            own.append(time.perf_counter() - start)
    torch_s, openvino_s = (statistics.median(own) for own in seconds)
    alike = 100 * (said[0] == said[1]).mean()
    count = sum(len(batch) for batch in batches)
    print(
        f"{task:<13}{slide.name:<30}{count:5d} tiles  torch {count / torch_s:6.1f}/s  "
        f"openvino {count / openvino_s:6.1f}/s  {torch_s / openvino_s:.2f} times  "
        f"{alike:.3f} % {'px' if task is Task.SEGMENTATION else 'tiles'} alike",
        flush=True,
    )


def answers(task: Task, network: Network, batches: Sequence[Tiles]) -> NDArray[np.int64]:
    """Return the classes of all tiles, or of all px, flat; batches run in the product's lanes."""
    ask = network.segment if task is Task.SEGMENTATION else network.classify
    with ThreadPoolExecutor(network.lanes) as pool:
        said: list[Any] = list(pool.map(ask, batches))
    if task is Task.SEGMENTATION:
        return np.concatenate([maps.ravel() for maps in said])
    return np.concatenate([likely.argmax(axis=1) for likely in said])


if __name__ == "__main__":
    main(sys.argv[1:])
