"""Baseline by plain color deconvolution, reported beside every network as a lower bound.

Textbook stain vectors, optical densities and a few thresholds, fitted on generated tiles of the
kind that trains the networks. ``python -m models.evaluation.baseline`` fits them anew (one to two
minutes) and writes ``baseline.json``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from models.datasets.generated_tiles import GENERATOR_VERSION, Tiles, generated_tiles
from models.deconvolution import DAB, EOSIN, HEMATOXYLIN, unmix
from models.errors import ManifestError
from models.spec import Task

STORED = Path(__file__).with_name("baseline.json")
FIRST_SEED, TILES = 1_000_000, 400
"""Seeds of the fit; they are among those that trained the reference weights."""
STEP = 4
"""Tile px per px of the baseline: a quarter of the resolution (1.1 µm), the same as M's answers."""
TISSUE_DENSITY = 0.06
"""Mean optical density above which a px is tissue."""
FAINT = 0.02
"""Amount of DAB added before the logarithm; amounts below it are noise."""
STATISTICS = ("mean", "p75", "p90", "p95", "p99")
"""Candidate statistics of DAB over a tile's tissue; the fit keeps the best for the intensities."""

Array = NDArray[np.float32]
_HE = np.array([HEMATOXYLIN, EOSIN, DAB], dtype=np.float32)
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)
# The third color of an IHC slide is the residual of both stains.
_IHC = np.array([HEMATOXYLIN, DAB, np.cross(HEMATOXYLIN, DAB)], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Logistic regression: probability = σ(weights · (x - mean) / std + intercept)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    @classmethod
    def fitted(cls, x: Array, y: NDArray[Any]) -> Linear:
        """Fit to features (N, F) and truth 0/1 (N,)."""
        mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
        found = LogisticRegression(max_iter=1000).fit((x - mean) / std, y)
        return cls(
            mean=_numbers(mean),
            std=_numbers(std),
            weights=_numbers(found.coef_[0]),
            intercept=round(float(found.intercept_[0]), 6),
        )

    def __call__(self, x: Array) -> Array:
        """Return the probability (...) from features (..., F)."""
        z = (x - np.array(self.mean)) / np.array(self.std)
        probability: Array = expit(z @ np.array(self.weights) + self.intercept).astype(np.float32)
        return probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Ordinal regression: P(class > k) = σ(slope · (x - thresholds[k]))."""

    slope: float
    thresholds: tuple[float, ...]

    @classmethod
    def fitted(cls, x: Array, y: NDArray[Any]) -> Ordered:
        """Fit by maximum likelihood to a statistic (N,) and classes 0-3 (N,)."""

        def unpack(p: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            return float(np.exp(p[0])), p[1] + np.cumsum([0.0, *np.exp(p[2:])])

        def cost(p: NDArray[np.float64]) -> float:
            slope, thresholds = unpack(p)
            likely = _between(expit(slope * (x[:, None] - thresholds)))
            return float(-np.log(likely[np.arange(len(y)), y] + 1e-9).mean())

        spread = max(float(x.std()), 1e-3)
        start = np.array([np.log(4 / spread), x.mean() - spread, np.log(spread), np.log(spread)])
        slope, thresholds = unpack(minimize(cost, start, method="Nelder-Mead").x)
        return cls(slope=round(slope, 6), thresholds=_numbers(thresholds))

    def __call__(self, x: Array) -> Array:
        """Return class probabilities (..., 4) from the statistic (...)."""
        above = expit(self.slope * (x[..., None] - np.array(self.thresholds)))
        probability: Array = _between(above).astype(np.float32)
        return probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The baseline of all three tasks, with the interface of `appliance.readers.inference.Network`.

    Tiles are uint8 (N, T, T, 3) at 0.2793 µm/px, glass at 255.
    """

    generator_version: int
    first_seed: int
    tiles: int
    tumor: Linear
    statistic: str
    intensity: Ordered
    epithelium: Linear
    grade: Ordered

    def classify(self, task: Task, tiles: NDArray[np.uint8]) -> Array:
        """Return class probabilities: (N, 2) for C's task, (N, 4) for L's."""
        if task is Task.TUMOR:
            p = self.tumor(np.stack([he_features(tile) for tile in tiles]))
            return np.stack([1 - p, p], axis=1)
        return self.intensity(np.array([dab_statistics(t)[self.statistic] for t in tiles]))

    def segment(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return label maps uint8 (N, T / 4, T / 4), 0-4: tumor by density, its class by DAB."""
        maps = []
        for tile in tiles:
            features, dab = pixel_features(tile)
            grade = self.grade(dab).argmax(axis=-1)
            maps.append(np.where(self.epithelium(features) >= 0.5, grade + 1, 0))
        return np.stack(maps).astype(np.uint8)


def load_baseline(path: Path = STORED) -> Baseline:
    """Load the stored baseline.

    Raises
    ------
    ManifestError
        If the file is missing or not one that ``python -m models.evaluation.baseline`` wrote.
    """
    try:
        raw = json.loads(path.read_text())
        for name in ("tumor", "epithelium"):
            raw[name] = Linear(**_tuples(raw[name]))
        for name in ("intensity", "grade"):
            raw[name] = Ordered(**_tuples(raw[name]))
        return Baseline(**raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ManifestError(
            f"{path}: no usable baseline ({err}). Fit it: python -m models.evaluation.baseline"
        ) from err


def he_features(tile: NDArray[np.uint8]) -> Array:
    """Features (5,) of an H&E tile: hematoxylin's mean, 90th percentile smoothed, 95th percentile
    and standard deviation; eosin's mean."""
    amounts = _amounts(tile, _HE)
    blue = amounts[..., 0]
    crowded = cv2.GaussianBlur(blue, (0, 0), 8)
    return np.array(
        [
            blue.mean(),
            np.percentile(crowded, 90),
            np.percentile(blue, 95),
            blue.std(),
            amounts[..., 1].mean(),
        ],
        dtype=np.float32,
    )


def dab_statistics(tile: NDArray[np.uint8]) -> dict[str, float]:
    """`STATISTICS` of log10(DAB) over the tissue of an IHC tile."""
    amounts = _amounts(tile, _IHC)
    dab = amounts[..., 1][amounts[..., :2].sum(axis=-1) > TISSUE_DENSITY]
    if dab.size == 0:
        dab = np.zeros(1, dtype=np.float32)
    values = [dab.mean(), *np.percentile(dab, [75, 90, 95, 99])]
    return {
        name: float(_log_dab(np.array(value)))
        for name, value in zip(STATISTICS, values, strict=True)
    }


def pixel_features(tile: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Both stains at two smoothing widths, (h, w, 4), and log10(DAB) smoothed over a cell, (h,
    w)."""
    amounts = _amounts(tile, _IHC)[..., :2]
    near, far = (cv2.GaussianBlur(amounts, (0, 0), sigma) for sigma in (3, 10))
    features: Array = np.concatenate([near, far], axis=-1)
    return features, _log_dab(cv2.GaussianBlur(amounts[..., 1], (0, 0), 6))


def fit(tiles: Tiles) -> dict[str, Any]:
    """Fit all thresholds on calibrated training tiles; return them ready for JSON."""
    tumor = np.flatnonzero(tiles.tumor)
    rng = np.random.default_rng(0)
    statistics = [dab_statistics(tiles.ihc[k]) for k in tumor]
    grades = tiles.intensity[tumor].astype(int)
    fits = {}
    for name in STATISTICS:
        x = np.array([s[name] for s in statistics], dtype=np.float32)
        found = Ordered.fitted(x, grades)
        fits[name] = (float((found(x).argmax(axis=1) == grades).mean()), found)
    statistic = max(fits, key=lambda name: fits[name][0])
    features, dab, classes = [], [], []
    for k in tumor:
        near, brown = pixel_features(tiles.ihc[k])
        chosen = rng.integers(0, brown.size, 200)
        features.append(near.reshape(-1, near.shape[-1])[chosen])
        dab.append(brown.ravel()[chosen])
        classes.append(tiles.classes[k].ravel()[chosen].astype(int))
    x, brown, y = np.concatenate(features), np.concatenate(dab), np.concatenate(classes)
    he = np.stack([he_features(tile) for tile in tiles.he])
    return {
        "tumor": asdict(Linear.fitted(he, tiles.tumor)),
        "statistic": statistic,
        "intensity": asdict(fits[statistic][1]),
        "epithelium": asdict(Linear.fitted(x, y > 0)),
        "grade": asdict(Ordered.fitted(brown[y > 0], y[y > 0] - 1)),
    }


def _amounts(tile: NDArray[np.uint8], vectors: Array) -> Array:
    """Amounts of three stains, float32 (h, w, 3), at the tile's resolution divided by `STEP`."""
    size = (tile.shape[1] // STEP, tile.shape[0] // STEP)
    density = _DENSITY[tile]
    small = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.maximum(unmix(small.astype(np.float32), unit), 0)


def _log_dab(dab: NDArray[Any]) -> Array:
    logarithm: Array = np.log10(dab + FAINT).astype(np.float32)
    return logarithm


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}


def _numbers(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(round(float(v), 6) for v in values)


def _between(above: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(class = k), (..., K), from P(class > k), (..., K - 1)."""
    ones, zeros = np.ones_like(above[..., :1]), np.zeros_like(above[..., :1])
    upper = np.concatenate([ones, above, zeros], axis=-1)
    likely: NDArray[np.float64] = upper[..., :-1] - upper[..., 1:]
    return likely


def main() -> int:
    """Fit and store; return exit status 0."""
    from rich.progress import Progress

    with Progress() as bar, tempfile.TemporaryDirectory() as cache:
        task = bar.add_task("generating tiles", total=TILES)
        tiles = generated_tiles(
            Path(cache),
            first_seed=FIRST_SEED,
            count=TILES,
            progress=lambda what, done, _: bar.update(task, description=what, completed=done),
        )
        found = fit(tiles)
    facts = {"generator_version": GENERATOR_VERSION, "first_seed": FIRST_SEED, "tiles": TILES}
    STORED.write_text(json.dumps(facts | found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
