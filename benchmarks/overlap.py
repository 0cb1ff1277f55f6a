"""Loss of a reading beside a separate device: ``python benchmarks/overlap.py SLIDE``.

No GPU is needed: a stand-in replaces the networks. It takes one batch at a time and sleeps for the
time that a device of a given rate would take; its answers mean nothing. The benchmark thus
measures the loop around a device (decoding, painting, cells), not a device. Devices of half, once
and twice the rate of decoding take turns with decoding alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_PX
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.inference import DEVICE_LANES
from appliance.readers.networks import classifier_px
from appliance.settings.settings_file import load_settings
from appliance.slides.stream import DECODE_THREADS
from benchmarks.bench import TASKS, Reading, decode, planned, read_plan
from models.spec import ModelSpec

RATES = (0.5, 1.0, 2.0)
"""Rates of the stand-in, as multiples of the rate of decoding."""


class StandIn:
    """Replacement for a `Network` that takes the time of a device of `rate` tiles per second."""

    lanes = DEVICE_LANES
    decoders = DECODE_THREADS

    def __init__(self, spec: ModelSpec, device: Lock, rate: float) -> None:
        self.spec, self._device, self._rate = spec, device, rate

    def batch_memory(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return host memory."""
        return np.empty(shape, dtype=np.uint8)

    def classify(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the first class for each tile."""
        self._wait(len(tiles))
        said = np.zeros((len(tiles), len(self.spec.classes)), dtype=np.float32)
        said[:, 0] = 1
        return said

    def segment(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return 1+ everywhere, so that cells are looked for everywhere."""
        self._wait(len(tiles))
        return np.full((len(tiles), TILE_PX // 4, TILE_PX // 4), 2, dtype=np.uint8)

    def _wait(self, tiles: int) -> None:
        with self._device:
            time.sleep(tiles / self._rate)


def main() -> None:
    """Print rates, and their share of the slower of device and decoding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--read", choices=("tumor", "stain"), default="tumor")
    parser.add_argument("--tiles", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    reading: Reading = options.read
    settings = load_settings(None)
    specs = [chosen_weights(task, settings)[1] for task in TASKS[reading]]
    px = classifier_px(specs[0]) if reading == "tumor" else TILE_PX
    plan = planned(options.slide, options.tiles)
    runs: dict[float, list[tuple[float, float]]] = {rate: [] for rate in RATES}
    for _ in range(options.repeats):
        for times in RATES:
            decoding = len(plan.tiles) / seconds_of(partial(decode, plan, px))
            # The networks of a reading share the device: each gets its multiple of the rate.
            device, rate = Lock(), times * decoding
            networks: Any = [StandIn(spec, device, rate * len(specs)) for spec in specs]
            took = seconds_of(partial(read_plan, plan, reading, networks, options.batch))
            runs[times].append((len(plan.tiles) / took, decoding))
    print(f"{reading}, {len(plan.tiles)} tiles, {options.slide.name}")
    for times, rates in runs.items():
        share = statistics.median(end / min(d, times * d) for end, d in rates)
        end, decoding = (statistics.median(side) for side in zip(*rates, strict=True))
        print(
            f"device at {times:.1f} of decoding ({decoding:.0f} tiles/s): {end:.0f} tiles/s, "
            f"{100 * share:.0f} % of the slower"
        )


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
