"""Loss of C by tiles of 256 px: ``python benchmarks/half.py SLIDE…``, any H&E slides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_PX
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.inference import Network
from appliance.settings.settings_file import load_settings
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from benchmarks.bench import Plan, planned
from models.spec import Task


def main(slides: list[str]) -> None:
    """Print the share of equal classes and the change of probability, per slide and overall."""
    settings = load_settings(None)
    network = Network(chosen_weights(Task.TUMOR, settings)[0], settings.models.device)
    pairs = []
    for slide in slides:
        plan = planned(Path(slide), sys.maxsize)
        pairs.append([answers(plan, network, px) for px in (TILE_PX, TILE_PX // 2)])
        show(Path(slide).name, *pairs[-1])
    show("all", *(np.concatenate(side) for side in zip(*pairs, strict=True)))


def answers(plan: Plan, network: Network, px: int) -> NDArray[np.float32]:
    """Return C's probability of tumor on each tile, resized to `px`; float32 (n,)."""
    with SlideReader.open(plan.path) as reader:
        stream = TileStream(reader, plan.tiles, plan.tissue.white_rgb, 8, px=px)
        return np.concatenate([network.classify(pixels)[:, 1] for _, pixels in stream])


def show(name: str, whole: NDArray[np.float32], half: NDArray[np.float32]) -> None:
    """Print one line."""
    same = 100 * ((whole >= 0.5) == (half >= 0.5)).mean()
    change = np.abs(whole - half)
    print(
        f"{name:<40}{len(whole):6d} tiles {same:6.2f} % same class, probability "
        f"{change.mean():.4f} on average, {change.max():.3f} at most"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
