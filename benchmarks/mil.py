"""Multiple-instance learning on drawn slides (synthetic): classes, and where the attention lies.

``python benchmarks/mil.py --work DIR [--patients 300] [--seed 22] [--task 4way] [--systems …]``
``[--all-tiles]``

Trains each aggregator on 80 % of the patients and stops on 10 %. It is tested on other patients,
half as many, whose tissue comes from a pool of another seed. It prints

- AUC, F1 and accuracy on the test slides against the readers' labels, and what one who knows the
  truth reaches on them (``ceiling``);
- the share of the attention that lies on tiles with tumor, mean over the test slides and by true
  score, beside the share of the tiles;
- of 20 slides of 0 and 1+ with a planted focus of 3+ in 12 % of the tumor: how many have a tile of
  it among the ten heaviest, and the mean number of such tiles.

DIR keeps the pools, whose drawing and encoding takes most of the time of a first run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from models.encoders.spec import reference_encoder
from models.evaluation.confusion import classification_figures, confusion
from models.evaluation.figures import auc
from models.evaluation.slide_ceiling import ceiling
from models.mil.bag import SUFFIX, save_bag
from models.mil.networks import AGGREGATORS
from models.mil.system import FittedMil, MilSystem
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import draw_folds, slides_of
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.synthesis.bag_files import pool_of, stainings
from models.synthesis.bags import POSITIVE, PoolPlan, TilePool, compose_bag, tumor_tiles
from models.synthesis.slide_cohort import SlideDraw, draw_slides

FOCUS = 0.12
FOCUS_SLIDES = 20
HEAVIEST = 10
LOOKS, NEW_LOOKS = 12, 8
"""Patients' looks in the pools of the training and of the test slides."""


def main() -> int:
    """Print the figures; return 0."""
    options = arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    task = SlideTask(options.task)
    draws = {d.patient: d for d in draw_slides(options.seed, options.patients)}
    known, new = pools(options.work, options.seed, options.encoder)
    slides = cohort(draws, options.work / f"bags-{options.seed}", known)
    fold = draw_folds(slides, task, seed=options.seed)[0]
    mine, test = tested(options.work, options.patients, options.seed, task, new)
    say(f"{len(fold.train)} slides train, {len(fold.validation)} stop, {len(test)} test")
    say(f"ceiling of the test slides: {json.dumps(ceiling(mine, task))}")
    for name in options.systems:
        began = time.process_time()
        fitted = MilSystem(name=name, gated=not options.all_tiles).fit(
            fold.train, fold.validation, task, seed=options.seed, say=lambda _: None
        )
        found = {
            "system": name,
            "tiles": fitted.spec.input["tiles"],
            **classes(fitted, test, task),
            "attention": attention(fitted, mine, new),
            "focus": focus(fitted, options.seed + 7, new),
            "epochs": fitted.spec.trained["epochs"],
            "cpu_s": round(time.process_time() - began, 1),
        }
        say(json.dumps(found))
    return 0


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--task", choices=["binary", "3way", "4way"], default="4way")
    parser.add_argument("--systems", nargs="+", choices=AGGREGATORS, default=list(AGGREGATORS))
    parser.add_argument("--all-tiles", action="store_true", help="no gate before the aggregators")
    parser.add_argument("--encoder", type=Path, default=reference_encoder())
    return parser.parse_args()


def cohort(draws: dict[str, SlideDraw], folder: Path, pool: TilePool) -> list[CohortSlide]:
    """Return the slides of the draws with their bags; no overview is drawn."""
    files = write_bags(folder, list(draws.values()), pool)
    return [
        CohortSlide(
            slide=name, patient=name, overview=files[name], bag=files[name],
            label=draw.label, truth=draw.truth,
        )
        for name, draw in draws.items()
    ]  # fmt: skip


def pools(work: Path, seed: int, encoder: Path) -> tuple[TilePool, TilePool]:
    """Return the pool of the training slides, and one of other tissue for the test slides."""
    first, second = (
        pool_of(
            work / f"pool-{number}",
            PoolPlan(seed=number, looks=looks, stainings=stainings()),
            encoder,
            lambda what, done, total: say(f"{what}: {done} of {total}"),
        )
        for number, looks in ((seed, LOOKS), (seed + 1, NEW_LOOKS))
    )
    return first, second


def tested(
    work: Path, patients: int, seed: int, task: SlideTask, pool: TilePool
) -> tuple[list[SlideDraw], list[CohortSlide]]:
    """Return draws and slides of the test: other patients, tissue of another pool."""
    draws = {d.patient: d for d in draw_slides(seed + 1, patients // 2)}
    slides = slides_of(cohort(draws, work / f"bags-{seed + 1}", pool), task)
    return [draws[slide.patient] for slide in slides], slides


def write_bags(folder: Path, draws: Sequence[SlideDraw], pool: TilePool) -> dict[str, Path]:
    """Write the bag of each draw's HER2 slide into a folder; return the files by patient."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for draw in draws:
        files[draw.patient] = folder / f"{draw.patient}{SUFFIX}"
        save_bag(compose_bag(draw, pool), files[draw.patient])
    return files


def classes(fitted: FittedMil, slides: Sequence[CohortSlide], task: SlideTask) -> dict[str, float]:
    """Return AUC (mean over classes, each against the rest), F1 and accuracy on labels."""
    said = fitted.predict(slides)
    truth = np.array([class_of(slide.label, task) for slide in slides])
    names = SLIDE_CLASSES[task]
    figures = classification_figures(confusion(truth, said.argmax(axis=1), len(names)), names)
    areas = [auc(truth == k, said[:, k]) for k in range(len(names))]
    return {
        "auc": round(float(np.nanmean(areas)), 4),
        "f1": figures["macro_f1"],
        "accuracy": figures["accuracy"],
    }


def attention(
    fitted: FittedMil, draws: Sequence[SlideDraw], pool: TilePool
) -> dict[str, dict[str, float]]:
    """Return shares of attention and of tiles with tumor, over all slides and by true score."""
    rows = []
    for draw in draws:
        bag = compose_bag(draw, pool)
        tumor = tumor_tiles(bag)
        on_tumor = float(fitted.answer(bag).attention[tumor].sum())
        rows.append((str(draw.truth.her2), on_tumor, float(tumor.mean())))
    found: dict[str, dict[str, float]] = {}
    for score in ("all", "0", "1+", "2+", "3+"):
        mine = [row[1:] for row in rows if score in ("all", row[0])]
        if mine:
            mass, tiles = np.mean(mine, axis=0)
            found[score] = {"mass": round(float(mass), 3), "tiles": round(float(tiles), 3)}
    return found


def focus(fitted: FittedMil, seed: int, pool: TilePool) -> dict[str, Any]:
    """Return in how many slides the planted focus is among the heaviest tiles."""
    weak = [d for d in draw_slides(seed, 120) if d.truth.her2 in ("0", "1+")][:FOCUS_SLIDES]
    seen = []
    for draw in weak:
        zero, one, two, three = draw.mix
        plain = replace(draw, mix=(zero + three, one, two, 0.0))
        bag = compose_bag(plain, pool, focus=FOCUS)
        heaviest = np.argsort(-fitted.answer(bag).attention)[:HEAVIEST]
        seen.append(int(tumor_tiles(bag, [POSITIVE])[heaviest].sum()))
    return {
        "slides": len(seen),
        "found": sum(n > 0 for n in seen),
        "mean_of_ten": round(float(np.mean(seen)), 1),
    }


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
