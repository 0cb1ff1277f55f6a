"""Tandem's ABMIL and TransMIL beside torchmil's, on the same bags (synthetic).

``python benchmarks/mil_peers.py --install FOLDER`` once: torchmil (Apache-2.0) in an environment of
its own. Then ``python benchmarks/mil_peers.py --work DIR --peers FOLDER [--patients 300]``, with a
DIR of ``benchmarks/mil.py``. Both train on the same bags with the same sizes and the same recipe,
for the binary task, since torchmil's heads are binary. AUC on the test slides is printed for both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.mil import cohort, pools, tested
from benchmarks.peers import install
from models.encoders.spec import reference_encoder
from models.evaluation.figures import auc
from models.mil.fitting import Recipe
from models.mil.system import MilSystem
from models.slide_level.folds import Fold, draw_folds
from models.slide_level.tasks import SlideTask, class_of
from models.synthesis.slide_cohort import draw_slides

LISTED = "mil-peers.json"
PACKAGES = {"torchmil": ["torchmil", "safetensors"]}
SYSTEMS = ("abmil", "transmil")


def main() -> int:
    """Print the figures of both; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--install", type=Path, help="folder for the environment")
    parser.add_argument("--peers", type=Path, help="folder that --install made")
    parser.add_argument("--work", type=Path, help="folder of benchmarks/mil.py")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--seed", type=int, default=22)
    options = parser.parse_args()
    if options.install is not None:
        print(json.dumps(install(options.install, PACKAGES, LISTED, {})))
        return 0
    if options.work is None:
        parser.error("name --work, or --install")
    torch.set_num_threads(1)
    fold = divided(options.work, options.patients, options.seed)
    for name in SYSTEMS:
        print(json.dumps(ours(name, fold, options.seed)), flush=True)
        print(json.dumps(theirs(name, fold, options)), flush=True)
    return 0


def divided(work: Path, patients: int, seed: int) -> Fold:
    """Return the fold of ``benchmarks/mil.py`` for the binary task, with its test slides."""
    draws = {d.patient: d for d in draw_slides(seed, patients)}
    known, new = pools(work, seed, reference_encoder())
    slides = cohort(draws, work / f"bags-{seed}", known)
    fold = draw_folds(slides, SlideTask.BINARY, seed=seed)[0]
    _, test = tested(work, patients, seed, SlideTask.BINARY, new)
    return replace(fold, test=tuple(test))


def ours(name: str, fold: Fold, seed: int) -> dict[str, Any]:
    """Return the figures of Tandem's aggregator."""
    began = time.process_time()
    fitted = MilSystem(name=name, gated=False).fit(
        fold.train, fold.validation, SlideTask.BINARY, seed=seed, say=lambda _: None
    )
    said = fitted.predict(fold.test)[:, 1]
    return {
        "system": name,
        "by": "Tandem",
        "auc": round(auc(labels(fold.test) == 1, said), 4),
        "epochs": fitted.spec.trained["epochs"],
        "cpu_s": round(time.process_time() - began, 1),
    }


def theirs(name: str, fold: Fold, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of torchmil's, or why there are none."""
    left_out = {"system": name, "by": "torchmil"}
    if options.peers is None or not (options.peers / LISTED).is_file():
        return left_out | {"left out": "not installed (--install FOLDER, then --peers FOLDER)"}
    command = json.loads((options.peers / LISTED).read_text()).get("torchmil")
    if command is None:
        return left_out | {"left out": "it could not be installed; --install says why"}
    job = {
        "system": name,
        "seed": options.seed,
        "recipe": asdict(Recipe()),
        "labels": {
            "train": labels(fold.train).tolist(),
            "validation": labels(fold.validation).tolist(),
        },
        **{
            part: [str(slide.bag) for slide in getattr(fold, part)]
            for part in ("train", "validation", "test")
        },
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job))
        done = subprocess.run([*command, str(path)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        return left_out | {"left out": " ".join(done.stderr.strip().splitlines()[-1:])}
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    said = np.array(answer.pop("probabilities"))
    return left_out | {"auc": round(auc(labels(fold.test) == 1, said), 4), **answer}


def labels(slides: tuple[Any, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the classes of slides in the binary task, int64 (n,)."""
    return np.array([class_of(slide.label, SlideTask.BINARY) for slide in slides], dtype=np.int64)


if __name__ == "__main__":
    sys.exit(main())
