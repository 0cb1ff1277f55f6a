"""Interim reader on drawn cases: ``python benchmarks/interim.py --cases 300 --strength 0.9``.

HER2 from H&E tiles alone, in the shape of the paper's Table 2: PAMA, ours without proxy, ours with
the paper's proxy; and ours with parts of slides, named by the slide's class or by the teacher of
IHC tiles (`models.interim.teacher`).

Everything is synthetic: in `models.synthesis.coupled_cases` a tumor is made of clones, and the
nuclei of each follow its HER2 so far that a perfect reader of the morphology reaches the printed
ceiling (`models.synthesis.coupling_ceiling`). With ``--strength 0`` nothing can be told, and the
AUC must be 0.5. Of the cases 70 % train; 30 % are judged once. Figures are means over ``--seeds``
trainings. ``--sweep`` chooses the masking ratio and the number of prompts by five folds inside the
70 % first (Table 1). ``--crossed`` adds the figures of all cases, each judged once by five folds:
narrower intervals.

Features of the drawn tiles are kept in ``--features DIR`` and used again. They are measures of
nuclei and stain (`benchmarks.tile_measures`), the same for both stains.

``--large 10000`` measures one answer on so many tiles instead: seconds and memory beyond the
features, on ``--processes`` threads, of a network by chance with the paper's numbers.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.tile_measures import measured
from models.interim.compare import COLUMNS, Judged, figures, interval, mean_figures, paired
from models.interim.ipca import InterimNetwork
from models.interim.places import TileFeatures
from models.interim.shape import InterimShape
from models.interim.train import InterimTraining, Pair, fit, predict
from models.synthesis.coupled_cases import draw_coupled_case
from models.synthesis.coupling import CLASSES, DEFAULT_STRENGTH
from models.synthesis.coupling_ceiling import ceiling, ceiling_of

HELD = 0.3
RATIOS, PROMPTS = (0.0, 0.25, 0.5, 0.75), (32, 64, 128, 256)
"""Table 1: masking ratio r, then number of prompts n_k."""
FOLDS = 5
Part = tuple[Sequence[Pair], Sequence[Pair]]
"""Cases that train, and cases that are judged."""
PART_WEIGHT = 6.0
"""Weight of what IHC says of parts of a slide, against that of slides."""
LARGE_FEATURES = 768
"""Length of the vectors of a ViT-B, for `large`."""


@dataclass(frozen=True, slots=True)
class Case:
    """Features of a drawn case, and the latent numbers (K,) that the nuclei of clones follow."""

    pair: Pair
    aggressiveness: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Variant:
    """Line of Table 2; `prompted`: whether it has prompts."""

    name: str
    prompted: bool
    with_ihc: bool
    part_weight: float = 0.0


VARIANTS = (
    Variant("PAMA", False, False),
    Variant("ours, no proxy", True, False),
    Variant("ours", True, True),
    Variant("parts, no proxy", True, False, PART_WEIGHT),
    Variant("parts", True, True, PART_WEIGHT),
)


def main() -> int:
    """Print the tables; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=500_000, help="of the first case")
    parser.add_argument("--strength", type=float, default=DEFAULT_STRENGTH)
    parser.add_argument("--across", type=int, default=4, help="tiles per row and column")
    parser.add_argument("--features", type=Path, help="folder of features, kept")
    parser.add_argument("--large", type=int, default=0, help="measure an answer on so many tiles")
    parser.add_argument("--epochs", type=int, default=InterimTraining().epochs)
    parser.add_argument("--rate", type=float, default=3e-4, help="the paper has 1e-4")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--ratio", type=float, default=0.75)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each line")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--crossed", action="store_true", help="also judge all cases by folds")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if given.large:
        return large(given.large, given.processes)
    if given.features is None:
        parser.error("name a folder in --features")
    torch.set_num_threads(1)
    cases = drawn(given)
    label = np.array([case.pair.label for case in cases])
    first, held = train_test_split(
        np.arange(len(cases)), test_size=HELD, stratify=label, random_state=0
    )
    shape = InterimShape(
        features=cases[0].pair.he.features.shape[1],
        prompts=given.prompts,
        mask_ratio=given.ratio,
        classes=CLASSES,
    )
    training = InterimTraining(epochs=given.epochs, learning_rate=given.rate)
    if given.sweep:
        shape = swept([cases[k].pair for k in first], shape, training, given)
    print(f"{len(cases)} drawn cases (synthetic), strength {given.strength}: {len(first)} train, "
          f"{len(held)} are judged")  # fmt: skip
    latent = [case.aggressiveness for case in cases]
    here = ceiling_of([latent[k] for k in held], label[held], given.strength)
    print(f"ceiling of W-AUC: {ceiling(given.strength):.3f}; on the judged cases {here:.3f}")
    print(f"linear model on mean features, W-AUC: {linear(cases, first, held):.3f}", flush=True)
    parts = [([cases[k].pair for k in first], [cases[k].pair for k in held])]
    compared(parts, shape, training, given)
    if given.crossed:
        print(f"all {len(cases)} cases, each judged once by {FOLDS} folds; their ceiling "
              f"{ceiling_of(latent, label, given.strength):.3f}:")  # fmt: skip
        compared(folds([case.pair for case in cases]), shape, training, given)
    return 0


