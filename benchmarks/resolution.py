"""Effect of the scan's resolution: ``python benchmarks/resolution.py [--seed N]``.

Synthetic slides, drawn at the networks' resolution, are written again as 40x and 20x scanners would
scan them. The networks' answers for each tile are compared with those for the tile as drawn. The
difference is the cost of resampling a slide to `TILE_MPP`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from appliance.geometry import TILE_MPP, TileIndex
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.inference import Network
from appliance.readers.networks import classifier_px
from appliance.settings.settings_file import load_settings
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from benchmarks.bench import Plan, planned
from models.spec import Task
from models.synthesis.pyramid import TILE, write_pyramid
from models.synthesis.slides import synthesize_case

SCANS = (0.2, 0.25, 0.5)
"""Resolutions of the scans in µm per px."""
BATCH = 4


def main() -> None:
    """Print a line per slide and resolution."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=900)
    seed = parser.parse_args().seed
    settings = load_settings(None)
    networks = {
        task: Network(chosen_weights(task, settings)[0], settings.models.device)
        for task in (Task.TUMOR, Task.SEGMENTATION)
    }
    with tempfile.TemporaryDirectory() as scratch:
        for number, score in enumerate(("0", "1+", "2+", "3+")):
            folder = Path(scratch) / score
            case = synthesize_case(
                folder, seed=seed + number, score=score, width_px=6144, height_px=4608
            )
            for path, network in zip((case.he_path, case.ihc_path), networks.values(), strict=True):
                drawn = planned(path, 10_000)
                scans = [scanned(path, mpp, folder) for mpp in SCANS]
                tiles = [t for t in drawn.tiles if t.column < 11 and t.row < 7]  # whole on each
                said = [answers(p, drawn, tiles, network) for p in (path, *scans)]
                for mpp, answer in zip(SCANS, said[1:], strict=True):
                    print(f"{score:<3} {mpp:.2f} µm/px  {differing(said[0], answer)}")


def scanned(path: Path, mpp: float, folder: Path) -> Path:
    """Write the slide as a scan of `mpp` µm per px; return its path."""
    image = tifffile.imread(path, key=0)
    times = TILE_MPP / mpp
    how = cv2.INTER_CUBIC if times > 1 else cv2.INTER_AREA
    image = np.asarray(cv2.resize(image, None, fx=times, fy=times, interpolation=how), np.uint8)
    rows, columns = (edge // TILE * TILE for edge in image.shape[:2])
    out = folder / f"{path.stem}-{mpp}.svs"
    strip = np.ascontiguousarray(image[:rows, :columns])
    write_pyramid(out, [strip], width_px=columns, height_px=rows, mpp=mpp, file_format="svs")
    return out


def answers(
    path: Path, plan: Plan, tiles: Sequence[TileIndex], network: Network
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Return C's probability of tumor, float32 (n,), or M's label maps, uint8 (n, h, w)."""
    with SlideReader.open(path) as reader:
        if network.spec.task is Task.SEGMENTATION:
            stream = TileStream(reader, tiles, plan.tissue.white_rgb, BATCH)
            return np.concatenate([network.segment(pixels) for _, pixels in stream])
        px = classifier_px(network.spec)
        stream = TileStream(reader, tiles, plan.tissue.white_rgb, BATCH, px=px)
        return np.concatenate([network.classify(pixels)[:, 1] for _, pixels in stream])


def differing(
    drawn: NDArray[np.float32] | NDArray[np.uint8], scan: NDArray[np.float32] | NDArray[np.uint8]
) -> str:
    """Describe the difference in words."""
    if drawn.ndim == 3:
        return f"M: {len(drawn)} tiles, {100 * (drawn == scan).mean():.2f} % of px alike"
    same = 100 * ((drawn >= 0.5) == (scan >= 0.5)).mean()
    change = np.abs(drawn.astype(np.float32) - scan)
    return (
        f"C: {len(drawn)} tiles, {same:.1f} % of one class, probability {change.mean():.4f} "
        f"on average, {change.max():.3f} at most"
    )


if __name__ == "__main__":
    main()
