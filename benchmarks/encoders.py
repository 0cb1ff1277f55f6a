"""Frozen encoders on drawn HER2 tiles (synthetic): what a linear layer can read from their vectors.

``python benchmarks/encoders.py [--looks 18] [--seed 330] [--encoder FOLDER …]``

Tiles of five kinds (no tumor, tumor of 0, 1+, 2+, 3+) are drawn in looks and stainings that trained
no encoder. A logistic regression learns on two thirds of the looks and is judged on the others:
AUC of tumor, AUC of unstained tumor against tissue without tumor, share of tiles whose kind is
right, and CPU ms per tile. The encoder that ships stands beside the body of network L, frozen: its
class token, and the mean of its patches.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.checkpoint import load_network
from models.encoders.load import load_encoder
from models.encoders.spec import reference_encoder
from models.spec import Task, reference_folder
from models.synthesis.stain import random_ihc_style
from models.synthesis.tile_pool import KINDS, draw_tissue, stained

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
BATCH = 16


def main() -> int:
    """Print a line per encoder; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--looks", type=int, default=18)
    parser.add_argument("--seed", type=int, default=330)
    parser.add_argument("--encoder", type=Path, nargs="*", default=[], help="further folders")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    tiles, kinds, looks = drawn(options.seed, options.looks)
    print(f"{len(tiles)} drawn tiles of {options.looks} looks (synthetic)")
    encoders = {"shipped": load_encoder(reference_encoder()).encode, **body_of_l()}
    encoders |= {str(folder): load_encoder(folder).encode for folder in options.encoder}
    for name, encode in encoders.items():
        began = time.process_time()
        parts = [encode(tiles[k : k + BATCH]) for k in range(0, len(tiles), BATCH)]
        ms = 1000 * (time.process_time() - began) / len(tiles)
        print(f"{name:<20}{probe(np.concatenate(parts), kinds, looks)}  {ms:.1f} ms", flush=True)
    return 0


def drawn(seed: int, looks: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return tiles, the kind of each, and its look."""
    rng = np.random.default_rng(seed)
    tiles, kinds, owners = [], [], []
    for look in range(looks):
        style = random_ihc_style(rng)
        for kind in range(len(KINDS)):
            tissue = draw_tissue(seed, look, kind, 2, 2)
            tiles.append(stained(tissue, style, int(rng.integers(2**31))))
            kinds.append(tissue.kinds)
            owners += [look] * len(tissue.kinds)
    return np.concatenate(tiles), np.concatenate(kinds), np.array(owners)


def body_of_l() -> dict[str, Encode]:
    """Return two ways to take vectors from network L, which takes tiles of these px."""
    network: Any = load_network(reference_folder(Task.INTENSITY))[1]

    def tokens(tiles: NDArray[np.uint8]) -> torch.Tensor:
        with torch.inference_mode():
            pixels = network.pixels(torch.from_numpy(tiles).permute(0, 3, 1, 2))
            found: torch.Tensor = network.body(pixels)
            return found

    return {
        "L, class token": lambda tiles: tokens(tiles)[:, 0].numpy(),
        "L, mean of patches": lambda tiles: tokens(tiles)[:, 1:].mean(dim=1).numpy(),
    }


def probe(vectors: NDArray[np.float32], kinds: NDArray[np.int64], looks: NDArray[np.int64]) -> str:
    """Return the figures of a linear layer in words."""
    learnt = looks < 2 * (looks.max() + 1) / 3
    unstained = kinds <= 1

    def fitted(rows: NDArray[np.bool_], wanted: NDArray[np.int64]) -> LogisticRegression:
        layer = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=3000))
        return layer.fit(vectors[rows], wanted[rows])

    tumor = (kinds > 0).astype(np.int64)
    areas = [
        roc_auc_score(tumor[rows & ~learnt], fitted(rows & learnt, tumor).decision_function(
            vectors[rows & ~learnt]
        ))
        for rows in (np.ones_like(learnt), unstained)
    ]  # fmt: skip
    right = (fitted(learnt, kinds).predict(vectors[~learnt]) == kinds[~learnt]).mean()
    return f"tumor {areas[0]:.3f}  unstained tumor {areas[1]:.3f}  kind {right:.3f}"


if __name__ == "__main__":
    sys.exit(main())