def large(count: int, threads: int) -> int:
    """Print seconds and memory of an answer on `count` tiles; return 0."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = InterimNetwork(InterimShape(features=LARGE_FEATURES)).eval()
    across = math.ceil(count**0.5)
    places = np.stack(np.divmod(np.arange(count), across)[::-1], axis=1)
    features = rng.normal(0, 1, (count, LARGE_FEATURES)).astype(np.float32)
    tiles = TileFeatures(places=places, features=features)
    few = TileFeatures(places=places[:100], features=features[:100])
    predict(network, few)  # loads what the first answer loads
    before, start = _peak_mib(), time.perf_counter()
    predict(network, tiles)
    seconds, grown = time.perf_counter() - start, _peak_mib() - before
    print(f"{count} tiles of {LARGE_FEATURES} numbers, {threads} threads: {seconds:.2f} s, "
          f"{grown:.0f} MiB beyond the features; {before + grown:.0f} MiB in all")  # fmt: skip
    return 0


def _peak_mib() -> float:
    """Largest resident memory of this process until now, in MiB (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def linear(cases: Sequence[Case], first: NDArray[np.int64], held: NDArray[np.int64]) -> float:
    """Return the W-AUC of a logistic regression on a slide's mean H&E features: what they show."""
    mean = np.stack([case.pair.he.features.mean(axis=0) for case in cases])
    label = np.array([case.pair.label for case in cases])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    chances = model.fit(mean[first], label[first]).predict_proba(mean[held])
    return float(roc_auc_score(label[held], chances, multi_class="ovr", average="weighted"))


def compared(
    parts: Sequence[Part], shape: InterimShape, training: InterimTraining, given: Namespace
) -> None:
    """Print Table 2 and the intervals, of the cases that the parts hold."""
    print(f"{'':<18}" + "".join(f"{name:>8}" for name in COLUMNS))
    found: dict[str, list[Judged]] = {}
    for variant in VARIANTS:
        tried = replace(shape, prompts=shape.prompts * variant.prompted)
        trainings = [
            replace(training, with_ihc=variant.with_ihc, part_weight=variant.part_weight, seed=seed)
            for seed in range(given.seeds)
        ]
        found[variant.name] = joined(judged_parts(parts, tried, trainings, given.processes))
        row = mean_figures(found[variant.name])
        print(f"{variant.name:<18}" + "".join(f"{row[name]:>8.3f}" for name in COLUMNS), flush=True)
    for name, repeats in found.items():
        low, high = interval(repeats)["W-AUC"]
        print(f"W-AUC of {name}, 95 %: {low:.3f} to {high:.3f}")
    names = list(found)
    for later, earlier in ((2, 0), (2, 1), (4, 1), (4, 2), (4, 3)):
        by = paired(found[names[earlier]], found[names[later]])
        said = ", ".join(f"{name} {low:+.3f} to {high:+.3f}" for name, (low, high) in by.items())
        print(f"{names[later]} minus {names[earlier]}, 95 %: {said}", flush=True)


def joined(answers: Sequence[Sequence[Judged]]) -> list[Judged]:
    """Return the answers of each training on all parts together."""
    return [
        Judged(
            np.concatenate([each.label for each in of_parts]),
            np.concatenate([each.probabilities for each in of_parts]),
        )
        for of_parts in answers
    ]


def judged_parts(
    parts: Sequence[Part],
    shape: InterimShape,
    trainings: Sequence[InterimTraining],
    processes: int,
) -> list[list[Judged]]:
    """Train on the first cases of each part and answer for its others by their H&E slides.

    Returns a list for each training, of the answers of each part.
    """
    with ProcessPoolExecutor(processes, initializer=_one_thread) as pool:
        asked = [[pool.submit(_judged, *each, shape, t) for each in parts] for t in trainings]
        return [[each.result() for each in of_parts] for of_parts in asked]


def _judged(
    train: Sequence[Pair], held: Sequence[Pair], shape: InterimShape, training: InterimTraining
) -> Judged:
    network = fit(train, shape, training, lambda line: print(f"  {line}", file=sys.stderr))
    return Judged(
        np.array([pair.label for pair in held]),
        np.stack([predict(network, pair.he).probabilities for pair in held]),
    )


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def swept(
    pairs: Sequence[Pair], shape: InterimShape, training: InterimTraining, given: Namespace
) -> InterimShape:
    """Print Table 1, and return the best ratio and then the best number of prompts by W-AUC."""
    training = replace(training, part_weight=PART_WEIGHT)
    print(f"{'setting':<14}" + "".join(f"{name:>16}" for name in COLUMNS))
    for name, values in (("mask_ratio", RATIOS), ("prompts", PROMPTS)):
        best = (-1.0, values[0])
        for value in values:
            changed: dict[str, Any] = {name: value}
            tried = replace(shape, **changed)
            (answers,) = judged_parts(folds(pairs), tried, [training], given.processes)
            rows = [figures(each) for each in answers]
            columns = np.array([[row[column] for column in COLUMNS] for row in rows])
            mean, spread = columns.mean(axis=0), columns.std(axis=0)
            cells = "".join(f"{m:>8.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True))
            print(f"{name} {value:<6}{cells}", flush=True)
            area = float(mean[COLUMNS.index("W-AUC")])
            best = max(best, (area, value))
        chosen: dict[str, Any] = {name: best[1]}
        shape = replace(shape, **chosen)
    return shape


def folds(pairs: Sequence[Pair]) -> list[Part]:
    """Return five parts, each of which holds another fifth of the cases."""
    label = [pair.label for pair in pairs]
    parts = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(label, label)
    return [([pairs[k] for k in train], [pairs[k] for k in held]) for train, held in parts]


def drawn(given: Namespace) -> list[Case]:
    """Return the cases; those whose features are kept are not drawn again."""
    given.features.mkdir(parents=True, exist_ok=True)
    make = partial(_make, strength=given.strength, across=given.across, folder=given.features)
    with ProcessPoolExecutor(given.processes) as pool:
        seeds = range(given.seed, given.seed + given.cases)
        for number, _ in enumerate(pool.map(make, seeds)):
            print(f"\r{number + 1} of {given.cases} cases drawn", end="", file=sys.stderr)
    print(file=sys.stderr)
    return [_read(_path(given.features, seed, given.strength, given.across)) for seed in seeds]


def _path(folder: Path, seed: int, strength: float, across: int) -> Path:
    return folder / f"clones-{seed}-{strength:g}-{across}.npz"


def _make(seed: int, *, strength: float, across: int, folder: Path) -> None:
    path = _path(folder, seed, strength, across)
    if path.exists():
        return
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    case = draw_coupled_case(seed, seed % CLASSES, strength=strength, across=across)
    partial_path = path.with_suffix(".part.npz")
    np.savez(
        partial_path,
        places=case.places,
        he=measured(case.he),
        ihc=measured(case.ihc),
        grade=case.grade,
        aggressiveness=[clone.aggressiveness for clone in case.clones],
    )
    partial_path.replace(path)


def _read(path: Path) -> Case:
    with np.load(path) as kept:
        he, ihc = (
            TileFeatures(places=kept["places"], features=kept[name]) for name in ("he", "ihc")
        )
        # Both stains show the same cells, and tiles lie in one order.
        partners = np.arange(len(he.places))
        return Case(Pair(he, ihc, int(kept["grade"]), partners), kept["aggressiveness"])


if __name__ == "__main__":
    sys.exit(main())
