"""Heat maps within tiles against the generator's truth: is the tumor of a mixed tile brighter?

``python benchmarks/attention.py [--task tumor|intensity] [--tiles 160] [--seed 970000000]``
draws tiles (synthetic) of which 10 to 90 % are tumor. For each method it prints the area under the
ROC curve (AUC) of the heat over the px of a tile, tumor against all else: mean, median and 10th
percentile over the tiles. ``shipped`` is what `tandem picture` draws. It was chosen by the tiles
from seed 892000000 on, which no training and no other report uses.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from models.attention import Recorded, attend, record, relevances
from models.checkpoint import load_network
from models.datasets.generated_tiles import GeneratedTile, generated_tile
from models.spec import Task, reference_folder

LEAST, MOST = 0.1, 0.9
"""Shares of tumor of a mixed tile."""
BATCH = 8
Values = NDArray[np.floating[Any]]
Method = Callable[[Recorded, Tensor], Tensor]


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
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    tiles = list(mixed_tiles(options.seed, options.tiles, options.rough))
    found = judge(tiles, Task(options.task))
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{len(tiles)} mixed tiles (synthetic), AUC of heat, tumor px against all others")
    for name, values in found.items():
        said = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
        print(f"  {name:<26}{said}")
    return 0


def mixed_tiles(seed: int, count: int, rough: float) -> Iterator[GeneratedTile]:
    """Yield the first `count` mixed tiles from `seed` on."""
    while count:
        tile, seed = generated_tile(seed, rough_share=rough), seed + 1
        if LEAST <= (tile.classes > 0).mean() <= MOST:
            count -= 1
            yield tile


def judge(tiles: list[GeneratedTile], task: Task) -> dict[str, dict[str, float]]:
    """Return the figures of each method; C is asked about tumor, L about its own answer."""
    _, network = load_network(reference_folder(task))
    heats: dict[str, list[Values]] = {"shipped": [], **{name: [] for name in METHODS}}
    for first in range(0, len(tiles), BATCH):
        some = tiles[first : first + BATCH]
        pixels = np.stack([tile.he if task is Task.TUMOR else tile.ihc for tile in some])
        given = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        for name in METHODS:
            seen = record(network, given)
            classes = seen.logits.detach().argmax(dim=1)
            if task is Task.TUMOR:
                classes = torch.ones_like(classes)
            heats[name] += list(METHODS[name](seen, classes).numpy())
        heats["shipped"] += list(attend(network, given, classes).flatten(1).numpy())
    truths = [tile.classes > 0 for tile in tiles]
    edge = round(len(heats["shipped"][0]) ** 0.5)
    shares = [_resized(truth, (edge, edge), cv2.INTER_AREA).ravel() for truth in truths]
    return {
        name: _figures([_auc(v, t) for v, t in zip(values, truths, strict=True)])
        for name, values in (*heats.items(), (f"truth on {edge} x {edge} patches", shares))
    }


def _auc(heat: Values, truth: NDArray[np.bool_]) -> float:
    """AUC over the px of a tile of heat (T,), brought to the px by linear interpolation."""
    edge = round(len(heat) ** 0.5)
    size = (truth.shape[1], truth.shape[0])
    values = _resized(heat.reshape(edge, edge), size, cv2.INTER_LINEAR)
    return float(roc_auc_score(truth.ravel(), values.ravel()))


def _resized(values: NDArray[Any], size: tuple[int, int], how: int) -> Values:
    return np.asarray(cv2.resize(values.astype(np.float32), size, interpolation=how))


def _figures(values: list[float]) -> dict[str, float]:
    low, middle = np.percentile(values, (10, 50)).tolist()
    return {"mean": float(np.mean(values)), "median": middle, "10th percentile": low}


if __name__ == "__main__":
    sys.exit(main())
