"""Training and evaluation examples, from generated tiles or from a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.generated_tiles import (
    FIRST_HELD_OUT_SEED,
    FIRST_RESERVED_SEED,
    GENERATOR_VERSION,
    NON_TUMOR_SHARE,
    SEEDS_PER_RUN,
    Tiles,
    generated_tiles,
)
from models.datasets.splits import Split
from models.datasets.store import Progress, load_dataset, read_data_set_manifest
from models.errors import DataSetError
from models.spec import MANIFEST_NAME, Task, file_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Images and labels of one task.

    `images` uint8 (N, 512, 512, 3), glass at 255; `labels` uint8 (N,), for segmentation
    (N, 128, 128); `chosen` int64 (n,), the rows in use; `copies` the stem of the files that keep
    smaller copies of the images.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    chosen: NDArray[np.int64]
    copies: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Examples for training (`learnt`) and for evaluation (`judged`); no patient is in both.

    `held_back` is a third set for calibration, None if the data have none. `facts` describe
    `learnt` in the weights' manifest; they are the run's identity, so that a checkpoint of other
    data is never resumed. `judged_on` describes `judged` in words.
    """

    learnt: Examples
    judged: Examples
    held_back: Examples | None
    facts: dict[str, Any]
    judged_on: str


def generated_material(
    task: Task,
    cache: Path,
    *,
    seed: int,
    count: int,
    held_out: int,
    progress: Progress,
    stained_stroma: int = 0,
    rough_share: float = 0.0,
) -> Material:
    """Generate `count` tiles of a seed for training and `held_out` others for evaluation.

    Training also uses `stained_stroma` tiles of tumor in stained stroma, and draws the share
    `rough_share` (0-1) of all tiles irregularly; evaluation does neither.

    Raises
    ------
    DataSetError
        If `seed` would reach held-out tiles.
    """
    first = seed * SEEDS_PER_RUN
    learning = count + stained_stroma
    if not 0 <= first <= FIRST_RESERVED_SEED - learning:
        raise DataSetError(
            f"seed {seed}: training draws tiles {SEEDS_PER_RUN} x seed onwards, and those from "
            f"{FIRST_RESERVED_SEED} on are held out. Take a seed below "
            f"{FIRST_RESERVED_SEED // SEEDS_PER_RUN}."
        )
    learnt = generated_tiles(
        cache,
        first_seed=first,
        count=count,
        stained_stroma=stained_stroma,
        rough_share=rough_share,
        progress=progress,
    )
    judged = generated_tiles(
        cache, first_seed=FIRST_HELD_OUT_SEED, count=held_out, progress=progress
    )
    held_back = generated_tiles(
        cache, first_seed=FIRST_RESERVED_SEED, count=held_out, progress=progress
    )
    return Material(
        learnt=_of_task(task, learnt, learning=True),
        judged=judged_tiles(task, judged),
        held_back=judged_tiles(task, held_back),
        facts={
            "data": f"generated tiles, generator version {GENERATOR_VERSION}",
            "tiles": learning,
            "stained_stroma_tiles": stained_stroma,
            "rough_share": rough_share,
        },
        judged_on=f"synthetic, {held_out} held-out tiles",
    )


def judged_tiles(task: Task, tiles: Tiles) -> Examples:
    """Generated tiles for the evaluation of a task: tumor tiles only for tasks on IHC."""
    return _of_task(task, tiles, learning=False)


def data_set_material(task: Task, folder: Path, cache: Path, *, progress: Progress) -> Material:
    """Load a data set: train for training, test for evaluation, validation held back.

    Raises
    ------
    DataSetError
        If the data set is damaged, is of another task, or has no test split.
    """
    manifest = read_data_set_manifest(folder)
    if manifest.task is not task:
        raise DataSetError(f"{folder}: a data set for {manifest.task}, not for {task}")
    for needed in ("train", "test"):
        if needed not in manifest.counts:
            raise DataSetError(
                f"{folder}: no split {needed!r}. Training needs train and test; build the data set "
                "with other --splits."
            )

    def examples(split: Split) -> Examples:
        data = load_dataset(folder, split, cache, progress)
        return Examples(
            images=data.images,
            labels=data.labels,
            chosen=np.arange(len(data)),
            copies=cache / f"{data.sha256[:16]}-{split}" / "images",
        )

    sha256 = file_sha256(folder / MANIFEST_NAME)
    kind = "synthetic" if manifest.source["kind"] == "generated" else "the data set's own"
    test = manifest.counts["test"]
    return Material(
        learnt=examples("train"),
        judged=examples("test"),
        held_back=examples("validation") if "validation" in manifest.counts else None,
        facts={
            "data": f"data set {sha256[:12]}",
            "tiles": manifest.counts["train"].tiles,
            "data_set": {
                "sha256": sha256,
                "source": manifest.source,
                "counts": manifest.model_dump(mode="json")["counts"],
            },
        },
        judged_on=f"{kind} test split, {test.tiles} tiles of {test.patients} patients",
    )


def _of_task(task: Task, tiles: Tiles, *, learning: bool) -> Examples:
    if task is Task.TUMOR:
        return Examples(
            images=tiles.he,
            labels=tiles.tumor,
            chosen=np.arange(len(tiles)),
            copies=tiles.folder / "he",
        )
    # L and M answer on what C calls tumor: tumor tiles, and some tiles from their surroundings.
    chosen = np.flatnonzero(tiles.tumor)
    if learning:
        other = np.flatnonzero(tiles.tumor == 0)
        chosen = np.concatenate([chosen, other[: int(len(chosen) * NON_TUMOR_SHARE)]])
    labels = tiles.intensity if task is Task.INTENSITY else tiles.classes
    return Examples(images=tiles.ihc, labels=labels, chosen=chosen, copies=tiles.folder / "ihc")
