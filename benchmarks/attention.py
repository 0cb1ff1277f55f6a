"""Heat maps within tiles against the generator's truth: is the tumor of a mixed tile brighter?

``python benchmarks/attention.py [--task tumor|intensity] [--tiles 160] [--seed 970000000]``
draws tiles (synthetic) of which 10 to 90 % are tumor. For each method it prints the area under the
ROC curve (AUC) of the heat over the px of a tile, tumor against all else: mean, median and 10th
percentile over the tiles. ``shipped`` is what `tandem picture` draws. It was chosen by the tiles
from seed 892000000 on, which no training and no other report uses.

``--folder DIR --mpp 0.25`` judges C on mixed tiles of images with masks instead, in a layout of
`models.evaluation.folders`. Unlabeled px are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from models.attention import Recorded, attend, record, relevances
from models.checkpoint import load_network
from models.datasets.generated_tiles import generated_tile
from models.datasets.glass import calibrated
from models.datasets.images import read_rgb
from models.evaluation.folders import find_images
from models.evaluation.truth_tiles import (
    IGNORED,
    at_tile_mpp,
    cut,
    fitting_mask,
    glass_of_field,
    read_mask,
    tumor_share,
)
from models.spec import Task, reference_folder

LEAST, MOST = 0.1, 0.9
"""Shares of tumor of a mixed tile."""
BATCH = 8
Values = NDArray[np.floating[Any]]
Method = Callable[[Recorded, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Marked:
    """A tile: `pixels` uint8 (512, 512, 3), and `tumor` uint8 (rows, columns): 0, 1, `IGNORED`."""

    pixels: NDArray[np.uint8]
    tumor: NDArray[np.uint8]


def rollout(seen: Recorded, layers: int) -> Tensor:
    """Attention rollout (arXiv 2005.00928): mean of the heads, half identity, last layers alone."""
    result = torch.eye(seen.attentions[0].shape[-1])
    for attention in seen.attentions[-layers:]:
        result = (attention.detach().mean(dim=1) + torch.eye(len(result[-1]))) / 2 @ result
    return result[:, 0, 1:]


METHODS: dict[str, Method] = {
    "rollout, all layers": lambda seen, _: rollout(seen, len(seen.attentions)),
    "rollout, later half": lambda seen, _: rollout(seen, -(-len(seen.attentions) // 2)),
    "class token, last layer": lambda seen, _: seen.attentions[-1].detach().mean(dim=1)[:, 0, 1:],
    "gradient, all layers": lambda seen, c: relevances(seen, c, layers=len(seen.attentions)),
    "gradient, last layer": lambda seen, c: relevances(seen, c, layers=1),
}


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["tumor", "intensity"], default="tumor")
    parser.add_argument("--tiles", type=int, default=160)
    parser.add_argument("--seed", type=int, default=970_000_000)
    parser.add_argument("--rough", type=float, default=0.0, help="share of tiles drawn roughly")
    parser.add_argument("--folder", type=Path, help="images with masks instead")
    parser.add_argument("--mpp", type=float, help="their µm per px")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    task = Task(options.task)
    if options.folder is not None:
        kind, tiles = "mixed tiles", list(tiles_of(options.folder, options.mpp))
    else:
        kind = "mixed tiles (synthetic)"
        tiles = list(mixed_tiles(task, options.seed, options.tiles, options.rough))
    found = judge(tiles, task)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{len(tiles)} {kind}, AUC of heat, tumor px against all others")
    for name, values in found.items():
        said = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
        print(f"  {name:<26}{said}")
    return 0


def mixed_tiles(task: Task, seed: int, count: int, rough: float) -> Iterator[Marked]:
    """Yield the first `count` mixed tiles from `seed` on."""
    while count:
        tile, seed = generated_tile(seed, rough_share=rough), seed + 1
        if LEAST <= (tile.classes > 0).mean() <= MOST:
            count -= 1
            pixels = tile.he if task is Task.TUMOR else tile.ihc
            yield Marked(pixels, (tile.classes > 0).astype(np.uint8))


def tiles_of(folder: Path, mpp: float | None) -> Iterator[Marked]:
    """Yield the mixed tiles of H&E images with masks, cut without overlap."""
    for image in find_images(folder, Task.TUMOR, mpp=mpp):
        if image.mask is None or image.mpp is None:
            raise SystemExit(f"{image.path}: give --mpp, and a mask for each image")
        pixels = read_rgb(image.path)
        mask = fitting_mask(read_mask(image.mask, Task.TUMOR), pixels, image.mask)
        pixels = calibrated(pixels, glass_of_field(pixels))
        tiles = cut(at_tile_mpp(pixels, image.mpp, labels=False))
        masks = cut(at_tile_mpp(mask, image.mpp, labels=True), labels=True)
        for tile, marked, share in zip(tiles, masks, tumor_share(masks), strict=True):
            if LEAST <= share <= MOST:  # False for NaN
                yield Marked(tile, marked)


def judge(tiles: Sequence[Marked], task: Task) -> dict[str, dict[str, float]]:
    """Return the figures of each method; C is asked about tumor, L about its own answer."""
    network: Any = load_network(reference_folder(task))[1]
    heats: dict[str, list[Values]] = {"shipped": [], **{name: [] for name in METHODS}}
    for first in range(0, len(tiles), BATCH):
        some = tiles[first : first + BATCH]
        pixels = np.stack([tile.pixels for tile in some])
        given = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        for name in METHODS:
            seen = record(network, given)
            classes = seen.logits.detach().argmax(dim=1)
            if task is Task.TUMOR:
                classes = torch.ones_like(classes)
            heats[name] += list(METHODS[name](seen, classes).numpy())
        heats["shipped"] += list(attend(network, given, classes).flatten(1).numpy())
    edge = round(len(heats["shipped"][0]) ** 0.5)
    ceiling = [_resized(tile.tumor == 1, (edge, edge), cv2.INTER_AREA).ravel() for tile in tiles]
    return {
        name: _figures([_auc(v, tile.tumor) for v, tile in zip(values, tiles, strict=True)])
        for name, values in (*heats.items(), (f"truth on {edge} x {edge} patches", ceiling))
    }


def _auc(heat: Values, tumor: NDArray[np.uint8]) -> float:
    """AUC over the px of a tile of heat (T,), brought to the px by linear interpolation."""
    edge = round(len(heat) ** 0.5)
    size = (tumor.shape[1], tumor.shape[0])
    values = _resized(heat.reshape(edge, edge), size, cv2.INTER_LINEAR)
    labeled = tumor != IGNORED
    return float(roc_auc_score(tumor[labeled], values[labeled]))


def _resized(values: NDArray[Any], size: tuple[int, int], how: int) -> Values:
    return np.asarray(cv2.resize(values.astype(np.float32), size, interpolation=how))


def _figures(values: list[float]) -> dict[str, float]:
    low, middle = np.percentile(values, (10, 50)).tolist()
    return {"mean": float(np.mean(values)), "median": middle, "10th percentile": low}


if __name__ == "__main__":
    sys.exit(main())
