"""Training of the check of a slide's picture: ``python -m models.training.picture --out FOLDER``.

Everything is drawn: tissue in stains of all kinds, by labs and scanners of all sorts. Takes some
minutes on one core; no network of `models.spec` and no GPU takes part.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from models.picture.features import Values, measure_tile, slide_features
from models.picture.kinds import KINDS, save_classifier
from models.synthesis.slide_fields import draw_fields, restained

NETWORKS = 12
"""Networks that are averaged: each begins elsewhere."""
HIDDEN = 16
PENALTY = 0.1
NARROWEST = 0.05
"""Least spread by which a feature is standardized: drawn slides vary less than real ones."""
JITTER = 0.15
"""Standard deviation of noise that is added to standardized features: smooths the borders."""


ROUGH_SHARE = 0.4
"""Share of the tissues that are drawn rough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Features (n, features), kinds (n,) and stains (n,) of drawn fields."""

    features: Values
    kinds: NDArray[np.str_]
    stains: NDArray[np.str_]


def draw_material(
    seeds: Sequence[int], *, wild: float | None = None, rough_share: float = ROUGH_SHARE
) -> Material:
    """Draw the fields of some seeds and measure them.

    `wild` None draws as training does: from usual labs to far ones, and each field once more in
    other dyes' colors and amounts. `rough_share` is that of `draw_fields`.
    """
    features, kinds, stains = [], [], []
    for seed in seeds:
        usual = 0.2 + 0.7 * (seed * 0.618 % 1) if wild is None else wild
        rng = np.random.default_rng(seed)
        for drawn in draw_fields(seed, wild=usual, rough_share=rough_share):
            for field in (drawn,) if wild is not None else (drawn, restained(drawn, rng)):
                measured = [m for tile in field.tiles() if (m := measure_tile(tile, field.white))]
                if measured:
                    features.append(slide_features(measured))
                    kinds.append(field.kind)
                    stains.append(field.stain)
    return Material(features=np.array(features), kinds=np.array(kinds), stains=np.array(stains))


def fit(material: Material, *, seed: int) -> dict[str, Any]:
    """Fit the classifier; the facts are those of `save_classifier`."""
    low, center, high = np.percentile(material.features, (16, 50, 84), axis=0)
    scale = np.maximum((high - low) / 2, NARROWEST)
    given = np.clip((material.features - center) / scale, -4, 4)
    label = np.array([KINDS.index(kind) for kind in material.kinds])
    rng = np.random.default_rng([seed, 0x9C7])
    networks = []
    for number in range(NETWORKS):
        noisy = np.concatenate([given + rng.normal(0, JITTER, given.shape) for _ in range(3)])
        network = MLPClassifier(
            (HIDDEN,),
            activation="tanh",
            alpha=PENALTY,
            max_iter=150,
            random_state=seed * 100 + number,
        )
        with warnings.catch_warnings():
            # The number of rounds is a choice, as the noise is: not all is to be learnt by heart.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(noisy, np.tile(label, 3))
        layers = zip(network.coefs_, network.intercepts_, strict=True)
        networks.append([np.round(part, 4).tolist() for layer in layers for part in layer])
    return {
        "kinds": list(KINDS),
        "center": np.round(center, 5).tolist(),
        "scale": np.round(scale, 5).tolist(),
        "networks": networks,
        "trained": {"fields": len(label), "seed": seed},
    }


def main() -> None:
    """Draw, fit and write ``weights.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worlds", type=int, default=600)
    parser.add_argument("--first", type=int, default=20_100, help="Seed of the first one.")
    given = parser.parse_args()
    material = draw_material(range(given.first, given.first + given.worlds))
    save_classifier(fit(material, seed=1), given.out / "weights.json")


if __name__ == "__main__":
    main()
